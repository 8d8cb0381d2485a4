"""Conversions on the interpreter: every small number, to every format."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from interpreted import (
    FLOATS,
    FP8,
    SMALL,
    TYPES,
    apply,
    check_equal,
    k,
    next_down,
    next_up,
    noise,
    not_on_triton_3_6,
    patterns,
    tl,
)

NARROWER = [(a, b) for a in FLOATS for b in SMALL if a.itemsize > b.itemsize]


def neighbours(dtype):
    """All pairs of positive finite numbers of a small format with none between them."""
    bits = torch.arange(2 ** (8 * dtype.itemsize - 1), dtype=torch.int32)
    numbers = bits.to(torch.uint8 if dtype.itemsize == 1 else torch.int16).view(dtype).double()
    numbers = numbers[numbers.isfinite()]
    return numbers[:-1], numbers[1:]


def padded(x):
    """A tensor lengthened to a power of two by its first element."""
    size = 1 << (len(x) - 1).bit_length()
    return torch.cat([x, x[:1].expand(size - len(x))])


def rounded(x, dtype):
    """To nearest even by torch; beyond the range of fp8 the largest number."""
    if dtype in FP8:
        x = x.double().clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(torch.float32)
    return x.to(dtype)


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", SMALL)
def test_every_small_float_converts_to_every_format(source, target):
    x = patterns(source)
    got = apply(partial(k.cast, dtype=TYPES[target]), x, dtype=target)
    check_equal(got, x.clone() if source == target else rounded(x, target))


@pytest.mark.parametrize("target", (*SMALL, torch.float64))
def test_float32_converts_to_every_format(target):
    x = patterns(torch.float32)
    check_equal(
        apply(partial(k.cast, dtype=TYPES[target]), x, dtype=target),
        rounded(x, target),
    )


@pytest.mark.parametrize(("source", "target"), NARROWER)
def test_a_number_halfway_rounds_to_even_and_those_beside_it_to_their_side(source, target):
    low, high = neighbours(target)
    half = (low + high) / 2
    at = half.to(source)
    exact = at.double() == half  # the source may have no such number
    low, high, at = low[exact], high[exact], at[exact]
    even = torch.where(torch.arange(len(exact))[exact] % 2 == 0, low, high)
    x = torch.cat([at, next_up(at), next_down(at), -at]) if source.itemsize > 2 else at
    want = torch.cat([even, high, low, -even]) if source.itemsize > 2 else even
    got = apply(partial(k.cast, dtype=TYPES[target]), padded(x), dtype=target)[: len(x)]
    check_equal(got, want.to(target))


@pytest.mark.parametrize(("source", "target"), NARROWER)
def test_rounding_toward_zero_never_goes_away_from_it(source, target):
    x = patterns(source)
    got = apply(partial(k.cast, dtype=TYPES[target], rounding="rtz"), x, dtype=target)
    assert torch.equal(got.isnan(), x.isnan())
    inside = x.isfinite() & (x.double().abs() <= torch.finfo(target).max)
    low, high = neighbours(target)
    numbers = torch.cat([low, high[-1:]])
    floor = numbers[torch.searchsorted(numbers, x[inside].double().abs(), right=True) - 1]
    check_equal(got[inside], torch.copysign(floor, x[inside].double()).to(target))


@pytest.mark.parametrize("rounding", [None, "rtz"])
@pytest.mark.parametrize("target", FP8)
def test_fp8_saturates_where_torch_makes_nan(target, rounding):
    x = torch.tensor([1e6, -1e6, torch.inf, -torch.inf, torch.nan, 2**20, 0.0, -0.0])
    got = apply(partial(k.cast, dtype=TYPES[target], rounding=rounding), x, dtype=target)
    top = torch.finfo(target).max
    check_equal(got, torch.tensor([top, -top, top, -top, torch.nan, top, 0.0, -0.0]).to(target))


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
def test_beyond_the_range_of_16_bits_lies_infinity_but_not_toward_zero(target):
    top = torch.finfo(target).max
    x = torch.tensor([1.01 * top, -1.01 * top, 1e300, torch.inf], dtype=torch.float64)
    nearest = apply(partial(k.cast, dtype=TYPES[target]), x, dtype=target)
    check_equal(nearest, torch.tensor([1, -1, 1, 1]).to(target) * torch.inf)
    toward = apply(partial(k.cast, dtype=TYPES[target], rounding="rtz"), x, dtype=target)
    check_equal(toward, torch.tensor([top, -top, top, torch.inf]).to(target))


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
def test_float64_is_rounded_once(target):
    odd = 1 + torch.finfo(target).eps / 2  # halfway: float32 would lose what breaks the tie
    x = torch.tensor([odd + 2.0**-40, odd - 2.0**-40], dtype=torch.float64)
    got = apply(partial(k.cast, dtype=TYPES[target]), x, dtype=target)
    assert got.tolist() == [1 + torch.finfo(target).eps, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_integers_and_floats_convert_both_ways(dtype):
    i = torch.arange(-128, 128, dtype=torch.int32)
    x = apply(partial(k.cast, dtype=TYPES[dtype]), i, dtype=dtype)
    check_equal(x, i.float().to(dtype))
    check_equal(apply(partial(k.cast, dtype=tl.int32), x, dtype=torch.int32), x.float().int())
    half = (i.float() / 3).to(dtype)
    check_equal(apply(partial(k.cast, dtype=tl.int32), half, dtype=torch.int32), half.float().int())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bits_are_reinterpreted_both_ways(dtype):
    x = patterns(dtype)
    bits = apply(partial(k.bitcast, dtype=tl.int16), x, dtype=torch.int16)
    assert torch.equal(bits, x.view(torch.int16))
    back = apply(partial(k.bitcast, dtype=TYPES[dtype]), bits, dtype=dtype)
    assert torch.equal(back.view(torch.int16), bits)


# constants


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_constants_are_rounded_to_the_format(dtype):
    x = noise(16, dtype=dtype)
    check_equal(apply(partial(k.add_constant, value=0.1), x), x + torch.tensor(0.1, dtype=dtype))
    got = apply(partial(k.fill, value=0.1, dtype=TYPES[dtype]), x)
    check_equal(got, torch.full((16,), 0.1, dtype=dtype))


@pytest.mark.parametrize("dtype", FP8)
def test_zero_is_a_constant_of_fp8(dtype):
    got = apply(partial(k.fill, value=0.0, dtype=TYPES[dtype]), noise(16, dtype=dtype))
    check_equal(got, torch.zeros(16, dtype=dtype))


@not_on_triton_3_6("constants of fp8 are lacking")
@pytest.mark.parametrize("dtype", FP8)
def test_fp8_has_constants(dtype):
    x = torch.ones(16).to(dtype)
    got = apply(partial(k.fill, value=0.1, dtype=TYPES[dtype]), x)
    check_equal(got, torch.full((16,), 0.1).to(dtype))
    check_equal(apply(partial(k.add_constant, value=0.5), x), torch.full((16,), 1.5).to(dtype))
