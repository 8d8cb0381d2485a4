"""What a launch on Triton's interpreter moves and computes, and that it stays in its arguments."""

from __future__ import annotations

import gc
import inspect
import os
import weakref

# the interpreter is chosen where a kernel is decorated: those of triton itself at its import
os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

from kernelproof.conformance.interpreter import launching
from kernelproof.conformance.interpreter.formats import InterpreterLacks
from kernelproof.conformance.interpreter.memory import OutOfBounds
from kernelproof.conformance.meters.counts import Access, Counts, Launch
from kernelproof.conformance.meters.meter import Meter
from kernelproof.impls.triton.attention.flash import flash as built_in_flash
from kernelproof.impls.triton.matmul.tiled import tiled
from kernelproof.impls.triton.softmax.online import online
from kernelproof.impls.triton.softmax.safe import safe

launching.install()


def whole(tensor):
    """The storage of a tensor."""
    return torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())


def metered(launch, **inputs):
    """The counts of a function that launches kernels."""
    meter = Meter({name: whole(tensor) for name, tensor in inputs.items()})
    with launching.metered(meter):
        launch()
    return meter.finish()


def numbers(*shape, dtype=torch.float32):
    """0, 1, 2 and so on."""
    return torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def moved(counts, name):
    """Bytes read and bytes written."""
    access = counts.arguments.get(name, Access())
    return access.read, access.written


# loads and stores


@triton.jit
def copy_one(source, target):
    tl.store(target, tl.load(source))


@triton.jit
def copy(source, target, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    held = tl.load(source + place, mask=place < n)
    tl.store(target + place, held, mask=place < n)


@triton.jit
def copy_all(source, target, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + place))


@triton.jit
def root_of_product(a, b, target, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    product = tl.load(a + place, mask=place < n) * tl.load(b + place, mask=place < n)
    tl.store(target + place, tl.sqrt(product), mask=place < n)


@triton.jit
def copy_strided(source, target, first, step, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + first + place * step))


@triton.jit
def copy_tile(source, target, rows, columns, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows) & (column < columns)
    held = tl.load(source + row * stride + column, mask=inside, other=0.0)
    tl.store(target + row * columns + column, held, mask=inside)


@triton.jit
def take(source, index, target, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + tl.load(index + place)))


def test_a_scalar_load_and_store_move_one_element():
    x, y = numbers(8), torch.zeros(8)
    counts = metered(lambda: copy_one[(1,)](x[3:], y[5:]), x=x)
    assert (moved(counts, "x"), moved(counts, "target")) == ((4, 0), (0, 4))
    assert y.tolist() == [0, 0, 0, 0, 0, 3, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_a_block_moves_all_its_bytes(dtype):
    x, y = numbers(64, dtype=dtype), torch.zeros(64, dtype=dtype)
    counts = metered(lambda: copy_all[(1,)](x, y, 64), x=x)
    size = 64 * x.element_size()
    assert counts.arguments["x"] == Access(size, 0, size, size // 32)
    assert counts.arguments["target"] == Access(0, size, 0, size // 32)
    assert counts.traffic == 2 * size and torch.equal(x, y)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 100, 128])
def test_masked_lanes_move_nothing(n):
    x, y = numbers(n), torch.zeros(n)
    counts = metered(lambda: copy[(2,)](x, y, n, 64), x=x)
    assert (moved(counts, "x"), moved(counts, "target")) == ((4 * n, 0), (0, 4 * n))
    assert counts.access("x").footprint == 4 * n and torch.equal(x, y)


def test_a_product_and_its_root_fused_move_three_numbers_per_element():
    """As two operators they move five: test_operator_meter.py."""
    a, b, root = noise(70).abs(), noise(70).abs(), torch.zeros(70)
    counts = metered(lambda: root_of_product[(2,)](a, b, root, 70, 64), a=a, b=b)
    assert [moved(counts, name) for name in "ab"] == [(280, 0), (280, 0)]
    assert moved(counts, "target") == (0, 280)
    assert counts.traffic == 3 * 4 * 70
    torch.testing.assert_close(root, torch.sqrt(a * b))


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (13, 16), (16, 9), (5, 7), (1, 1)])
def test_a_tile_with_ragged_edges_moves_what_is_inside(rows, columns):
    x, y = numbers(20, 24), torch.zeros(rows, columns)
    counts = metered(lambda: copy_tile[(1,)](x, y, rows, columns, 24, 16, 16), x=x)
    size = 4 * rows * columns
    assert (moved(counts, "x"), moved(counts, "target")) == ((size, 0), (0, size))
    assert counts.access("x").footprint == size and torch.equal(y, x[:rows, :columns])


def test_strided_lanes_read_their_own_bytes_only():
    x, y = numbers(128), torch.zeros(16)
    counts = metered(lambda: copy_strided[(1,)](x, y, 3, 7, 16), x=x)
    assert counts.arguments["x"] == Access(64, 0, 64, 14)
    assert torch.equal(y, x[3::7][:16])


def test_lanes_that_share_an_address_are_one_transfer():
    x, y, index = numbers(64), torch.zeros(16), torch.tensor([5, 60] * 8)
    counts = metered(lambda: take[(1,)](x, index, y, 16), x=x)
    assert counts.arguments["x"] == Access(2 * 4, 0, 2 * 4, 2)
    assert moved(counts, "index") == (16 * 8, 0) and torch.equal(y, x[index])


def test_an_input_read_twice_has_one_footprint():
    x, y = numbers(64), torch.zeros(64)
    counts = metered(lambda: [copy_all[(1,)](x, y, 64) for _ in range(3)], x=x)
    assert counts.arguments["x"] == Access(3 * 256, 0, 256, 3 * 8)


def test_an_expanded_input_is_read_once_by_a_tile():
    x, y = numbers(16).expand(8, 16), torch.zeros(8, 16)
    counts = metered(lambda: copy_tile[(1,)](x, y, 8, 16, 0, 8, 16), x=x)
    assert counts.arguments["x"] == Access(64, 0, 64, 2)
    assert torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_contiguous_tiles_fill_their_sectors(dtype):
    x, y = numbers(32, 32, dtype=dtype), torch.zeros(32, 32, dtype=dtype)
    counts = metered(lambda: copy_tile[(1,)](x, y, 32, 32, 32, 32, 32), x=x)
    assert counts.access("x").sectors == 32 * 32 * x.element_size() // 32


@pytest.mark.parametrize(
    ("step", "sectors"), [(0, 1), (1, 2), (2, 4), (8, 16), (16, 32), (999, 32)]
)
def test_lanes_far_apart_touch_a_sector_each(step, sectors):
    x = numbers(32 * 1000, dtype=torch.float16)
    y = torch.zeros(32, dtype=torch.float16)
    counts = metered(lambda: copy_strided[(1,)](x, y, 0, step, 32), x=x)
    assert counts.access("x").sectors == sectors


@pytest.mark.parametrize(("places", "apart"), [(64, 1), (2048, 1), (1 << 20, 1), (9, 1 << 16)])
def test_sectors_are_told_apart_in_any_order_and_at_any_distance(places, apart):
    index = torch.randint(places, (64,), generator=torch.Generator().manual_seed(0)) * apart
    x, y = torch.zeros(1 << 20, dtype=torch.uint8), torch.zeros(64, dtype=torch.uint8)
    counts = metered(lambda: take[(1,)](x, index, y, 64), x=x)
    assert counts.access("x").sectors == len(((x.data_ptr() + index) // 32).unique())


def test_a_masked_lane_without_other_holds_no_zero():
    @triton.jit
    def kernel(source, target):
        place = tl.arange(0, 4)
        tl.store(target + place, tl.load(source + place, mask=place < 2))

    y, z = torch.zeros(4), torch.zeros(4, dtype=torch.int32)
    kernel[(1,)](numbers(2), y)
    kernel[(1,)](numbers(2, dtype=torch.int32), z)
    assert y[2:].isnan().all() and (z[2:] == 2**31 - 1).all()


# tensor descriptors


@triton.jit
def copy_described(source, target, row, column):
    target.store([row, column], source.load([row, column]))


@triton.jit
def copy_described_here(source, target, rows, columns, row, column):
    here = tl.make_tensor_descriptor(source, [rows, columns], [columns, 1], [16, 16])
    there = tl.make_tensor_descriptor(target, [rows, columns], [columns, 1], [16, 16])
    there.store([row, column], here.load([row, column]))


@triton.jit
def scatter_gathered(source, target, rows, ROWS: tl.constexpr):
    index = tl.load(rows + tl.arange(0, ROWS))
    target.scatter(source.gather(index, 4), index, 4)


INSIDE = pytest.mark.parametrize(
    ("row", "column", "inside"), [(0, 0, 256), (8, 0, 192), (16, 16, 16), (0, -4, 192), (32, 0, 0)]
)


@INSIDE
def test_a_host_descriptor_moves_what_is_in_range(row, column, inside):
    x, y = numbers(20, 20), torch.zeros(20, 20)
    source, target = (TensorDescriptor.from_tensor(t, [16, 16]) for t in (x, y))
    counts = metered(lambda: copy_described[(1,)](source, target, row, column), x=x)
    assert moved(counts, "x") == (4 * inside, 0) and moved(counts, "target") == (0, 4 * inside)
    assert counts.access("x").footprint == 4 * inside
    there = (slice(row, row + 16), slice(max(column, 0), column + 16))
    assert torch.equal(y[there], x[there])


@INSIDE
def test_a_descriptor_made_by_the_kernel_moves_what_is_in_range(row, column, inside):
    x, y = numbers(20, 20), torch.zeros(20, 20)
    counts = metered(lambda: copy_described_here[(1,)](x, y, 20, 20, row, column), x=x)
    assert moved(counts, "x") == (4 * inside, 0) and moved(counts, "target") == (0, 4 * inside)


def test_rows_gathered_and_scattered_by_a_descriptor_move_where_they_exist():
    x, y = numbers(10, 32), torch.zeros(10, 32)
    rows = torch.tensor([9, 0, 3, 3, 10, 99, 1, 2], dtype=torch.int32)
    source, target = (TensorDescriptor.from_tensor(t, [1, 16]) for t in (x, y))
    counts = metered(lambda: scatter_gathered[(1,)](source, target, rows, 8), x=x)
    assert counts.arguments["x"] == Access(6 * 64, 0, 5 * 64, 6 * 3)
    assert moved(counts, "target") == (0, 6 * 64)
    there = ([0, 1, 2, 3, 9], slice(4, 20))
    assert torch.equal(y[there], x[there]) and y.count_nonzero() == x[there].count_nonzero()


def test_a_descriptor_whose_shape_exceeds_its_tensor_is_caught():
    with pytest.raises(OutOfBounds, match=r"loads from source\[200\], but .* 0 to 199 "):
        copy_described_here[(1,)](numbers(10, 20), torch.zeros(20, 20), 20, 20, 0, 0)


def test_a_descriptor_of_a_view_is_bounded_by_its_storage():
    x, y = numbers(40, 16), torch.zeros(16, 16)
    source = TensorDescriptor(x[32:], [16, 16], [16, 1], [16, 16])
    target = TensorDescriptor.from_tensor(y, [16, 16])
    with pytest.raises(OutOfBounds, match=r"source\[128\], but .* elements -512 to 127 "):
        copy_described[(1,)](source, target, 0, 0)


def test_reducing_into_a_descriptor_is_something_the_interpreter_lacks():
    @triton.jit
    def kernel(target):
        target.atomic_add([0, 0], tl.full((16, 16), 1.0, tl.float32))

    with pytest.raises(InterpreterLacks, match="descriptor_reduce"):
        kernel[(1,)](TensorDescriptor.from_tensor(torch.zeros(16, 16), [16, 16]))


# what moves no memory, and what moves it both ways


def test_a_gather_among_the_elements_of_a_block_moves_no_memory():
    @triton.jit
    def kernel(source, index, target):
        place = tl.arange(0, 16)
        held, where = tl.load(source + place), tl.load(index + place)
        tl.store(target + place, tl.gather(held, where, 0))

    x, index, y = numbers(16), torch.arange(15, -1, -1), torch.zeros(16)
    counts = metered(lambda: kernel[(1,)](x, index, y), x=x)
    assert moved(counts, "x") == (64, 0) and torch.equal(y, x.flip(0))


@triton.jit
def add_atomically(target, n, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.atomic_add(target + place, 1, mask=place < n)


@triton.jit
def raise_atomically(target, n, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.atomic_max(target + place, 1, mask=place < n)


@triton.jit
def swap_atomically(target, n, BLOCK: tl.constexpr):
    for place in range(n):
        tl.atomic_cas(target + place, 0, 1)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        (add_atomically, torch.float32),
        (add_atomically, torch.float16),
        (add_atomically, torch.int32),
        (raise_atomically, torch.int32),
        (swap_atomically, torch.int32),
    ],
)
@pytest.mark.parametrize("n", [0, 5, 16])
def test_an_atomic_counts_its_active_lanes_and_moves_both_ways(kernel, dtype, n):
    y = torch.zeros(16, dtype=dtype)
    counts = metered(lambda: kernel[(1,)](y, n, 16), y=y)
    size = n * y.element_size()
    assert counts.atomics == n and moved(counts, "y") == (size, size)
    assert y.tolist() == [1] * n + [0] * (16 - n)


@pytest.mark.parametrize("kernel", [add_atomically, raise_atomically, swap_atomically])
def test_an_atomic_out_of_bounds_is_caught(kernel):
    y = torch.zeros(16, dtype=torch.int32)
    with pytest.raises(OutOfBounds, match=r"loads from target\[16\]"):
        kernel[(1,)](y, 17, 32)


def test_atomics_of_bfloat16_are_something_the_interpreter_lacks():
    with pytest.raises(InterpreterLacks, match="atomics of bf16"):
        add_atomically[(1,)](torch.zeros(16, dtype=torch.bfloat16), 16, 16)


# arguments


@triton.jit
def load_block(source, BLOCK: tl.constexpr):
    return tl.load(source + tl.arange(0, BLOCK))


@triton.jit
def load_and_double(source, BLOCK: tl.constexpr):
    return load_block(source, BLOCK) * 2


@triton.jit
def double(source, target, BLOCK: tl.constexpr):
    tl.store(target + tl.arange(0, BLOCK), load_and_double(source, BLOCK))


@triton.jit
def add(left, right, target, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(left + place) + tl.load(right + place))


@triton.jit
def add_pair(sources, target, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(sources[0] + place) + tl.load(sources[1] + place))


def test_nested_functions_are_counted():
    x, y = numbers(32), torch.zeros(32)
    counts = metered(lambda: double[(1,)](x, y, 32), x=x)
    assert moved(counts, "x") == (128, 0) and counts.elementwise == 32 and torch.equal(y, 2 * x)


def test_pointers_in_a_tuple_are_arguments():
    x, y, z = numbers(32), numbers(32), torch.zeros(32)
    counts = metered(lambda: add_pair[(1,)]((x, y), z, 32), x=x)
    assert {n: moved(counts, n) for n in counts.arguments} == {
        "x": (128, 0),
        "sources[1]": (128, 0),
        "target": (0, 128),
    }


def test_an_input_counts_under_its_role_whatever_the_kernel_calls_it():
    x, y, z = numbers(32), numbers(32), torch.zeros(32)
    counts = metered(lambda: (add[(1,)](x, y, z, 32), copy_all[(1,)](x, z, 32)), query=x, key=y)
    assert {n: a.read for n, a in counts.arguments.items()} == {
        "query": 256,
        "key": 128,
        "target": 0,
    }


def test_views_of_one_input_count_under_its_role():
    x, z = numbers(3, 32), torch.zeros(32)
    counts = metered(lambda: add[(1,)](x[0], x[2], z, 32), qkv=x)
    assert counts.arguments["qkv"] == Access(256, 0, 256, 8) and torch.equal(z, x[0] + x[2])


def test_views_of_one_tensor_count_under_the_name_of_the_first():
    x = numbers(3, 32)
    counts = metered(lambda: add[(1,)](x[0], x[1], x[2], 32))
    assert {n: moved(counts, n) for n in counts.arguments} == {"left": (256, 128)}


@pytest.mark.parametrize(
    ("width", "footprint"), [(tl.int8, 8), (tl.int16, 16), (tl.int32, 32), (tl.int64, 64)]
)
def test_a_pointer_to_another_width_reads_its_own_bytes(width, footprint):
    @triton.jit
    def kernel(source, target, T: tl.constexpr):
        place = tl.arange(0, 8)
        held = tl.load(source.to(tl.pointer_type(T), bitcast=True) + place)
        tl.store(target + place, held)

    x, y = numbers(16), torch.zeros(8, dtype=torch.int64)
    counts = metered(lambda: kernel[(1,)](x, y, width), x=x)
    assert moved(counts, "x") == (footprint, 0) and counts.access("x").footprint == footprint


def test_a_tensor_reinterpreted_by_the_caller_is_an_argument():
    x, y = numbers(64, dtype=torch.int8), torch.zeros(64)
    counts = metered(lambda: copy_all[(1,)](triton.reinterpret(x, tl.float8e5), y, 64), x=x)
    assert moved(counts, "x") == (64, 0) and torch.equal(y, x.view(torch.float8_e5m2).float())


# arithmetic


@triton.jit
def multiply_tiles(source, target, N: tl.constexpr, K: tl.constexpr, T: tl.constexpr):
    n, k = tl.arange(0, N), tl.arange(0, K)
    a = tl.load(source + n[:, None] * K + k[None, :]).to(T)
    c = tl.dot(a, tl.trans(a), out_dtype=tl.float32)
    tl.store(target + n[:, None] * N + n[None, :], c)


@pytest.mark.parametrize("dtype", [tl.float32, tl.float16, tl.bfloat16])
@pytest.mark.parametrize("k", [16, 64])
def test_a_dot_counts_two_flops_per_product(dtype, k):
    x, y = noise(32, k), torch.zeros(32, 32)
    counts = metered(lambda: multiply_tiles[(1,)](x, y, 32, k, dtype), x=x)
    assert (counts.dots, counts.elementwise) == (2 * 32 * 32 * k, 0)


def test_a_batched_dot_counts_each_matrix():
    @triton.jit
    def kernel(target):
        a = tl.full((4, 16, 32), 1.0, tl.float32)
        c = tl.dot(a, tl.full((4, 32, 16), 1.0, tl.float32))
        tl.store(target, tl.max(c))

    y = torch.zeros(1)
    counts = metered(lambda: kernel[(1,)](y))
    assert counts.dots == 4 * 2 * 16 * 16 * 32 and y == 32


@pytest.mark.parametrize(("form", "packed"), [("e4m3", 1), ("e2m1", 2)])
def test_a_scaled_dot_counts_numbers_not_bytes(form, packed):
    @triton.jit
    def kernel(source, scales, target, PACKED: tl.constexpr, FORM: tl.constexpr):
        n, k = tl.arange(0, 16), tl.arange(0, 64 // PACKED)
        scale = tl.load(scales + n[:, None] * 2 + tl.arange(0, 2)[None, :])
        a = tl.load(source + n[:, None] * (64 // PACKED) + k[None, :])
        c = tl.dot_scaled(a, scale, FORM, tl.trans(a), scale, FORM)
        tl.store(target + n[:, None] * 16 + n[None, :], c)

    x = torch.zeros(16, 64 // packed, dtype=torch.uint8)
    y, scales = torch.zeros(16, 16), torch.full((16, 2), 127, dtype=torch.uint8)
    counts = metered(lambda: kernel[(1,)](x, scales, y, packed, form), x=x)
    assert counts.dots == 2 * 16 * 16 * 64 and moved(counts, "x") == (16 * 64 // packed, 0)


@triton.jit
def plus(x):
    return x + x


@triton.jit
def times_minus_over(x):
    return (x * x - 1) / 3


@triton.jit
def fused(x):
    return tl.fma(x, x, x)


@triton.jit
def compared(x):
    return tl.where((x > 1) & (x < 3), x, 0)


@triton.jit
def rooted(x):
    return tl.sqrt(tl.abs(x))


@triton.jit
def total(x):
    return tl.sum(x)


@triton.jit
def largest(x):
    return tl.max(x)


@triton.jit
def running(x):
    return tl.cumsum(x)


@triton.jit
def natural(x):
    return tl.exp(x)


@triton.jit
def binary(x):
    return tl.exp2(x)


@triton.jit
def soft(x):
    return tl.softmax(x)


@triton.jit
def refuse(x):
    tl.static_assert(False, "no")


@triton.jit
def apply(source, target, FUNCTION: tl.constexpr):
    place = tl.arange(0, 32)
    tl.store(target + place, FUNCTION(tl.load(source + place)))


@pytest.mark.parametrize(
    ("function", "elementwise", "reductions", "exps"),
    [
        (plus, 32, 0, 0),
        (times_minus_over, 96, 0, 0),
        (fused, 64, 0, 0),
        (compared, 0, 0, 0),
        (rooted, 32, 0, 0),
        (total, 0, 31, 0),
        (largest, 0, 31, 0),
        (running, 0, 31, 0),
        (natural, 0, 0, 32),
        (binary, 0, 0, 32),
        (soft, 64, 62, 32),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_operation_has_its_counter(function, elementwise, reductions, exps):
    x, y = numbers(32), torch.zeros(32)
    counts = metered(lambda: apply[(1,)](x, y, function), x=x)
    assert (counts.elementwise, counts.reductions, counts.exps) == (elementwise, reductions, exps)
    assert counts.dots == 0


@pytest.mark.parametrize("function", [plus, compared, total, largest, running])
def test_integers_count_nothing(function):
    x, y = numbers(32, dtype=torch.int32), torch.zeros(32, dtype=torch.int32)
    counts = metered(lambda: apply[(1,)](x, y, function), x=x)
    assert (counts.elementwise, counts.reductions, counts.exps, counts.dots) == (0, 0, 0, 0)


# launches


def test_a_launch_has_its_grid_and_its_constants():
    x, y = numbers(100), torch.zeros(100)
    counts = metered(lambda: copy[(2,)](x, y, 100, BLOCK=64, num_warps=8, num_stages=3))
    constants = {"BLOCK": 64, "num_warps": 8, "num_stages": 3}
    assert counts.launches == [Launch("copy", (2, 1, 1), constants)]
    assert counts.launches[0].programs == 2 and counts.constants("BLOCK") == {64}


def test_launches_add_up():
    x, y = numbers(100), torch.zeros(100)
    counts = metered(lambda: [copy[(2, 1)](x, y, 100, block) for block in (64, 128)], x=x)
    assert moved(counts, "x") == (800, 0) and moved(counts, "target") == (0, 800)
    assert len(counts.launches) == 2 and counts.constants("BLOCK") == {64, 128}


def test_counts_of_launches_survive_json():
    x, y = numbers(100), torch.zeros(100)
    counts = metered(lambda: copy[(2,)](x, y, 100, BLOCK=64, num_warps=8), x=x)
    assert Counts.from_json(counts.to_json()) == counts


def test_defaults_and_wrapped_constants_are_recorded():
    @triton.jit
    def kernel(target, A: tl.constexpr = 3, B: tl.constexpr = 4, C: tl.constexpr = None):
        tl.store(target, A + B)

    counts = metered(lambda: kernel[(1,)](torch.zeros(1), B=tl.constexpr(5)))
    assert counts.launches[0].constants == {"A": 3, "B": 5}


def test_an_empty_grid_is_a_launch_of_no_program():
    counts = metered(lambda: copy[(3, 0)](numbers(8), torch.zeros(8), 8, 8))
    assert counts.launches[0].programs == 0 and counts.traffic == 0


def test_a_grid_may_be_a_function_of_the_arguments():
    x, y = numbers(100), torch.zeros(100)
    counts = metered(
        lambda: copy[lambda meta: (triton.cdiv(meta["source"].numel(), meta["BLOCK"]),)](
            x, y, 100, BLOCK=32
        )
    )
    assert counts.launches[0].grid == (4, 1, 1) and torch.equal(x, y)


def test_a_grid_has_three_axes():
    @triton.jit
    def kernel(target):
        x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        place = (x * tl.num_programs(1) + y) * tl.num_programs(2) + z
        tl.store(target + place, place)

    y = torch.zeros(24)
    counts = metered(lambda: kernel[(2, 3, 4)](y))
    assert counts.launches[0].programs == 24 and torch.equal(y, numbers(24))


def test_an_autotuned_kernel_records_the_constants_that_ran():
    kernel = triton.autotune(
        [triton.Config({"BLOCK": 32}, num_warps=2), triton.Config({"BLOCK": 64})], key=["n"]
    )(copy)
    x, y = numbers(100), torch.zeros(100)
    counts = metered(lambda: kernel[lambda meta: (triton.cdiv(100, meta["BLOCK"]),)](x, y, 100))
    (launch,) = counts.launches
    assert launch.grid == (4, 1, 1) and torch.equal(x, y)
    assert launch.constants["BLOCK"] == 32 and launch.constants["num_warps"] == 2


def test_a_kernel_with_heuristics_records_the_constants_that_ran():
    kernel = triton.heuristics({"BLOCK": lambda given: triton.next_power_of_2(given["n"])})(copy)
    counts = metered(lambda: kernel[(1,)](numbers(100), torch.zeros(100), 100))
    assert counts.constants("BLOCK") == {128}


def test_a_hook_may_set_the_block_of_a_descriptor():
    def hook(arguments):
        arguments["source"].block_shape = arguments["target"].block_shape = [8, 16]

    kernel = triton.autotune([triton.Config({}, pre_hook=hook)], key=[])(copy_described)
    x, y = numbers(16, 16), torch.zeros(16, 16)
    source, target = (TensorDescriptor.from_tensor(t, [1, 4]) for t in (x, y))
    assert moved(metered(lambda: kernel[(1,)](source, target, 0, 0), x=x), "x") == (512, 0)


def test_hooks_of_a_kernel_run_before_it():
    @triton.jit
    def kernel(target):
        tl.store(target, tl.load(target) + 1)

    y = torch.zeros(1)
    kernel.add_pre_run_hook(lambda target: target.fill_(5))
    kernel[(1,)](y)
    assert y == 6


def test_a_launch_outside_a_meter_counts_nowhere():
    meter = Meter({})
    with launching.metered(meter):
        pass
    copy_all[(1,)](numbers(8), torch.zeros(8), 8)
    assert meter.finish() == Counts()


def test_a_launch_keeps_no_argument_alive():
    x = numbers(8)
    gone = weakref.ref(x.untyped_storage())
    copy_all[(1,)](x, torch.zeros(8), 8)
    del x
    gc.collect()
    assert gone() is None


# bounds


def strided(x, first, step, block=8):
    return lambda: copy_strided[(1,)](x, torch.zeros(block), first, step, block)


@pytest.mark.parametrize(
    ("first", "step", "index"),
    [
        (3, 1, "10"),  # past the end, among lanes that are inside
        (10, 0, "10"),  # just past the end
        (-1, 1, "-1"),  # before the start
        (0, -1, "-1"),  # a negative step
        (1000, 1, "1000"),
        (2**40, 1, "1099511627776"),
        (-(2**60), 1, "-1152921504606846976"),
        (0, 2**30, "1073741824"),
    ],
)
def test_a_load_out_of_bounds_is_caught(first, step, index):
    with pytest.raises(OutOfBounds, match=rf"^loads from source\[{index}\], but .* 0 to 9 \("):
        strided(numbers(10), first, step)()


def test_a_store_out_of_bounds_is_caught_before_it_is_made():
    memory = np.full(64, 7, np.float32)
    y = torch.from_numpy(memory[16:32])
    with pytest.raises(OutOfBounds, match=r"^stores to target\[16\], but its storage holds .* 15 "):
        copy_all[(1,)](numbers(32), y, 32)
    assert (memory == 7).all()


def test_masked_lanes_may_be_out_of_bounds():
    x, y = numbers(5), torch.zeros(5)
    copy[(1,)](x, y, 5, 1024)
    assert torch.equal(x, y)


def test_the_message_names_line_argument_index_and_program():
    x, y = numbers(100), torch.zeros(128)
    line = inspect.getsourcelines(copy.fn)[1] + 3
    with pytest.raises(OutOfBounds) as caught:
        copy[(2,)](x, y, 128, 64)
    assert str(caught.value) == (
        "loads from source[100], but its storage holds elements 0 to 99 "
        f"(test_interpreter_memory.py, line {line}, program (1, 0, 0))"
    )


def test_the_line_of_a_nested_function_is_named():
    line = inspect.getsourcelines(load_block.fn)[1] + 2
    with pytest.raises(OutOfBounds, match=rf"^loads from source\[8\], .*memory.py, line {line}, "):
        double[(1,)](numbers(8), torch.zeros(16), 16)


def test_an_index_counts_from_the_argument_that_was_passed():
    x = numbers(64)
    with pytest.raises(OutOfBounds, match=r"source\[44\], but its storage holds .* -20 to 43 "):
        strided(x[20:24], 40, 1)()


def test_an_access_beside_a_view_and_inside_its_storage_is_let_through():
    x, y = numbers(64), torch.zeros(8)
    copy_strided[(1,)](x[20:24], y, -3, 1, 8)
    assert torch.equal(y, x[17:25])


def test_an_offset_that_overflowed_32_bits_is_caught():
    @triton.jit
    def kernel(source, target, stride):
        tl.store(target, tl.load(source + tl.program_id(0) * stride))

    x, y = torch.empty(2**31 + 16, dtype=torch.int8), torch.zeros(1, dtype=torch.int8)
    with pytest.raises(OutOfBounds, match=r"source\[-2147483648\].*program \(2, 0, 0\)"):
        kernel[(3,)](x, y, 2**30)


def neighbours():
    """Two tensors that lie side by side in memory, in storages of their own."""
    memory = np.zeros(64, np.float32)
    return torch.from_numpy(memory[:32]), torch.from_numpy(memory[32:])


def test_a_pointer_that_runs_into_the_next_argument_is_caught():
    x, y = neighbours()
    with pytest.raises(OutOfBounds, match=r"loads from source\[32\]"):
        copy_strided[(1,)](x, y, 32, 1, 8)
    with pytest.raises(OutOfBounds, match=r"stores to target\[32\]"):
        copy_all[(1,)](numbers(64), x, 64)


@pytest.mark.parametrize("width", [tl.int8, tl.int64])
def test_a_pointer_to_another_width_stays_in_its_argument(width):
    @triton.jit
    def kernel(source, right, T: tl.constexpr, first):
        tl.load(source.to(tl.pointer_type(T), bitcast=True) + first)

    x, y = neighbours()
    size = width.primitive_bitwidth // 8
    kernel[(1,)](x, y, width, 128 // size - 1)
    with pytest.raises(OutOfBounds, match=r"loads from source\[32\]"):
        kernel[(1,)](x, y, width, 128 // size)


def test_the_same_memory_may_come_as_two_storages():
    memory, z = np.arange(32, dtype=np.float32), torch.zeros(32)
    add_pair[(1,)]((torch.from_numpy(memory[:8]), torch.from_numpy(memory)), z, 32)
    assert z[-1] == 62


@triton.jit
def choose(left, right):
    place = tl.arange(0, 16)
    return tl.where(place < 8, left + place, right + place)


@triton.jit
def concatenate(left, right):
    return tl.cat(left + tl.arange(0, 8), right + 8 + tl.arange(0, 8), can_reorder=True)


@triton.jit
def interleave(left, right):
    pairs = tl.join(left + tl.arange(0, 8), right + 8 + tl.arange(0, 8))
    return tl.reshape(tl.trans(pairs), 16)


@pytest.mark.filterwarnings("ignore:tl.cat.can_reorder=True. is deprecated")
@pytest.mark.parametrize("function", [choose, concatenate, interleave])
def test_a_pointer_made_of_two_arguments_may_go_to_either(function):
    @triton.jit
    def kernel(left, right, target, FUNCTION: tl.constexpr):
        tl.store(target + tl.arange(0, 16), tl.load(FUNCTION(left, right)))

    x, y, z = numbers(16), -numbers(16), torch.zeros(16)
    counts = metered(lambda: kernel[(1,)](x, y, z, function), x=x, y=y)
    assert torch.equal(z, torch.cat([x[:8], y[8:]]))
    assert moved(counts, "x") == moved(counts, "y") == (32, 0)


@triton.jit
def load_address(address, target):
    tl.store(target, tl.load(address.to(tl.int64).to(tl.pointer_type(tl.float32))))


@triton.jit
def load_addresses(table, target):
    for each in range(2):
        pointer = tl.load(table + each).to(tl.pointer_type(tl.float32))
        tl.store(target + each, tl.load(pointer))


@pytest.mark.parametrize("address", [0, 8, 2**33, 2**47, 2**63 - 8, -8])
def test_a_wild_pointer_is_caught(address):
    message = f"^loads from address {address % 2**64:#x}, which lies in no tensor of the launch "
    with pytest.raises(OutOfBounds, match=message):
        load_address[(1,)](address, torch.zeros(4))


@pytest.mark.parametrize("beyond", [-4, 14, 16, 20])
def test_an_address_at_the_edge_of_a_tensor_is_caught(beyond):
    y = torch.zeros(4)
    load_address[(1,)](y.data_ptr() + 12, y)
    with pytest.raises(OutOfBounds, match=r"which lies in no tensor"):
        load_address[(1,)](y.data_ptr() + beyond, y)


@pytest.mark.parametrize("address", [0, 8, 2**47, 2**64 - 8])
def test_a_kernel_without_tensors_may_load_nothing(address):
    @triton.jit
    def kernel(address):
        tl.load(address.to(tl.int64).to(tl.pointer_type(tl.float32)))

    message = f"^loads from address {address:#x}, which lies in no tensor of the launch "
    with pytest.raises(OutOfBounds, match=message):
        kernel[(1,)](address)


def test_an_address_loaded_from_memory_is_counted_where_it_points():
    x, y, z = numbers(4), numbers(4), torch.zeros(2)
    table = torch.tensor([x[2:].data_ptr(), y[3:].data_ptr()])
    with pytest.raises(OutOfBounds, match=r"^loads from address 0x[0-9a-f]+, which lies in no "):
        load_addresses[(1,)](table, z)

    @triton.jit
    def kernel(table, target, x, y):
        load_addresses(table, target)

    counts = metered(lambda: kernel[(1,)](table, z, x, y), x=x, y=y)
    assert z.tolist() == [2, 3] and moved(counts, "x") == moved(counts, "y") == (4, 0)


def test_an_empty_tensor_has_no_element():
    with pytest.raises(OutOfBounds, match=r"loads from source\[0\], but its storage is empty \("):
        copy_one[(1,)](torch.zeros(0), torch.zeros(1))


def test_an_error_of_the_kernel_is_raised_as_it_is():
    with pytest.raises(AssertionError, match=r"^no$"):
        apply[(1,)](numbers(32), torch.zeros(32), refuse)


# provenance


def test_what_numpy_wrote_is_not_accounted_for():
    x, y = numbers(8), torch.from_numpy(np.ones(8, np.float32))
    counts = metered(lambda: add[(1,)](x, y, torch.zeros(8), 8), x=x)
    assert counts.unseen == ["a kernel read right, which nothing metered has written"]


def test_what_an_earlier_launch_wrote_is_accounted_for():
    x, y, z = numbers(8), torch.zeros(8), torch.zeros(8)
    counts = metered(lambda: (copy_all[(1,)](x, y, 8), copy_all[(1,)](y, z, 8)), x=x)
    assert counts.unseen == [] and torch.equal(x, z)


def test_what_the_same_launch_wrote_is_accounted_for():
    @triton.jit
    def kernel(target):
        tl.store(target, 1.0)
        tl.store(target + 1, tl.load(target))

    assert metered(lambda: kernel[(1,)](torch.zeros(2))).unseen == []


# torch, and the language


class Operators(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **kwargs or {})


def test_a_launch_shows_no_operators_of_its_own():
    x, y = numbers(16, 16), torch.zeros(16, 16)
    source, target = (TensorDescriptor.from_tensor(t, [16, 16]) for t in (x, y))
    with Operators() as operators:
        copy_all[(1,)](x, y, 256)
        copy_described[(1,)](source, target, 0, 0)
        assert operators.seen == []
        copy_all[lambda meta: (int(meta["source"].sum() > 0),)](x, y, 256)
    assert "aten.sum.default" in operators.seen


def language():
    return {
        (owner.__name__, name): getattr(owner, name)
        for owner in (tl, tl.core, tl.math, tl.tensor, tl.dtype, tl.core.tensor_descriptor_base)
        for name in dir(owner)
        if not name.startswith("__") or name in ("__add__", "__index__", "__bool__", "__repr__")
    }


def outside():
    tl.load(3)


def test_the_language_is_restored_after_a_launch():
    before = language()
    double[(2,)](numbers(8), torch.zeros(8), 8)
    assert language() == before
    with pytest.raises(ValueError, match="outside of JIT"):
        outside()


def test_the_language_is_restored_after_an_error():
    before = language()
    with pytest.raises(OutOfBounds):
        double[(2,)](numbers(4), torch.zeros(8), 8)
    assert language() == before
    with pytest.raises(ValueError, match="outside of JIT"):
        outside()


def test_the_language_is_patched_once_per_launch(monkeypatch):
    patched = []
    original = interpreter._patch_lang_core
    monkeypatch.setattr(
        interpreter, "_patch_lang_core", lambda *args: (patched.append(1), original(*args))
    )
    copy_all[(1,)](numbers(8), torch.zeros(8), 8)
    once = len(patched)
    double[(5,)](numbers(8), torch.zeros(8), 8)
    assert len(patched) == 2 * once


# kernels as people write them


@triton.jit
def softmax_rows(target, source, stride, rows, columns, BLOCK: tl.constexpr):
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=2):
        place = tl.arange(0, BLOCK)
        held = tl.load(source + row * stride + place, mask=place < columns, other=-float("inf"))
        top = tl.exp(held - tl.max(held, axis=0))
        tl.store(target + row * stride + place, top / tl.sum(top, axis=0), mask=place < columns)


def test_a_persistent_softmax_reads_each_row_once():
    x = noise(37, 100)
    y = torch.empty_like(x)
    counts = metered(lambda: softmax_rows[(4,)](y, x, x.stride(0), *x.shape, BLOCK=128), x=x)
    torch.testing.assert_close(y, torch.softmax(x, 1))
    size = 4 * 37 * 100
    assert moved(counts, "x") == (size, 0) and moved(counts, "target") == (0, size)
    assert counts.exps == 37 * 128 and counts.access("x").footprint == size


@triton.jit
def layer_norm(x, y, w, b, mean, rstd, stride, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    y += row * stride
    x += row * stride
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, n, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        total += tl.load(x + cols, mask=cols < n, other=0.0).to(tl.float32)
    centre = tl.sum(total, axis=0) / n
    spread = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, n, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        held = tl.load(x + cols, mask=cols < n, other=0.0).to(tl.float32)
        held = tl.where(cols < n, held - centre, 0.0)
        spread += held * held
    scale = 1 / tl.sqrt(tl.sum(spread, axis=0) / n + eps)
    tl.store(mean + row, centre)
    tl.store(rstd + row, scale)
    for off in range(0, n, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        mask = cols < n
        weight, bias = tl.load(w + cols, mask=mask), tl.load(b + cols, mask=mask)
        held = tl.load(x + cols, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + cols, (held - centre) * scale * weight + bias, mask=mask)


def test_a_layer_norm_of_three_passes_reads_its_input_three_times():
    x, w, b = noise(6, 200).half(), noise(200).half(), noise(200).half()
    y, mean, rstd = torch.empty_like(x), torch.empty(6), torch.empty(6)
    counts = metered(
        lambda: layer_norm[(6,)](x, y, w, b, mean, rstd, x.stride(0), 200, 1e-5, BLOCK=64),
        x=x,
        weight=w,
    )
    expected = torch.nn.functional.layer_norm(x.float(), (200,), w.float(), b.float())
    torch.testing.assert_close(y.float(), expected, atol=3e-3, rtol=3e-3)
    assert moved(counts, "x") == (3 * 2400, 0) and counts.access("x").footprint == 2400
    assert moved(counts, "weight") == (6 * 400, 0) and counts.access("weight").footprint == 400


@triton.jit
def matmul(a, b, c, M, N, K, sam, sak, sbk, sbn, scm, scn, BM: tl.constexpr, BN: tl.constexpr,
           BK: tl.constexpr, GROUP: tl.constexpr):  # fmt: skip
    pid = tl.program_id(axis=0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    in_group = GROUP * columns
    first = (pid // in_group) * GROUP
    size = min(rows - first, GROUP)
    m = first + ((pid % in_group) % size)
    n = (pid % in_group) // size
    tl.assume(m >= 0)
    om, on = (m * BM + tl.arange(0, BM)) % M, (n * BN + tl.arange(0, BN)) % N
    ok = tl.arange(0, BK)
    pa = a + (om[:, None] * sam + ok[None, :] * sak)
    pb = b + (ok[:, None] * sbk + on[None, :] * sbn)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(tl.cdiv(K, BK)):
        ta = tl.load(pa, mask=ok[None, :] < K - k * BK, other=0.0)
        tb = tl.load(pb, mask=ok[:, None] < K - k * BK, other=0.0)
        acc = tl.dot(ta, tb, acc)
        pa += BK * sak
        pb += BK * sbk
    om, on = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN)
    pc = c + scm * om[:, None] + scn * on[None, :]
    tl.store(pc, acc.to(tl.float16), mask=(om[:, None] < M) & (on[None, :] < N))


def test_a_matmul_in_groups_reads_each_operand_once_per_tile_of_the_other():
    a, b = noise(70, 50).half(), noise(50, 90).half()
    c = torch.empty(70, 90, dtype=torch.float16)
    strides = (*a.stride(), *b.stride(), *c.stride())
    counts = metered(
        lambda: matmul[lambda meta: (triton.cdiv(70, meta["BM"]) * triton.cdiv(90, meta["BN"]),)](
            a, b, c, 70, 90, 50, *strides, BM=32, BN=32, BK=16, GROUP=2
        ),
        a=a,
        b=b,
    )
    torch.testing.assert_close(c.float(), a.float() @ b.float(), atol=2e-2, rtol=2e-3)
    assert counts.dots == 2 * 96 * 96 * 64 and counts.launches[0].programs == 9
    assert moved(counts, "a") == (2 * 9 * 32 * 50, 0) and moved(counts, "c") == (0, 2 * 70 * 90)
    assert (counts.access("a").footprint, counts.access("b").footprint) == (7000, 9000)


@triton.jit
def attend(q, m, norm, acc, keys, values, first, last, head, n, BN: tl.constexpr, C: tl.constexpr):
    for start in tl.range(first, last, BN):
        k, v = keys.load([head, start, 0]), values.load([head, start, 0])
        scores = tl.dot(q, tl.trans(k.reshape(BN, k.shape[2])))
        scores += tl.where(start + tl.arange(0, BN)[None, :] < n, 0.0, -1.0e6)
        if C:
            top = tl.maximum(m, tl.max(scores, 1))
        else:
            top = m
        p = tl.math.exp2(scores - top[:, None])
        fade = tl.math.exp2(m - top)
        norm = norm * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v.reshape(BN, v.shape[2]), acc * fade[:, None])
        m = top
    return m, norm, acc


@triton.jit
def flash(queries, keys, values, target, n, scale, BM: tl.constexpr, BN: tl.constexpr,
          D: tl.constexpr):  # fmt: skip
    head, row = tl.program_id(1), tl.program_id(0) * BM
    held = queries.load([head, row, 0]).reshape(BM, D)
    q = (held * (scale * 1.44269504)).to(held.dtype)
    m = tl.zeros([BM], dtype=tl.float32) - float("inf")
    norm = tl.zeros([BM], dtype=tl.float32) + 0.0
    acc = tl.zeros([BM, D], dtype=tl.float32)
    m, norm, acc = attend(q, m, norm, acc, keys, values, 0, n, head, n, BN, True)
    target.store([head, row, 0], (acc / norm[:, None]).to(held.dtype).reshape(1, BM, D))


def test_flash_attention_on_descriptors_reads_keys_once_per_tile_of_queries():
    q, k, v = (noise(2, 50, 32).half() * f for f in (1, 0.5, 2))
    o = torch.empty_like(q)
    tensors = [TensorDescriptor.from_tensor(t, [1, 16, 32]) for t in (q, k, v, o)]
    counts = metered(lambda: flash[(4, 2)](*tensors, 50, 32**-0.5, 16, 16, 32), q=q, k=k, v=v)
    expected = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(o.float(), expected, atol=1e-2, rtol=1e-2)
    size = 2 * 2 * 50 * 32
    assert moved(counts, "q") == (size, 0) and moved(counts, "target") == (0, size)
    assert moved(counts, "k") == moved(counts, "v") == (4 * size, 0)
    assert counts.access("k").footprint == size and counts.access("k").sectors == 4 * size // 32
    assert counts.dots == 4 * 2 * 64 * 64 * 32 and counts.exps == 2 * 4 * 4 * (16 * 16 + 16)


def test_the_kernels_step_by_64_bits_where_a_stride_times_a_tile_exceeds_31():
    stride = 40_000_000
    storage = torch.empty(128 * stride, dtype=torch.float16)  # only pages that are touched exist
    b = storage.as_strided((128, 16), (stride, 1))
    for row in b:
        row.fill_(0.5)
    a = torch.ones(16, 128, dtype=torch.float16)
    assert tiled(a, b).eq(64).all()
    keys = storage.as_strided((1, 1, 128, 16), (0, 0, stride, 1))
    out, _ = built_in_flash(torch.ones(1, 1, 16, 16, dtype=torch.float16), keys, keys)
    assert out.eq(0.5).all()


@pytest.mark.parametrize("softmax", [safe, online])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(2, 3, dtype=torch.float64),
            "softmax in Triton takes float32, float16 or bfloat16, and got torch.float64: "
            "convert x",
        ),
        (torch.zeros(2, 3, 4), "softmax in Triton takes x: r n, and got 3 axes: reshape x"),
    ],
)
def test_a_softmax_kernel_refuses_what_it_is_not_made_for(softmax, x, message):
    with pytest.raises(ValueError) as raised:
        softmax(x)
    assert str(raised.value) == message
