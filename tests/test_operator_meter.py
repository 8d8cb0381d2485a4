"""What the meter counts of torch operators: bytes, FLOPs, footprints, and what it cannot see."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from kernelproof.conformance.meters.counts import Access
from kernelproof.conformance.meters.meter import Meter
from kernelproof.conformance.meters.operators import OperatorMeter
from kernelproof.conformance.running import Poison

MODES = pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])


def noise(*shape, **options):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), **options)


def each(name, **values):
    """One test per value, called as the value is."""
    return pytest.mark.parametrize(name, list(values.values()), ids=list(values))


def meter(function, *inputs):
    """The counts of one call; its inputs are called x, y and z."""
    meter = Meter({name: tensor.view(-1) for name, tensor in zip("xyz", inputs, strict=False)})
    with OperatorMeter(meter):
        function(*inputs)
    return meter.finish()


def moved(counts, role):
    access = counts.access(role)
    return access.read, access.written


# Bytes -------------------------------------------------------------------------------------------


def test_a_product_reads_its_factors_once_and_writes_its_result():
    counts = meter(torch.mm, noise(4, 6), noise(6, 5))
    assert counts.arguments["x"] == Access(read=96, footprint=96)
    assert counts.arguments["y"] == Access(read=120, footprint=120)
    assert counts.arguments["*"] == Access(written=80)
    assert counts.operators == {"mm": 1}
    assert counts.traffic == 296
    assert not counts.opaque + counts.unpriced + counts.unseen


def views(x):
    x.T.T.reshape(4, 6)[1:].unsqueeze(0).expand(3, 3, 6).detach()
    torch.split(x.view(-1), 5)
    x.unbind()
    x.data.transpose_(0, 1)
    return torch.ops.aten._unsafe_view(x, [24])


@MODES
def test_views_are_free(mode):
    with mode():
        counts = meter(views, noise(4, 6))
    assert counts.traffic == 0
    assert counts.operators == {}


def test_an_expanded_input_is_read_once():
    counts = meter(lambda x: x.expand(5, 7).exp(), noise(7))
    assert moved(counts, "x") == (28, 0)
    assert moved(counts, "*") == (0, 140)


def test_a_product_and_its_root_move_five_numbers_per_element():
    """a and b are read and a b is written, then read; the root is written. Fused: three."""
    counts = meter(lambda a, b: torch.sqrt(a * b), noise(70).abs(), noise(70).abs())
    assert [moved(counts, role) for role in "xy"] == [(280, 0), (280, 0)]
    assert moved(counts, "*") == (280, 560)
    assert counts.traffic == 5 * 4 * 70


def test_a_tensor_that_is_passed_twice_is_read_twice():
    counts = meter(lambda x: x * x, noise(7))
    assert counts.arguments["x"] == Access(read=56, footprint=28)


def test_an_in_place_addition_reads_and_writes_its_target():
    counts = meter(lambda x, y: x.add_(y), noise(7), noise(7))
    assert moved(counts, "x") == (28, 28)
    assert moved(counts, "y") == (28, 0)
    assert "*" not in counts.arguments


@each(
    "write",
    zero=lambda x: x.zero_(),
    fill=lambda x: x.fill_(2.0),
    normal=lambda x: x.normal_(),
    bernoulli=lambda x: x.bernoulli_(0.5),
    random=lambda x: x.random_(0, 3),
    foreach=lambda x: torch._foreach_zero_([x]),
)
def test_what_is_overwritten_is_not_read(write):
    counts = meter(write, noise(7))
    assert counts.arguments == {"x": Access(written=28)}


def test_a_copy_reads_its_source_and_writes_its_target():
    counts = meter(lambda x, y: x.copy_(y), noise(7), noise(7, dtype=torch.float64))
    assert moved(counts, "x") == (0, 28)
    assert moved(counts, "y") == (56, 0)
    assert counts.elementwise == 0


def test_empty_memory_is_free_and_filled_memory_is_written():
    counts = meter(lambda x: (torch.empty(9), torch.empty_like(x), x.new_empty(9)), noise(7))
    assert counts.traffic == 0
    counts = meter(lambda x: (torch.zeros_like(x), x.new_ones(9)), noise(7))
    assert moved(counts, "x") == (0, 0)
    assert moved(counts, "*") == (0, 64)


@MODES
def test_a_transpose_made_contiguous_is_a_copy(mode):
    with mode():
        counts = meter(lambda x: x.T.contiguous(), noise(4, 6))
    assert (moved(counts, "x"), moved(counts, "*")) == ((96, 0), (0, 96))
    assert counts.operators == {"clone": 1}


def test_an_out_argument_is_written_and_not_read():
    counts = meter(lambda x, y, z: torch.mm(x, y, out=z), noise(4, 6), noise(6, 5), noise(4, 5))
    assert moved(counts, "z") == (0, 80)
    assert "*" not in counts.arguments
    assert counts.dots == 240


def test_every_tensor_of_a_list_is_read():
    counts = meter(lambda x, y: torch.cat([x, y]), noise(4), noise(6))
    assert [moved(counts, role) for role in "xy*"] == [(16, 0), (24, 0), (0, 40)]


def test_the_empty_matrix_that_beta_0_ignores_is_not_read():
    counts = meter(
        lambda x, y: torch.baddbmm(torch.empty(3, 4, 5), x, y, beta=0),
        *(noise(3, 4, 6), noise(3, 6, 5)),
    )
    assert moved(counts, "*") == (0, 240)
    assert (counts.dots, counts.elementwise, counts.unseen) == (720, 0, [])


# Rows --------------------------------------------------------------------------------------------

ROWS = torch.tensor([1, 3])


@each(
    "look_up",
    index_select=lambda x, y: x.index_select(0, y),
    brackets=lambda x, y: x[y],
    embedding=lambda x, y: F.embedding(y, x),
)
def test_a_row_gather_reads_the_rows_it_takes(look_up):
    counts = meter(look_up, noise(50, 8), ROWS)
    assert counts.arguments["x"].read == 64
    assert moved(counts, "y") == (16, 0)
    assert moved(counts, "*") == (0, 64)
    assert counts.arguments["x"].footprint == 1600  # which rows they are is not looked at


def test_a_gather_along_an_axis_reads_as_much_as_it_writes():
    counts = meter(lambda x, y: x.gather(1, y), noise(50, 8), torch.zeros(50, 2, dtype=torch.long))
    assert moved(counts, "x") == (400, 0)
    assert moved(counts, "*") == (0, 400)


@each(
    "write",
    index_copy=lambda x, y, z: x.index_copy_(0, y, z),
    index_put=lambda x, y, z: x.index_put_([y], z),
    scatter=lambda x, y, z: x.scatter_(0, y[:, None].expand(2, 8), z),
    one_row=lambda x, y, z: x.__setitem__(y, z[0]),
    scalar=lambda x, y, z: x.__setitem__(y, 2.0),
    columns=lambda x, y, z: x.T.__setitem__((slice(None), y), z.T),
    pairs=lambda x, y, z: x.view(5, 10, 8).__setitem__((y, y), z),
    mask=lambda x, y, z: x.__setitem__(torch.arange(50).view(50) < 2, z),
    elements=lambda x, y, z: x.__setitem__(torch.arange(400).view(50, 8) % 25 == 0, 2.0),
)
def test_a_row_scatter_writes_the_rows_it_names(write):
    counts = meter(write, noise(50, 8), ROWS, noise(2, 8))
    assert moved(counts, "x") == (0, 64)
    assert counts.reductions == 0


@each(
    "add",
    index_add=lambda x, y, z: x.index_add_(0, y, z),
    index_put=lambda x, y, z: x.index_put_([y], z, accumulate=True),
    scatter_add=lambda x, y, z: x.scatter_add_(0, y[:, None].expand(2, 8), z),
)
def test_adding_to_rows_reads_and_writes_them(add):
    counts = meter(add, noise(50, 8), ROWS, noise(2, 8))
    assert moved(counts, "x") == (64, 64)
    assert counts.reductions == 16


def test_a_scatter_out_of_place_copies_all_of_its_target():
    counts = meter(lambda x, y, z: x.index_copy(0, y, z), noise(50, 8), ROWS, noise(2, 8))
    assert moved(counts, "x") == (1600, 0)
    assert moved(counts, "*") == (0, 1600)


# Footprints --------------------------------------------------------------------------------------


def test_the_footprint_of_a_slice_is_the_slice():
    counts = meter(lambda x: x[:2, ::2].sum() + x[1:3, 0].sum(), noise(4, 6))
    assert counts.arguments["x"].read == 32
    assert counts.arguments["x"].footprint == 28


def test_the_footprint_of_an_expanded_input_is_what_it_repeats():
    counts = meter(lambda x: x[:1].expand(9, 6).sum(), noise(4, 6))
    assert counts.arguments["x"].footprint == 24


# FLOPs -------------------------------------------------------------------------------------------

PRODUCTS = {
    "3-D": (lambda x, y: x @ y, (3, 4, 6), (3, 6, 5), 720),
    "4-D": (lambda x, y: x @ y, (2, 3, 4, 6), (2, 3, 6, 5), 1440),
    "broadcast": (lambda x, y: x @ y, (2, 3, 4, 6), (6, 5), 1440),
    "einsum": (
        lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y),
        (2, 3, 4, 6),
        (2, 3, 5, 6),
        1440,
    ),
    "linear": (F.linear, (2, 4, 6), (5, 6), 480),
    "matrix-vector": (torch.mv, (4, 6), (6,), 48),
    "dot": (torch.dot, (6,), (6,), 12),
    "baddbmm": (lambda x, y: torch.baddbmm(x[:, :, :5], x, y), (3, 4, 6), (3, 6, 5), 720),
    "convolution": (F.conv1d, (2, 4, 9), (3, 4, 2), 768),
    "transposed convolution": (F.conv_transpose1d, (2, 4, 9), (4, 3, 2), 864),
}


@MODES
@each("product", **PRODUCTS)
def test_products_cost_two_flops_per_multiplication(product, mode):
    call, left, right, flops = product
    with mode():
        counts = meter(call, noise(*left), noise(*right))
    assert counts.dots == flops
    assert counts.elementwise == counts.operators.get("baddbmm", 0) * 60
    assert not counts.unpriced


def gradient(x, y):
    leaf = x.detach().requires_grad_()
    (leaf @ y).backward(torch.ones(4, 5))
    return leaf.grad


def test_the_backward_pass_is_counted():
    counts = meter(gradient, noise(4, 6), noise(6, 5))
    assert counts.operators["mm"] == 2
    assert counts.dots == 480


def test_a_backward_formula_with_a_kernel_of_its_own_is_one_operator():
    def gradient(x):
        F.silu(x.detach().requires_grad_()).backward(x)

    counts = meter(gradient, noise(7))
    assert counts.operators["silu_backward"] == 1
    assert counts.elementwise == 14


@MODES
def test_a_softmax_sweeps_twice_and_takes_one_exponential_per_element(mode):
    with mode():
        counts = meter(lambda x: torch.softmax(x, -1), noise(4, 6))
    assert (counts.exps, counts.reductions, counts.elementwise) == (24, 40, 48)


def test_a_logsumexp_costs_a_softmax_without_its_division():
    counts = meter(lambda x: x.logsumexp((0, 2)), noise(4, 6, 2))
    assert (counts.exps, counts.reductions, counts.elementwise) == (48, 84, 48)


@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "exp_", "tanh", "tanh_", "sigmoid"])
def test_exponentials_are_counted_apart(name):
    counts = meter(lambda x: getattr(x, name)(), noise(4, 6))
    assert (counts.exps, counts.elementwise, counts.reductions) == (24, 0, 0)


@each(
    "priced",
    divide=(lambda x: x / 3, 24, 0),
    mask=(lambda x: x.masked_fill(x > 0, 0.0), 0, 0),
    convert=(lambda x: x.to(torch.float16), 0, 0),
    untagged=(lambda x: x.copysign_(x), 24, 0),
    foreach=(lambda x: torch._foreach_mul_([x, x], 2.0), 48, 0),
    addcmul=(lambda x: torch.addcmul(x, x, x), 48, 0),
    sum=(lambda x: x.sum(-1), 0, 20),
    max=(lambda x: x.max(-1), 0, 20),
    maximum=(lambda x: torch.max(x, x), 24, 0),
    argmax=(lambda x: x.argmax(), 0, 23),
    cumsum=(lambda x: x.cumsum(-1), 0, 20),
    sort=(lambda x: x.sort(-1), 0, 0),
)
def test_arithmetic_costs_one_flop_per_element(priced):
    call, elementwise, reductions = priced
    counts = meter(call, noise(4, 6))
    assert (counts.elementwise, counts.reductions) == (elementwise, reductions)
    assert not counts.unpriced


def test_integer_arithmetic_costs_no_flops():
    counts = meter(lambda x: ((x * 3 + 1) @ x).sum() << 2, torch.arange(16).view(4, 4))
    assert (counts.dots, counts.elementwise, counts.reductions) == (0, 0, 0)
    assert counts.traffic > 0
    assert not counts.unpriced


def test_an_operator_without_a_price_is_named_once():
    counts = meter(lambda x: (torch.linalg.inv(x), torch.linalg.inv(x)), torch.eye(4))
    assert counts.unpriced == ["linalg_inv_ex"]
    assert counts.operators["linalg_inv_ex"] == 2


# What cannot be seen into ------------------------------------------------------------------------


@MODES
def test_fused_attention_is_opaque_and_priced_by_its_shapes(mode):
    q, k, v = noise(1, 2, 7, 8), noise(1, 2, 9, 8), noise(1, 2, 9, 8)
    with mode():
        counts = meter(F.scaled_dot_product_attention, q, k, v)
    assert counts.opaque == ["_scaled_dot_product_flash_attention_for_cpu"]
    assert (counts.dots, counts.exps) == (2 * 2 * 7 * 9 * 16, 2 * 7 * 9)
    assert [moved(counts, role) for role in "xyz"] == [(448, 0), (576, 0), (576, 0)]
    assert moved(counts, "*") == (0, 448 + 56)  # the result and its logsumexp
    assert not counts.unpriced + counts.unseen


def test_attention_by_its_parts_is_no_opaque_operator():
    x = noise(1, 2, 7, 8, dtype=torch.float64).requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        counts = meter(
            F.scaled_dot_product_attention, x, x.detach().clone(), noise(1, 2, 7, 8).double()
        )
    assert not counts.opaque + counts.unpriced + counts.unseen
    assert counts.dots == 2 * 2 * 7 * 7 * 16


@torch.library.custom_op("kernelproof_tests::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_a_custom_operator_in_python_is_counted_by_what_it_calls():
    counts = meter(lambda x: double(double(x)) + 1, noise(7))
    assert not counts.opaque + counts.unpriced + counts.unseen
    assert moved(counts, "x") == (28, 0)
    assert moved(counts, "*") == (56, 84)
    assert (counts.elementwise, counts.operators) == (21, {"mul": 2, "add": 1})


LIBRARY = torch.library.Library("kernelproof_tests", "FRAGMENT")
LIBRARY.define("foreign(Tensor x) -> Tensor")
LIBRARY.impl("foreign", lambda x: x.clone(), "CPU")


def test_a_custom_operator_of_unknown_making_is_opaque_and_unpriced():
    foreign = torch.ops.kernelproof_tests.foreign
    counts = meter(lambda x: foreign(foreign(x)) + 1, noise(7))
    assert counts.opaque == counts.unpriced == ["kernelproof_tests::foreign"]
    assert moved(counts, "x") == (28, 0)
    assert moved(counts, "*") == (56, 84)
    assert counts.elementwise == 7


@torch.library.custom_op("kernelproof_tests::copy_into", mutates_args=("out",))
def copy_into(x: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(x)


def test_what_a_custom_operator_writes_is_known_afterwards():
    counts = meter(lambda x: (out := torch.empty(7), copy_into(x, out), out * 1), noise(7))
    assert not counts.opaque + counts.unseen


def marked(x):
    with torch.profiler.record_function("a part"):
        return x.T


def test_the_marks_of_a_profiler_are_no_operators():
    assert meter(marked, noise(4, 6)).operators == {}


@each(
    "convert",
    sparse=lambda x: x.to_sparse(),
    nested=lambda x: torch.nested.nested_tensor([x, x], layout=torch.strided),
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_without_plain_memory_are_noticed(convert):
    counts = meter(convert, noise(4, 6))
    assert counts.unseen[0].endswith(" took or gave a tensor without plain memory")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_higher_order_operator_is_opaque():
    q, k, v = (noise(1, 2, 128, 16) for _ in "qkv")
    counts = meter(flex_attention, q, k, v)
    assert "flex_attention" in counts.opaque
    assert counts.dots == 2 * 2 * 128 * 128 * 32
    assert counts.arguments["x"].read == q.nbytes


NUMPY = "mul read a tensor that no metered operator made (NumPy, another thread, or made before"


def through_numpy(x, y):
    return torch.from_numpy(x.numpy() @ y.numpy()) * 1


def through_numpy_and_a_copy(x, y):
    return torch.tensor(x.numpy() @ y.numpy()) * 1


@pytest.mark.parametrize("escape", [through_numpy, through_numpy_and_a_copy])
def test_work_in_numpy_is_noticed(escape):
    counts = meter(escape, noise(4, 6), noise(6, 5))
    assert len(counts.unseen) == 1
    assert "read a tensor that no metered operator made (NumPy, " in counts.unseen[0]


def in_a_thread(x, y):
    out = torch.empty(4, 5)
    thread = threading.Thread(target=lambda: torch.mm(x, y, out=out))
    thread.start()
    thread.join()
    return out * 1


def test_work_in_another_thread_is_noticed():
    counts = meter(in_a_thread, noise(4, 6), noise(6, 5))
    assert counts.dots == 0
    assert counts.unseen[0].startswith(NUMPY)


def in_freed_memory(x):
    for _ in range(1000):
        address = torch.zeros(1000).data_ptr()
        if (new := torch.empty(1000)).data_ptr() == address:
            return new * 1
    pytest.skip("the allocator never gave the same memory again")


def test_what_freed_memory_held_is_not_known_of_a_new_tensor():
    assert meter(in_freed_memory, noise(4)).unseen[0].startswith(NUMPY)


CONSTANT, SCALAR = torch.arange(7.0), torch.tensor(3.0)


def test_a_constant_made_before_the_call_is_noticed():
    counts = meter(lambda x: x * CONSTANT, noise(7))
    assert counts.unseen[0].startswith(NUMPY)


@MODES
@each(
    "constant",
    scalar=lambda x: x * SCALAR,
    tensor=lambda x: x * torch.tensor([1.0, 2.0, 3.0]),
    full=lambda x: x * torch.full((3,), 2.0),
    index=lambda x: x[[0, 2]] * 2.0,
    copied=lambda x: torch.empty(3).copy_(x) * 2.0,
)
def test_a_scalar_and_what_the_call_makes_are_known(constant, mode):
    with mode():
        assert meter(constant, noise(3)).unseen == []


# In company --------------------------------------------------------------------------------------


def test_a_poisoned_buffer_costs_nothing_and_is_poisoned():
    meter = Meter({})
    with Poison(), OperatorMeter(meter):
        poisoned = torch.empty(5)
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert poisoned.isnan().all()
    assert meter.counts.operators == {"empty": 1, "ones": 2, "mm": 1}
    assert meter.counts.traffic == 64 + 16 - 32 + 32


@MODES
def test_results_are_what_they_are_without_the_meter(mode):
    x, y = noise(2, 3, 4, 6), noise(2, 3, 6, 5)
    with mode():
        want = F.softmax(x @ y, -1, dtype=torch.float64).transpose(1, 2).reshape(2, -1)
        with Poison(), OperatorMeter(Meter({})):
            got = F.softmax(x @ y, -1, dtype=torch.float64).transpose(1, 2).reshape(2, -1)
    assert torch.equal(got, want)
    assert got.dtype == want.dtype
