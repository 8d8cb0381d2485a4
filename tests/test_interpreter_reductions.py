"""Reductions, scans, moves and launches on the interpreter, against torch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from interpreted import FLOATS, UNIT, apply, check_equal, generator, k, noise

from kernelproof.conformance.interpreter import triton_compat
from kernelproof.conformance.interpreter.memory import OutOfBounds

# reductions and scans


def tile(dtype=torch.float32, seed=0):
    """16 rows of 32, in one row a NaN, in another nothing else."""
    x = noise(16, 32, dtype=dtype, seed=seed)
    x[3, 5], x[7] = torch.nan, torch.nan
    return x


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_sum_is_within_the_bound_of_its_terms(dtype, axis):
    x, wide = noise(16, 32, dtype=dtype), torch.promote_types(dtype, torch.float32)
    got = apply(partial(k.total, axis=axis), x, size=x.sum(axis).numel(), dtype=wide).double()
    unit = UNIT.get(dtype, 2.0**-53)
    bound = 6 * unit * x.double().abs().sum(axis)
    assert bool(((got - x.double().sum(axis)).abs() <= bound).all())
    torch.testing.assert_close(apply(k.whole, x, size=1, dtype=torch.float32)[0], x.sum().float(),
                               rtol=0.1, atol=0.1)  # fmt: skip
    kept = apply(partial(k.total, axis=axis, keep=True), x, size=len(got), dtype=wide)
    assert torch.equal(kept.double(), got)


def test_a_sum_in_float16_is_rounded_at_every_addition():
    x = torch.zeros(16, 32, dtype=torch.float16)
    x[:, :4] = torch.tensor([2048.0, 1.0, 1.0, 1.0])  # float32 would give 2051, float16 cannot
    got = apply(partial(k.total, axis=1), x, size=16)
    assert set(got.tolist()) <= {2048.0, 2050.0}


def test_sums_of_integers_wrap_around():
    x = torch.full((16, 32), 2**30, dtype=torch.int32)
    assert apply(partial(k.total, axis=1), x, size=16).tolist() == [0] * 16
    small = torch.full((16, 32), 100, dtype=torch.int8)
    assert (
        apply(partial(k.total, axis=1), small, size=16, dtype=torch.int32).tolist() == [3200] * 16
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_extremes_drop_nan_unless_there_is_nothing_else(dtype, axis, keep):
    x, wide = tile(dtype), torch.promote_types(dtype, torch.float32)
    worst = (
        x.double().nan_to_num(-torch.inf).amax(axis),
        x.double().nan_to_num(torch.inf).amin(axis),
    )
    for function, want in zip((k.largest, k.smallest), worst, strict=True):
        want[want.isinf()] = torch.nan
        got = apply(partial(function, axis=axis, keep=keep), x, size=len(want), dtype=wide)
        check_equal(got, want.to(wide))


def test_the_largest_of_all_is_one_number():
    assert apply(k.largest_of_all, tile(), size=1)[0] == tile().nan_to_num(-9).max()


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_places_of_extremes_are_the_leftmost(dtype, axis, left):
    x = (noise(16, 32) * 3).round().to(dtype)
    for function, find in ((k.place_of_largest, np.argmax), (k.place_of_smallest, np.argmin)):
        want = torch.from_numpy(find(x.float().numpy(), axis=axis)).int()
        got = apply(partial(function, axis=axis, left=left), x, size=len(want), dtype=torch.int32)
        assert torch.equal(got, want) or not left


def test_the_place_of_an_infinite_minimum_is_not_that_of_a_nan():
    x = torch.full((16, 32), torch.inf)
    x[:, 0] = torch.nan
    got = apply(partial(k.place_of_smallest, axis=1), x, size=16, dtype=torch.int32)
    assert got.tolist() == [1] * 16


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_custom_reduction_folds_the_axis(dtype, axis, keep):
    x = (noise(16, 32) / 8 + 1).to(dtype)
    want = x.double().prod(axis).float()
    got = apply(partial(k.product, axis=axis, keep=keep), x, size=len(want)).float()
    torch.testing.assert_close(got, want, rtol=64 * UNIT[dtype], atol=0)
    whole = apply(k.product_of_all, x, size=1, dtype=torch.float32)[0]
    assert abs(float(whole / x.double().prod()) - 1) < 700 * UNIT[dtype]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_custom_reduction_may_have_several_parts(axis):
    x = noise(16, 32)
    got = apply(partial(k.variance, axis=axis), x, size=x.shape[1 - axis])
    torch.testing.assert_close(got, x.var(axis, correction=0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_running_sums_and_products_go_either_way(dtype, axis, reverse):
    x = noise(16, 32) / 8 + 1
    x = (x * 4).to(dtype) if dtype == torch.int32 else x.to(dtype)
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    for function, in_torch in ((k.cumsum, torch.cumsum), (k.cumprod, torch.cumprod)):
        turned = x.long() if dtype == torch.int32 else x.double()
        want = in_torch(turned.flip(axis) if reverse else turned, axis)
        want = want.flip(axis) if reverse else want
        got = apply(partial(function, axis=axis, reverse=reverse), x, dtype=wide).view(16, 32)
        want = want.int() if dtype == torch.int32 else want.to(wide)
        torch.testing.assert_close(got, want, rtol=64 * UNIT.get(dtype, 0), atol=0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_custom_scan_is_a_linear_recurrence(axis, reverse):
    a, x = noise(16, 32), noise(16, 32, seed=1)
    turn = (lambda t: t.flip(axis)) if reverse else (lambda t: t)
    states = [torch.zeros(x.shape[1 - axis])]
    for decay, new in zip(turn(a).unbind(axis), turn(x).unbind(axis), strict=True):
        states.append(decay * states[-1] + new)
    got = apply(partial(k.recurrence, axis=axis, reverse=reverse), a, x).view(16, 32)
    torch.testing.assert_close(got, turn(torch.stack(states[1:], axis)), rtol=1e-4, atol=1e-4)


# tensors


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_rows_are_sorted(dtype, descending):
    x = (noise(16, 32) * 100).to(dtype)
    got = apply(partial(k.sort, descending=descending), x).view(16, 32)
    assert torch.equal(got, x.sort(-1, descending=descending).values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_elements_are_moved_as_they_are(dtype):
    x, y = noise(16, 32, dtype=dtype), noise(16, 32, dtype=dtype, seed=1)
    places = torch.randint(0, 32, (16, 32), generator=generator(2)).int()
    check_equal(apply(k.gather, x, places), x.double().gather(1, places.long()).to(dtype))
    check_equal(apply(k.joined, x, y, size=1024), torch.stack([x, y], -1))
    check_equal(apply(k.transposed, x), x.T)
    check_equal(apply(k.permuted, x), x.view(4, 4, 32).permute(2, 0, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_tensor_is_split_along_its_last_axis(dtype):
    x = noise(16, 16, 2, dtype=dtype)
    check_equal(apply(k.split_sum, x, size=256), (x[..., 0] * 2 + x[..., 1]).view(-1))


def test_a_histogram_counts_what_lies_in_its_bins():
    x = torch.randint(-3, 20, (256,), generator=generator()).int()
    inside = x[(x >= 0) & (x < 16)]
    assert torch.equal(apply(k.histogram, x, size=16), inside.bincount(minlength=16).int())


@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_lanes_without_other_hold_nan(dtype):
    x, out = noise(16, dtype=dtype), torch.zeros(16, dtype=dtype)
    k.masked[(1,)](x, out, 16)
    check_equal(out[:8], x[:8])
    assert bool(out[8:].isnan().all())


# launches


def test_the_first_configuration_of_autotuning_wins():
    x, out = noise(20), torch.zeros(20)
    k.tuned[(1,)](x, out, 20, SIZE=32)
    assert torch.equal(out, 2 * x)


@pytest.mark.parametrize("n", [4, 5])
def test_heuristics_are_asked(n):
    out = torch.zeros(1)
    k.heuristic[(1,)](out, n)
    assert out.item() == 1 + n % 2


@pytest.mark.parametrize("flag", [True, False])
def test_a_bool_is_an_argument(flag):
    out = torch.zeros(1)
    k.flagged[(1,)](out, flag)
    assert out.item() == 2 - flag


def test_functions_call_functions():
    check_equal(apply(k.twice_nested, noise(16)), 2 * noise(16))


def test_a_tensor_may_bound_a_loop():
    x = torch.ones(16, dtype=torch.int32)
    assert apply(k.count_to, x, size=1).tolist() == [16]


@pytest.mark.skipif(not triton_compat.IS_3_6, reason="Triton 3.9 has no block pointers")
def test_block_pointers_stay_in_their_shape():
    x, out = noise(20, 16), torch.full((20, 16), -7.0)
    k.through_block_pointer[(1,)](x, out, 20, 16, 8, True)
    assert torch.equal(out[8:], x[8:] + 1)
    assert bool((out[:8] == -7).all())


@pytest.mark.skipif(not triton_compat.IS_3_6, reason="Triton 3.9 has no block pointers")
def test_an_unchecked_block_pointer_is_caught_outside_its_tensor():
    with pytest.raises(OutOfBounds, match=r"x\[320\]"):
        k.through_block_pointer[(1,)](noise(20, 16), noise(20, 16), 20, 16, 8, False)
