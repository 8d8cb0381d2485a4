"""Every operation of the interpreter on elements and in matrix products, against torch or exact."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from interpreted import (
    FLOATS,
    FP8,
    UNIT,
    apply,
    check_equal,
    generator,
    k,
    next_down,
    next_up,
    noise,
    not_on_triton_3_6,
    patterns,
    tl,
)

from kernelproof.conformance.interpreter import triton_compat
from kernelproof.conformance.interpreter.formats import InterpreterLacks

NANS = {"ALL": tl.PropagateNan.ALL, "NONE": tl.PropagateNan.NONE}


# elements


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("function", "in_torch"), [(k.add, torch.add), (k.sub, torch.sub), (k.mul, torch.mul)]
)
def test_arithmetic_is_rounded_once(function, in_torch, dtype):
    x, y = patterns(dtype, 1), patterns(dtype, 2)
    if dtype not in FP8:
        check_equal(apply(function, x, y), in_torch(x, y))
        return
    want = in_torch(x.float(), y.float())
    if dtype == torch.float8_e4m3fn:  # has no infinity
        want[want.abs() > 464] = torch.nan
    check_equal(apply(function, x, y), want.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_quotient_is_in_float32_at_least(dtype):
    x, y = patterns(dtype, 1), patterns(dtype, 2)
    wide = torch.promote_types(dtype, torch.float32)
    check_equal(apply(k.div, x, y, dtype=wide), x.to(wide) / y.to(wide))
    with np.errstate(invalid="ignore"):  # torch gives NaN for a large quotient
        want = torch.from_numpy(np.fmod(x.to(wide).numpy(), y.to(wide).numpy()))
    check_equal(apply(k.rem, x, y, dtype=wide), want)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sign_operations_touch_only_the_sign(dtype):
    x = patterns(dtype)
    wide = x if dtype not in FP8 else x.float()
    check_equal(apply(k.absolute, x), wide.abs().to(dtype))
    check_equal(apply(k.negate, x), (-wide).to(dtype), signs=not triton_compat.IS_3_6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("function", "in_torch"),
    [
        *((k.less, torch.lt), (k.less_equal, torch.le), (k.greater, torch.gt)),
        *((k.greater_equal, torch.ge), (k.equal, torch.eq), (k.not_equal, torch.ne)),
    ],
)
def test_comparisons_know_nan(function, in_torch, dtype):
    x, y = patterns(dtype, 1), patterns(dtype, 2)
    y[::3] = x[::3]
    got = apply(function, x, y, dtype=torch.bool)
    assert torch.equal(got, in_torch(x.double(), y.double()))


@pytest.mark.parametrize("dtype", FLOATS)
def test_where_takes_from_one_or_the_other(dtype):
    x, y = patterns(dtype, 1), patterns(dtype, 2)
    want = torch.where(x.double() > y.double(), x.double(), y.double()).to(dtype)
    check_equal(apply(k.larger, x, y), want)


@pytest.mark.parametrize("nan", NANS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_minima_and_maxima_keep_or_drop_nan(dtype, nan):
    x, y = patterns(dtype, 1), patterns(dtype, 2)
    low, high = (torch.minimum, torch.maximum) if nan == "ALL" else (torch.fmin, torch.fmax)
    for function, in_torch in ((k.minimum, low), (k.maximum, high)):
        want = in_torch(x.double(), y.double()).to(dtype)  # in bfloat16 torch's fmin keeps NaN
        check_equal(apply(partial(function, nan=NANS[nan]), x, y), want, signs=False)


@pytest.mark.parametrize("nan", NANS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_clamp_keeps_nan_or_gives_the_lower_bound(dtype, nan):
    x = patterns(dtype)
    low, high = torch.full_like(x, -1.5), torch.full_like(x, 2.5)
    want = x.clamp(-1.5, 2.5)
    want = want if nan == "ALL" else torch.where(x.isnan(), low, want)
    check_equal(apply(partial(k.clamp, nan=NANS[nan]), x, low, high), want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_fma_gives_the_number_nearest_to_the_exact_result(dtype):
    x, y, z = (noise(4096, dtype=dtype, seed=seed) for seed in (1, 2, 3))
    z[::2] = (-x * y)[::2]  # what cancels shows a rounding of the product
    got = apply(k.fma, x, y, z)
    around = [next_down(got).tolist(), got.tolist(), next_up(got).tolist()]
    for a, b, c, low, value, high in zip(*(t.tolist() for t in (x, y, z)), *around, strict=True):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        errors = [abs(Fraction(n) - exact) for n in (low, value, high)]
        assert errors[1] == min(errors)


def test_fma_in_bfloat16_breaks_ties_by_what_float64_would_lose():
    x, y = torch.full((4,), 7.0).bfloat16(), torch.full((4,), 37.0).bfloat16()  # 259: a tie
    z = torch.tensor([2.0**-60, -(2.0**-60), 0.0, -0.0]).bfloat16()
    assert apply(k.fma, x, y, z).tolist() == [260, 258, 260, 260]


def test_fma_in_float32_breaks_ties_by_what_float64_would_lose():
    x = torch.full((4,), 1 + 2.0**-12)
    z = torch.tensor([2.0**-80, -(2.0**-80), 0.0, -0.0])  # x x = 1 + 2^-11 + 2^-24: a tie
    up, down = 1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-11
    assert apply(k.fma, x, x, z).tolist() == [up, down, down, down]


@not_on_triton_3_6("chained comparisons are lacking")
def test_a_chained_comparison_looks_at_both_halves():
    x, y = noise(256), noise(256, seed=1)
    assert torch.equal(apply(k.chained, x, y, dtype=torch.bool), (x < y) & (y < 1))


@pytest.mark.parametrize(
    ("function", "in_torch"),
    [
        *((k.add, torch.add), (k.sub, torch.sub), (k.mul, torch.mul)),
        (k.floordiv, partial(torch.div, rounding_mode="trunc")),
        *((k.rem, torch.fmod), (k.bits_and, torch.bitwise_and), (k.bits_or, torch.bitwise_or)),
        (k.bits_xor, torch.bitwise_xor),
    ],
)
def test_integers_wrap_around_and_divide_toward_zero(function, in_torch):
    x, y = (torch.randint(-(2**31), 2**31, (256,), generator=generator(n)).int() for n in (1, 2))
    assert torch.equal(apply(function, x, y), in_torch(x, y))
    assert torch.equal(apply(function, x, y % 7 + 1), in_torch(x, y % 7 + 1))


def test_shifts_keep_the_sign():
    x, y = torch.arange(-128, 128, dtype=torch.int32), torch.arange(256, dtype=torch.int32) % 32
    assert torch.equal(apply(k.shift_left, x, y), x << y)
    assert torch.equal(apply(k.shift_right, x, y), x >> y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_high_half_of_a_product_is_that_of_unsigned_numbers(dtype):
    x, y = torch.tensor([-5, 7, 2**30, -(2**31)], dtype=dtype), torch.tensor([3, -9, 12, -1])
    bits = 8 * dtype.itemsize
    products = [(a % 2**bits) * (b % 2**bits) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    high = apply(k.high_half, x, y.to(dtype)).tolist()
    assert [h % 2**bits for h in high] == [p >> bits for p in products]


def test_integers_of_one_bit_wrap_around():
    x, y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert torch.equal(apply(k.bit_add, x, y, dtype=torch.bool), x != y)
    assert torch.equal(apply(k.bit_sub, x, y, dtype=torch.bool), x != y)


@pytest.mark.parametrize(
    ("function", "exact", "low", "high"),
    [
        *((k.exp, torch.exp, -80, 80), (k.exp2, torch.exp2, -120, 120)),
        *((k.log, torch.log, 1e-30, 1e30), (k.log2, torch.log2, 1e-30, 1e30)),
        *((k.sqrt, torch.sqrt, 0, 1e30), (k.rsqrt, torch.rsqrt, 1e-30, 1e30)),
        *((k.erf, torch.erf, -4, 4), (k.sin, torch.sin, -100, 100), (k.cos, torch.cos, -100, 100)),
        (k.sigmoid, torch.sigmoid, -50, 50),
    ],
)
def test_functions_are_within_a_few_units_of_float64(function, exact, low, high):
    x = torch.linspace(low, high, 4096)
    want = exact(x.double())
    bound = 4 * UNIT[torch.float32] * want.abs() + 1e-37
    assert bool(((apply(function, x).double() - want).abs() <= bound).all())


def test_functions_of_special_values_are_as_in_torch():
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, -1.0, 0.0, 1e30, -1e30, 1.0])
    for function, in_torch in ((k.exp, torch.exp), (k.log, torch.log), (k.sqrt, torch.sqrt)):
        torch.testing.assert_close(apply(function, x), in_torch(x), equal_nan=True)


def test_softmax_of_the_standard_library_is_that_of_torch():
    torch.testing.assert_close(apply(k.softmax, noise(256)), noise(256).softmax(0))


# matrix products


def check_dot(got, x, y, *, extra=0.0):
    """Within gamma of the number of terms, of float32; an output rounds once more."""
    exact = x.double() @ y.double()
    terms = (x.shape[-1] + 1) * UNIT[torch.float32]
    bound = (terms / (1 - terms) + extra) * (x.double().abs() @ y.double().abs())
    assert bool(((got.double().view(exact.shape) - exact).abs() <= bound).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, *FP8, torch.float32])
def test_a_dot_is_within_the_bound_of_its_terms(dtype):
    x, y = noise(16, 64, dtype=dtype), noise(64, 32, dtype=dtype, seed=1)
    got = apply(partial(k.dot, m=16, n=32, k=64), x, y, size=512, dtype=torch.float32)
    check_dot(got, x, y)


def test_a_dot_may_mix_formats_of_fp8():
    x, y = noise(16, 64, dtype=FP8[0]), noise(64, 16, dtype=FP8[1], seed=1)
    check_dot(apply(partial(k.dot, m=16, n=16, k=64), x, y, size=256, dtype=torch.float32), x, y)


def test_a_dot_of_float32_truncates_to_tf32_unless_told_otherwise():
    x, y = noise(16, 32), noise(32, 16, seed=1)
    got = apply(k.default_dot, x, y, size=256)
    x32, y32 = ((t.view(torch.int32) & ~0x1FFF).view(torch.float32) for t in (x, y))
    check_dot(got, x32, y32)
    assert (got.view(16, 16).double() - x.double() @ y.double()).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("precision", "unit"), [("tf32x3", 2.0**-20), ("bf16x3", 2.0**-16), ("bf16x6", 0.0)]
)
def test_the_parts_of_an_operand_hold_nearly_all_of_it(precision, unit):
    x, one = noise(16, 16), torch.eye(16)
    parts = partial(k.dot, m=16, n=16, k=16, precision=precision)
    for got in (apply(parts, x, one), apply(parts, one, x)):
        off = (got.view(16, 16) - x).abs()
        assert bool((off <= unit * x.abs()).all())
        assert bool(off.any()) == (unit > 0)


@pytest.mark.parametrize("precision", ["tf32x3", "bf16x3", "bf16x6"])
def test_products_of_parts_are_nearly_as_good_as_float32_and_keep_infinity(precision):
    x, y = noise(16, 64), noise(64, 16, seed=1)
    got = apply(partial(k.dot, m=16, n=16, k=64, precision=precision), x, y, size=256)
    check_dot(got, x, y, extra=2.0**-15)
    x[0, 0] = torch.inf
    got = apply(partial(k.dot, m=16, n=16, k=64, precision=precision), x, y, size=256)
    assert torch.equal(got[:16], torch.copysign(x[0, 0], y[0]))


def test_a_dot_into_float16_is_rounded_once_at_the_end():
    x, y = noise(16, 64, dtype=torch.float16), noise(64, 16, dtype=torch.float16, seed=1)
    wide = apply(partial(k.dot, m=16, n=16, k=64), x, y, size=256, dtype=torch.float32)
    got = apply(partial(k.dot, m=16, n=16, k=64, out=tl.float16), x, y, size=256)
    check_equal(got, wide.half())


def test_a_dot_of_float64_is_in_float64():
    x, y = noise(16, 64, dtype=torch.float64), noise(64, 16, dtype=torch.float64, seed=1)
    got = apply(partial(k.dot, m=16, n=16, k=64, out=tl.float64, precision="tf32"), x, y, size=256)
    torch.testing.assert_close(got.view(16, 16), x @ y, rtol=1e-13, atol=1e-13)


def test_a_dot_of_bytes_is_exact():
    x, y = (
        torch.randint(-128, 128, (16, 16), generator=generator(n)).to(torch.int8) for n in (1, 2)
    )
    got = apply(partial(k.dot, m=16, n=16, k=16, out=tl.int32), x, y, dtype=torch.int32)
    assert torch.equal(got.view(16, 16), x.int() @ y.int())


def test_a_dot_adds_to_its_accumulator():
    x, y, z = (noise(16, 16, seed=seed) for seed in (1, 2, 3))
    check_dot(apply(k.dot_add, x, y, z).view(16, 16) - z, x, y, extra=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_batch_of_dots_is_a_dot_each(dtype):
    x, y = noise(4, 16, 32, dtype=dtype), noise(4, 32, 16, dtype=dtype, seed=1)
    check_dot(apply(k.batched_dot, x, y, size=1024, dtype=torch.float32), x, y)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
FORMATS = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16,
           "fp16": torch.float16}  # fmt: skip


def operand(form, rows, seed):
    """Numbers of a microscaling format as stored, (rows, 64 or 32), and in float32."""
    if form != "e2m1":
        x = noise(rows, 64, dtype=FORMATS[form], seed=seed)
        return x, x.float()
    packed = torch.randint(0, 256, (rows, 32), generator=generator(seed)).to(torch.uint8)
    halves = torch.stack([packed & 15, packed >> 4], -1).view(rows, 64)
    return packed, E2M1[halves.int()]


def scales(seed, columns=2):
    return torch.randint(120, 134, (16, columns), generator=generator(seed)).to(torch.uint8)


def scaled(x, scale, block=32):
    return x if scale is None else x * (scale.float() - 127).exp2().repeat_interleave(block, 1)


def dot_scaled(x, y, xs, ys, x_format, y_format, block=32):
    out, y = torch.zeros(16, 16), y.T.contiguous()
    k.dot_scaled[(1,)](x, y, xs, ys, out, x.shape[1], y.shape[0], 64, x_format, y_format, block)
    return out


@pytest.mark.parametrize("which", ["both", "left", "right", "neither"])
@pytest.mark.parametrize("y_format", ["e4m3", "e5m2", "e2m1", "bf16"])
@pytest.mark.parametrize("x_format", ["e4m3", "e5m2", "e2m1", "bf16"])
def test_a_scaled_dot_is_the_dot_of_scaled_operands(x_format, y_format, which):
    (x, x32), (y, y32) = operand(x_format, 16, 1), operand(y_format, 16, 2)
    xs = scales(3) if which in ("both", "left") else None
    ys = scales(4) if which in ("both", "right") else None
    got = dot_scaled(x, y, xs, ys, x_format, y_format)
    check_dot(got, scaled(x32, xs), scaled(y32, ys).T)


def test_a_scale_of_255_is_nan_and_of_0_is_the_smallest():
    ones = torch.ones(16, 64).to(torch.float8_e4m3fn)
    xs, ys = scales(3), scales(4)
    xs[3, 1], xs[5] = 255, 0
    got = dot_scaled(ones, ones, xs, ys, "e4m3", "e4m3")
    assert bool(got[3].isnan().all())
    assert int(got.isnan().sum()) == 16
    assert torch.equal(got[5], 2.0**-127 * scaled(torch.ones(16, 64), ys).sum(1))


def test_elements_of_fp8_may_come_as_bytes():
    (x, x32), (y, y32) = operand("e5m2", 16, 1), operand("e4m3", 16, 2)
    got = dot_scaled(x.view(torch.uint8), y.view(torch.uint8), None, scales(4), "e5m2", "e4m3")
    check_dot(got, x32, scaled(y32, scales(4)).T)


def test_scales_of_16_elements_may_be_in_fp8():
    (x, x32), (y, y32) = operand("e2m1", 16, 1), operand("e2m1", 16, 2)
    xs, ys = (noise(16, 4, seed=seed).abs().to(torch.float8_e4m3fn) for seed in (3, 4))
    got = dot_scaled(x, y, xs, ys, "e2m1", "e2m1", block=16)
    wide = [t * s.float().repeat_interleave(16, 1) for t, s in ((x32, xs), (y32, ys))]
    check_dot(got, wide[0], wide[1].T)


def test_elements_of_4_bits_may_be_packed_along_rows():
    x = torch.randint(0, 256, (8, 64), generator=generator(1)).to(torch.uint8)
    y = torch.randint(0, 256, (64, 8), generator=generator(2)).to(torch.uint8)
    out = torch.zeros(16, 16)
    k.apply_dot_packed[(1,)](x, y, scales(3), scales(4), out)
    x32 = E2M1[torch.stack([x & 15, x >> 4], 1).view(16, 64).int()]
    y32 = E2M1[torch.stack([y & 15, y >> 4], 2).view(64, 16).int()]
    check_dot(out, scaled(x32, scales(3)), scaled(y32.T, scales(4)).T)


# what the interpreter has not


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (k.of_libdevice, "libdevice.*tanh"),
        (k.of_libdevice_by_name, "libdevice.*tanh"),
        (k.of_extra, "libdevice.*tanh"),
        (k.assembly, "inline assembly"),
        (k.to_e4b15, "fp8e4b15"),
    ],
)
def test_a_lacking_feature_is_named(function, name):
    with pytest.raises(InterpreterLacks, match=name):
        apply(function, noise(16))


@pytest.mark.parametrize(
    ("kernel", "dtype", "name"),
    [(k.atomic_add, torch.bfloat16, "atomics of bf16"), (k.atomic_exchange, torch.float32, "fp32")],
)
def test_a_lacking_atomic_is_named(kernel, dtype, name):
    with pytest.raises(InterpreterLacks, match=name):
        kernel[(1,)](noise(16, dtype=dtype), noise(16, dtype=dtype), 16)


@pytest.mark.skipif(not triton_compat.IS_3_6, reason="Triton 3.9 has both")
def test_what_an_old_version_lacks_is_named():
    with pytest.raises(InterpreterLacks, match="chained comparisons"):
        apply(k.chained, noise(16), noise(16), dtype=torch.bool)
    with pytest.raises(InterpreterLacks, match="fp8e5"):
        apply(partial(k.add_constant, value=0.5), noise(16, dtype=torch.float8_e5m2))
