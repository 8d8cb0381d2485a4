"""Small Triton functions, one for each operation that test_interpreter_arithmetic.py looks at."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.libdevice import tanh

WIDTH = tl.constexpr(16)


@triton.jit
def apply_1(x, out, nx: tl.constexpr, size: tl.constexpr, F: tl.constexpr):
    result = F(tl.load(x + tl.arange(0, nx)))
    tl.store(out + tl.arange(0, size), tl.reshape(result, (size,)))


@triton.jit
def apply_2(x, y, out, nx: tl.constexpr, ny: tl.constexpr, size: tl.constexpr, F: tl.constexpr):
    result = F(tl.load(x + tl.arange(0, nx)), tl.load(y + tl.arange(0, ny)))
    tl.store(out + tl.arange(0, size), tl.reshape(result, (size,)))


@triton.jit
def apply_3(x, y, z, out, n: tl.constexpr, size: tl.constexpr, F: tl.constexpr):
    i = tl.arange(0, n)
    result = F(tl.load(x + i), tl.load(y + i), tl.load(z + i))
    tl.store(out + tl.arange(0, size), tl.reshape(result, (size,)))


# elements


@triton.jit
def same(x):
    return x


@triton.jit
def cast(x, dtype: tl.constexpr, rounding: tl.constexpr = None):
    return x.to(dtype, fp_downcast_rounding=rounding)


@triton.jit
def bitcast(x, dtype: tl.constexpr):
    return x.to(dtype, bitcast=True)


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def sub(x, y):
    return x - y


@triton.jit
def mul(x, y):
    return x * y


@triton.jit
def div(x, y):
    return x / y


@triton.jit
def rem(x, y):
    return x % y


@triton.jit
def floordiv(x, y):
    return x // y


@triton.jit
def less(x, y):
    return x < y


@triton.jit
def less_equal(x, y):
    return x <= y


@triton.jit
def greater(x, y):
    return x > y


@triton.jit
def greater_equal(x, y):
    return x >= y


@triton.jit
def equal(x, y):
    return x == y


@triton.jit
def not_equal(x, y):
    return x != y


@triton.jit
def chained(x, y):
    return x < y < 1.0


@triton.jit
def larger(x, y):
    return tl.where(x > y, x, y)


@triton.jit
def bits_and(x, y):
    return x & y


@triton.jit
def bits_or(x, y):
    return x | y


@triton.jit
def bits_xor(x, y):
    return x ^ y


@triton.jit
def shift_left(x, y):
    return x << y


@triton.jit
def shift_right(x, y):
    return x >> y


@triton.jit
def high_half(x, y):
    return tl.umulhi(x, y)


@triton.jit
def bit_add(x, y):
    return (x > 0) + (y > 0)


@triton.jit
def bit_sub(x, y):
    return (x > 0) - (y > 0)


@triton.jit
def negate(x):
    return -x


@triton.jit
def absolute(x):
    return tl.abs(x)


@triton.jit
def minimum(x, y, nan: tl.constexpr):
    return tl.minimum(x, y, propagate_nan=nan)


@triton.jit
def maximum(x, y, nan: tl.constexpr):
    return tl.maximum(x, y, propagate_nan=nan)


@triton.jit
def clamp(x, low, high, nan: tl.constexpr):
    return tl.clamp(x, low, high, propagate_nan=nan)


@triton.jit
def fma(x, y, z):
    return tl.fma(x, y, z)


@triton.jit
def fill(x, value: tl.constexpr, dtype: tl.constexpr):
    return tl.full(x.shape, value, dtype)


@triton.jit
def add_constant(x, value: tl.constexpr):
    return x + value


@triton.jit
def twice_nested(x):
    return add(same(x), same(x))


@triton.jit
def masked(x, out, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.store(out + i, tl.load(x + i, mask=i < n // 2))


# functions


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def exp2(x):
    return tl.exp2(x)


@triton.jit
def log(x):
    return tl.log(x)


@triton.jit
def log2(x):
    return tl.log2(x)


@triton.jit
def sqrt(x):
    return tl.sqrt(x)


@triton.jit
def rsqrt(x):
    return tl.rsqrt(x)


@triton.jit
def erf(x):
    return tl.erf(x)


@triton.jit
def sin(x):
    return tl.sin(x)


@triton.jit
def cos(x):
    return tl.cos(x)


@triton.jit
def sigmoid(x):
    return tl.sigmoid(x)


@triton.jit
def softmax(x):
    return tl.softmax(x)


# matrix products


@triton.jit
def dot(x, y, m: tl.constexpr, n: tl.constexpr, k: tl.constexpr, out: tl.constexpr = tl.float32,
        precision: tl.constexpr = "ieee"):  # fmt: skip
    x, y = tl.reshape(x, (m, k)), tl.reshape(y, (k, n))
    return tl.dot(x, y, input_precision=precision, out_dtype=out)


@triton.jit
def default_dot(x, y):
    return tl.dot(tl.reshape(x, (16, 32)), tl.reshape(y, (32, 16)))


@triton.jit
def dot_add(x, y, z):
    return tl.dot(x.reshape(16, 16), y.reshape(16, 16), z.reshape(16, 16), input_precision="ieee")


@triton.jit
def batched_dot(x, y):
    x, y = tl.reshape(x, (4, 16, 32)), tl.reshape(y, (4, 32, 16))
    return tl.dot(x, y, input_precision="ieee")


@triton.jit
def dot_scaled(
    x,
    y,
    xs,
    ys,
    out,
    kx: tl.constexpr,
    ky: tl.constexpr,
    k: tl.constexpr,
    x_format: tl.constexpr,
    y_format: tl.constexpr,
    block: tl.constexpr = 32,
):
    i = tl.arange(0, 16)
    scale = i[:, None] * (k // block) + tl.arange(0, k // block)[None, :]
    a = tl.load(x + i[:, None] * kx + tl.arange(0, kx)[None, :])
    b = tl.load(y + tl.arange(0, ky)[:, None] * 16 + i[None, :])
    a_scale = None if xs is None else tl.load(xs + scale)
    b_scale = None if ys is None else tl.load(ys + scale)
    c = tl.dot_scaled(a, a_scale, x_format, b, b_scale, y_format)
    tl.store(out + i[:, None] * 16 + i[None, :], c)


@triton.jit
def apply_dot_packed(x, y, xs, ys, out):
    i, long = tl.arange(0, 8), tl.arange(0, 64)
    a, b = tl.load(x + i[:, None] * 64 + long[None, :]), tl.load(y + long[:, None] * 8 + i[None, :])
    scale, wide = tl.reshape(tl.arange(0, 32), (16, 2)), tl.reshape(tl.arange(0, 256), (16, 16))
    c = tl.dot_scaled(
        *(a, tl.load(xs + scale), "e2m1", b, tl.load(ys + scale), "e2m1"),
        lhs_k_pack=False,
        rhs_k_pack=False,
    )
    tl.store(out + wide, c)


# reductions and scans, of tiles of 16 rows


@triton.jit
def total(x, axis: tl.constexpr, keep: tl.constexpr = False, dtype: tl.constexpr = None):
    return tl.sum(tl.reshape(x, (WIDTH, 32)), axis, keep_dims=keep, dtype=dtype)


@triton.jit
def whole(x):
    return tl.full((1,), tl.sum(tl.reshape(x, (16, 32))), tl.float32)


@triton.jit
def largest(x, axis: tl.constexpr, keep: tl.constexpr = False):
    return tl.max(tl.reshape(x, (16, 32)), axis, keep_dims=keep)


@triton.jit
def smallest(x, axis: tl.constexpr, keep: tl.constexpr = False):
    return tl.min(tl.reshape(x, (16, 32)), axis, keep_dims=keep)


@triton.jit
def largest_of_all(x):
    return tl.full((1,), tl.max(x), tl.float32)


@triton.jit
def place_of_largest(x, axis: tl.constexpr, left: tl.constexpr = True):
    return tl.argmax(tl.reshape(x, (16, 32)), axis, tie_break_left=left)


@triton.jit
def place_of_smallest(x, axis: tl.constexpr, left: tl.constexpr = True):
    return tl.argmin(tl.reshape(x, (16, 32)), axis, tie_break_left=left)


@triton.jit
def multiply_combine(a, b):
    return a * b


@triton.jit
def product(x, axis: tl.constexpr, keep: tl.constexpr = False):
    return tl.reduce(tl.reshape(x, (16, 32)), axis, multiply_combine, keep_dims=keep)


@triton.jit
def product_of_all(x):
    return tl.full((1,), tl.reduce(x, None, multiply_combine), tl.float32)


@triton.jit
def welford_combine(mean, m2, count, other_mean, other_m2, other_count):
    delta = other_mean - mean
    both = count + other_count
    mean += delta * other_count / both
    return mean, m2 + other_m2 + delta * delta * count * other_count / both, both


@triton.jit
def variance(x, axis: tl.constexpr):
    x = tl.reshape(x, (16, 32))
    zero, one = tl.zeros((16, 32), tl.float32), tl.full((16, 32), 1.0, tl.float32)
    _, m2, count = tl.reduce((x, zero, one), axis, welford_combine)
    return m2 / count


@triton.jit
def cumsum(x, axis: tl.constexpr, reverse: tl.constexpr = False):
    return tl.cumsum(tl.reshape(x, (16, 32)), axis, reverse=reverse)


@triton.jit
def cumprod(x, axis: tl.constexpr, reverse: tl.constexpr = False):
    return tl.cumprod(tl.reshape(x, (16, 32)), axis, reverse=reverse)


@triton.jit
def recurrence_combine(a, x, b, y):
    return a * b, b * x + y


@triton.jit
def recurrence(a, x, axis: tl.constexpr, reverse: tl.constexpr = False):
    a, x = tl.reshape(a, (16, 32)), tl.reshape(x, (16, 32))
    _, states = tl.associative_scan((a, x), axis, recurrence_combine, reverse=reverse)
    return states


# tensors


@triton.jit
def sort(x, descending: tl.constexpr = False):
    return tl.sort(tl.reshape(x, (16, 32)), descending=descending)


@triton.jit
def gather(x, places):
    return tl.gather(tl.reshape(x, (16, 32)), tl.reshape(places, (16, 32)), axis=1)


@triton.jit
def histogram(x):
    return tl.histogram(x, 16)


@triton.jit
def joined(x, y):
    return tl.join(x, y)


@triton.jit
def split_sum(x):
    left, right = tl.split(tl.reshape(x, (16, 16, 2)))
    return left * 2 + right


@triton.jit
def transposed(x):
    return tl.trans(tl.reshape(x, (16, 32)))


@triton.jit
def permuted(x):
    return tl.permute(tl.reshape(x, (4, 4, 32)), (2, 0, 1))


@triton.jit
def count_to(x):
    steps = 0
    for _ in range(tl.sum(x)):
        steps += 1
    return tl.full((1,), steps, tl.int32)


# launches


@triton.autotune([triton.Config({"BY": 2}), triton.Config({"BY": 3})], key=["n"])
@triton.jit
def tuned(x, out, n, SIZE: tl.constexpr, BY: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=0.0) * BY, mask=i < n)


@triton.heuristics({"EVEN": lambda given: given["n"] % 2 == 0})
@triton.jit
def heuristic(out, n, EVEN: tl.constexpr):
    tl.store(out, 1.0 if EVEN else 2.0)


@triton.jit
def flagged(out, flag):
    if flag:
        tl.store(out, 1.0)
    else:
        tl.store(out, 2.0)


@triton.jit
def through_block_pointer(x, out, rows, columns, first, CHECK: tl.constexpr):
    shape, strides = (rows, columns), (columns, 1)
    source = tl.make_block_ptr(x, shape, strides, (first, 0), (16, 16), (1, 0))
    target = tl.make_block_ptr(out, shape, strides, (0, 0), (16, 16), (1, 0))
    target = tl.advance(target, (first, 0))
    if CHECK:
        tile = tl.load(source, boundary_check=(0, 1), padding_option="zero")
        tl.store(target, tile + 1, boundary_check=(0, 1))
    else:
        tl.store(target, tl.load(source) + 1)


# what the interpreter has not


@triton.jit
def of_libdevice(x):
    return libdevice.tanh(x)


@triton.jit
def of_libdevice_by_name(x):
    return tanh(x)


@triton.jit
def of_extra(x):
    return tl.extra.cuda.libdevice.tanh(x)


@triton.jit
def assembly(x):
    return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], tl.float32, True, 1)


@triton.jit
def to_e4b15(x):
    return x.to(tl.float8e4b15).to(tl.float32)


@triton.jit
def atomic_add(x, out, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.atomic_add(out + i, tl.load(x + i))


@triton.jit
def atomic_exchange(x, out, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.atomic_xchg(out + i, tl.load(x + i))
