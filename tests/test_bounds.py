"""The error bounds: right kernels stay within them, undeclared roundings do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from kernelproof.conformance.expectation import draw, evaluate, expect, extended_significand
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.reference.attention.additive import additive
from kernelproof.reference.attention.gradients import attention_gradients
from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.matmul.forms import FORMS
from kernelproof.reference.matmul.strassen import by_blocks, strassen
from kernelproof.reference.softmax.online import online
from kernelproof.spec.accuracy import signed_sum_limit
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.computed import known
from kernelproof.spec.contracts.additive.bound import TANH_UNITS, score_error
from kernelproof.spec.contracts.attention.bound import (
    attended,
    logit_error,
    logit_term,
)
from kernelproof.spec.contracts.attention.bound import score_error as product_score_error
from kernelproof.spec.contracts.gradients.bound import gradients_bound
from kernelproof.spec.contracts.matmul.strassen import (
    AFTER,
    BEFORE,
    strassen_bound,
    strassen_spread,
)
from kernelproof.spec.contracts.performer.bound import exponential
from kernelproof.spec.contracts.softmax.spread import copies
from kernelproof.spec.rounding import DTYPES, FORMATS, PRESETS, Precision, gamma, resolve_precision

Round = Callable[[Any], Any]

SPECS = {name: load_spec(name) for name in spec_names()}
ATTENTION, MATMUL = SPECS["attention.scaled_dot_product"], SPECS["matmul.tiled"]
ADDITIVE = SPECS["attention.additive"]
SIXTEEN = ("float16", "bfloat16")


def keep(x):
    return x


def to(name: str) -> Round:
    """Rounding to a format, the result in the dtype it had."""
    return lambda x: x.astype(NUMPY_DTYPES[name]).astype(x.dtype)


def to_bits(bits: int, rounding: Round) -> Round:
    """Rounding of the significand alone, as tf32 does: np.rint to nearest, np.trunc to zero."""

    def shorten(x):
        with np.errstate(invalid="ignore"):
            significand, exponent = np.frexp(x)
            return np.ldexp(rounding(significand * 2**bits) / 2**bits, exponent).astype(x.dtype)

    return shorten


TF32, TRUNCATED_TF32 = to_bits(11, np.rint), to_bits(11, np.trunc)


@dataclass(frozen=True)
class Kernel:
    """A flash attention in NumPy; each Round is a place where it may lose digits."""

    block: int = 16
    splits: int = 1
    operands: Round = keep
    scaled_query: Round = keep
    scores: Round = keep
    weights: Round = keep
    row_sum: Round = keep
    out: Round = keep


def visible(case, options, shape):
    """Which keys a query may attend to: b h tq tk."""
    tq, tk = shape[-2:]
    last = {None: tk, "top-left": 0, "bottom-right": tk - tq}[options.get("causal")]
    return np.tri(tq, tk, last, dtype=bool) & np.broadcast_to(options.get("mask", True), shape)


def online_softmax(q, k, v, seen, kept, scale, kernel):
    """One pass over blocks of keys with a running maximum, sum and output."""
    top = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)
    total, out = np.zeros_like(top), np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for start in range(0, k.shape[-2], kernel.block):
        part = slice(start, start + kernel.block)
        scores = kernel.scores((q @ k[..., part, :].swapaxes(-1, -2)) * scale)
        scores = np.where(seen[..., part], scores, -np.inf)
        new = np.maximum(top, scores.max(-1, keepdims=True))
        shift = np.where(new == -np.inf, 0, new)
        alpha, weights = np.exp(top - shift), np.exp(scores - shift)
        total = kernel.row_sum(alpha * total + weights.sum(-1, keepdims=True))
        out = kernel.out(alpha * out + kernel.weights(weights * kept[..., part]) @ v[..., part, :])
        top = new
    return out / np.where(total == 0, 1, total), (top + np.log(total))[..., 0]


def merge(parts):
    """Outputs over disjoint keys, weighted by their lse."""
    outs, lses = map(np.stack, zip(*parts, strict=True))
    top = lses.max(0)
    weights = np.exp(lses - np.where(top == -np.inf, 0, top))
    total = weights.sum(0)
    share = weights / np.where(total == 0, 1, total)
    return (share[..., None] * outs).sum(0), top + np.log(total)


def flash(case, step, kernel):
    """What a right kernel returns in float32 (float64 for float64), rounded once at the end."""
    wide = np.float64 if case.dtype == "float64" else np.float32
    q, k, v = (kernel.operands(step.inputs[name].astype(wide)) for name in "qkv")
    scale = wide(step.options.get("scale", 1 / math.sqrt(q.shape[-1])))
    if kernel.scaled_query is not keep:
        q, scale = kernel.scaled_query(q * scale), wide(1)
    shape = (*q.shape[:-1], k.shape[-2])
    mask, rate = step.options.get("keep", (True, 0.0))
    kept = np.broadcast_to(mask, shape) / wide(1 - rate)
    seen = visible(case, step.options, shape)
    with np.errstate(all="ignore"):
        parts = [
            online_softmax(q, k[:, :, j], v[:, :, j], seen[..., j], kept[..., j], scale, kernel)
            for j in np.array_split(np.arange(k.shape[-2]), kernel.splits)
        ]
        out, lse = merge(parts)
        return {"out": out.astype(NUMPY_DTYPES[case.dtype]), "lse": lse.astype(wide)}


def worst_ratio(got, expected):
    """The largest error in units of the bound; infinite where NaN or infinities differ.

    Of rows without a finite bound nothing is promised.
    """
    worst = 0.0
    for name, exact in expected.outputs.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            have, bound = got[name].astype(exact.dtype), expected.bounds[name]
            same = (have == exact) | (np.isnan(have) & np.isnan(exact))
            same |= np.isfinite(exact) & np.isinf(bound)
            judged = np.isfinite(exact) & np.isfinite(have)
            ratio = np.where(same, 0.0, np.where(judged, abs(have - exact) / bound, np.inf))
        worst = max(worst, float(ratio.max(initial=0.0)))
    return worst


def attention_ratio(case, kernel, precision=None, compute=flash):
    precision = precision or resolve_precision(None, case.dtype)
    [step], [expected] = expect(ATTENTION, case, precision, "0", False)
    return worst_ratio(compute(case, step, kernel), expected)


def assert_within(cases, kernel, precision=None, compute=flash):
    ratios = {case.id: attention_ratio(case, kernel, precision, compute) for case in cases}
    assert max(ratios.values()) <= 1, max(ratios, key=ratios.get)


def small_cases(spec, seed, count, dtype=None, limit=300_000):
    """Random cases of the domain whose work stays small."""
    rng = np.random.default_rng(seed)
    every = spec.domain.random_cases(rng, spec.call.axes, spec.call.axis_defaults)
    small = (c for c in every if math.prod(dict(c.axes).values()) <= limit)
    return [case.with_dtype(dtype or case.dtype) for case in islice(small, count)]


def listed(spec, tiers=("smoke", "core")):
    return [point for tier in tiers for point in getattr(spec.domain, tier)]


KERNELS = {
    "blocks of 16": Kernel(),
    "blocks of 64": Kernel(block=64),
    "keys in 3 splits": Kernel(splits=3),
    "more splits than keys": Kernel(block=64, splits=70),
}


def family_cases(dtype):
    """Every family of attention, unmasked, masked and causal."""
    return [
        ATTENTION.case(f"{dtype}/b1.h2.tq17.tk65.d32/{options}/{family}")
        for family in ATTENTION.domain.families
        for options in ("default", "causal-bottom-right", "mask-random", "mask-padding")
        if family != "masked-huge" or options.startswith("mask")
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECS)
def test_every_accuracy_case_has_a_finite_bound_wherever_its_result_is_finite(name, dtype):
    spec = SPECS[name]
    for point in listed(spec):
        case = spec.case(f"{dtype}/{point}")
        records = evaluate(spec, case, draw(spec, case, "0"), np.float64)
        for record in (each for each in records if hasattr(each, "out")):
            bounds = spec.accuracy.worst_case(
                record, resolve_precision(None, dtype).rounding(dtype)
            )
            for output, bound in bounds.items():
                finite = np.isfinite(getattr(record, output))
                assert np.isfinite(bound[finite]).all(), case.id


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "point",
    [
        "b2.h2.tq17.tk33.d32/mask-empty-rows/normal",
        "b1.h2.tq17.tk33.d32/mask-none/heavy-tailed",
        "b1.h2.tq40.tk17.d32/causal-bottom-right/normal",
        "b1.h2.tq5.tk0.d32/default/normal",
    ],
)
def test_rows_without_a_key_have_a_bound_of_exactly_zero_and_no_other_rows_have(point, dtype):
    case = ATTENTION.case(f"{dtype}/{point}")
    _, [expected] = expect(ATTENTION, case, resolve_precision(None, dtype), "0", False)
    empty = np.isneginf(expected.outputs["lse"])
    assert empty.any()
    for bound in expected.bounds.values():
        assert (bound[empty] == 0).all()
        assert (bound[~empty] > 0).all()


LADDER = (None, "float64", "float32", "tf32", "bfloat16", "float8_e5m2")


@pytest.mark.parametrize("field", ["scores", "scaled_query", "weights"])
@pytest.mark.parametrize("point", ["keep-0.5/normal", "mask-random/heavy-tailed"])
def test_a_coarser_declared_rounding_never_shrinks_a_bound(field, point):
    assert_growing(ATTENTION, point, [Precision(**{field: name}) for name in LADDER], field)


@pytest.mark.parametrize("name", ["attention.scaled_dot_product", "matmul.tiled"])
def test_coarser_operands_never_shrink_a_bound(name):
    ladder = [Precision(operands=operands) for operands in (None, "tf32", "bfloat16")]
    assert_growing(SPECS[name], "default/normal", ladder, "operands")


@pytest.mark.parametrize("name", ["attention.scaled_dot_product", "matmul.tiled"])
def test_a_coarser_accumulator_never_shrinks_a_bound(name):
    ladder = [Precision(accumulate="float64"), Precision(), Precision(truncating=True)]
    assert_growing(SPECS[name], "default/normal", ladder, "accumulate")


@pytest.mark.parametrize("preset", ["strict32", "mixed16"])
def test_values_that_are_off_move_out_by_no_more_than_the_bound_says(preset):
    case = ATTENTION.case("float16/b1.h2.tq9.tk40.d16/mask-empty-rows/normal")
    [record] = evaluate(ATTENTION, case, draw(ATTENTION, case, "0"), np.float64)
    rounding, rng = PRESETS[preset].rounding("float16"), np.random.default_rng(0)
    term = logit_term(record, logit_error(record, rounding, 1, product_score_error))
    off = rng.random(record.v.shape)
    exact, moved = attended(record, rounding, term), attended(record, rounding, term, off)
    error = off * rng.choice([-1.0, 1.0], off.shape)
    assert (abs(record.weights @ error) <= moved.error - exact.error).all()
    assert (moved.error[np.isneginf(record.lse)] == 0).all()


def test_a_layer_whose_intermediates_are_coarser_has_a_larger_bound():
    layer = SPECS["attention.multi_head"]
    case = layer.case("float32/b1.hq4.hkv2.tq5.tk9.d8.e16/biases-normal/normal")
    ladder = [Precision(intermediates=name) for name in (None, "float32", "tf32", "bfloat16")]
    bounds = [expect(layer, case, each, "0", False)[1][0].bounds["out"] for each in ladder]
    for smaller, larger in pairwise(bounds):
        assert (smaller < larger).all()


def test_weights_rounded_after_normalisation_have_the_larger_bound():
    ladder = [Precision(weights="float16", normalised=late) for late in (False, True)]
    assert_growing(ATTENTION, "default/large-logit", ladder, "normalised")


@pytest.mark.parametrize("field", ["projections", "tanh", "scores", "weights", "operands"])
def test_a_coarser_rounding_on_the_way_to_a_score_never_shrinks_the_bound_of_additive_attention(
    field,
):
    names = LADDER if field != "operands" else (None, "tf32", "bfloat16")
    ladder = [Precision(**{field: name}) for name in names]
    assert_growing(ADDITIVE, "mask-random/normal", ladder, field)


def assert_growing(spec, point, ladder, field):
    """No bound shrinks from one precision to the next, and out's last exceeds its first."""
    own = {MATMUL: "m9.k40.n7", ADDITIVE: "b1.h8.tq9.tk40.dq16"}
    sizes = own.get(spec, "b1.h2.tq9.tk40.d16")
    case = spec.case(f"float32/{sizes}/{point}")
    bounds = [expect(spec, case, precision, "0", False)[1][0].bounds for precision in ladder]
    for smaller, larger in pairwise(bounds):
        for output in smaller:
            assert (smaller[output] <= larger[output]).all(), field
    assert (bounds[0]["out"] < bounds[-1]["out"]).all(), field


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_right_kernel_stays_within_the_bound_on_every_family(kernel, dtype):
    assert_within(family_cases(dtype), kernel)


@pytest.mark.parametrize("seed", range(10))
def test_a_right_kernel_stays_within_the_bound_on_random_cases(seed):
    kernel = list(KERNELS.values())[seed % len(KERNELS)]
    assert_within(small_cases(ATTENTION, seed, 40), kernel)


@pytest.mark.parametrize("dtype", SIXTEEN)
@pytest.mark.parametrize("seed", range(3))
def test_weights_in_the_declared_16_bit_format_stay_within_the_bound(seed, dtype):
    kernel = Kernel(block=64 if seed else 16, splits=1 + seed, weights=to(dtype))
    assert_within(family_cases(dtype) + small_cases(ATTENTION, 50 + seed, 30, dtype), kernel)


DECLARED = {
    "weights in bfloat16": (Precision(weights="bfloat16"), Kernel(weights=to("bfloat16"))),
    "weights in float16": (Precision(weights="float16"), Kernel(weights=to("float16"))),
    "scores in bfloat16": (Precision(scores="bfloat16"), Kernel(scores=to("bfloat16"))),
    "scores in float16": (Precision(scores="float16"), Kernel(scores=to("float16"))),
    "scaled query in float16": (
        Precision(scaled_query="float16"),
        Kernel(scaled_query=to("float16")),
    ),
    "scaled query in bfloat16": (
        Precision(scaled_query="bfloat16"),
        Kernel(scaled_query=to("bfloat16")),
    ),
    "tf32": (PRESETS["tf32"], Kernel(operands=TF32, weights=TF32)),
    "tf32 by truncation": (
        PRESETS["tf32"],
        Kernel(operands=TRUNCATED_TF32, weights=TRUNCATED_TF32),
    ),
}


@pytest.mark.parametrize(("precision", "kernel"), DECLARED.values(), ids=DECLARED)
def test_a_declared_rounding_stays_within_the_bound(precision, kernel):
    cases = family_cases("float32") + small_cases(ATTENTION, 70, 60, "float32")
    assert_within(cases, kernel, precision)


GENERIC = [
    "b2.h2.tq64.tk64.d64/default/normal",
    "b1.h2.tq33.tk129.d32/causal-bottom-right/normal",
    "b1.h2.tq1.tk257.d64/default/heavy-tailed",
    "b2.h2.tq65.tk64.d128/mask-random/normal",
    "b1.h2.tq33.tk50.d32/keep-0.5/normal",
]

UNDECLARED = {
    **{what: kernel for what, (_, kernel) in DECLARED.items()},
    "running sum in bfloat16": Kernel(row_sum=to("bfloat16")),
    "accumulator in bfloat16": Kernel(out=to("bfloat16")),
    "accumulator in float16": Kernel(out=to("float16")),
}


@pytest.mark.parametrize("point", GENERIC)
@pytest.mark.parametrize("kernel", UNDECLARED.values(), ids=UNDECLARED)
def test_an_undeclared_rounding_in_float32_exceeds_the_bound(kernel, point):
    assert attention_ratio(ATTENTION.case(f"float32/{point}"), kernel) > 1


@pytest.mark.parametrize("point", GENERIC)
@pytest.mark.parametrize("dtype", SIXTEEN)
def test_a_running_sum_in_bfloat16_exceeds_the_bound_of_16_bit_inputs_too(dtype, point):
    case = ATTENTION.case(f"{dtype}/{point}")
    assert attention_ratio(case, Kernel(weights=to(dtype), row_sum=to("bfloat16"))) > 1


@pytest.mark.parametrize("dtype", SIXTEEN)
def test_scores_in_16_bits_exceed_the_bound_of_a_kernel_that_declares_weights_only(dtype):
    case = ATTENTION.case(f"{dtype}/{GENERIC[0]}")
    assert attention_ratio(case, Kernel(weights=to(dtype), scores=to(dtype))) > 1


def eager(case, step, kernel):
    """Operator by operator in 16 bits: scaled query, scores and normalised weights are stored."""
    store, scale = to(case.dtype), step.options.get("scale")
    q, k, v = (step.inputs[name].astype(np.float32) for name in "qkv")
    scale = np.float32(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    with np.errstate(all="ignore"):
        scores = store(store(q * scale) @ k.swapaxes(-1, -2))
        scores = np.where(visible(case, step.options, scores.shape), scores, -np.inf)
        top = scores.max(-1, keepdims=True)
        exps = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = exps.sum(-1, keepdims=True)
        mask, rate = step.options.get("keep", (True, 0.0))
        weights = exps / np.where(total == 0, 1, total) * mask / np.float32(1 - rate)
        out, lse = store(weights) @ v, (top + np.log(total))[..., 0]
    return {"out": out.astype(NUMPY_DTYPES[case.dtype]), "lse": lse}


@pytest.mark.parametrize("dtype", SIXTEEN)
def test_eager_attention_in_16_bits_stays_within_the_bound_that_it_declares(dtype):
    cases = family_cases(dtype) + small_cases(ATTENTION, 90, 60, dtype)
    assert_within(cases, None, PRESETS["eager16"], eager)


# Gradients of attention ---------------------------------------------------------------------------


def drawn_gradients(family, dtype, *, hq=4, hkv=2, options=None, seed=0):
    """Exact gradients at inputs of a family in a dtype."""
    rng = np.random.default_rng(seed)
    rows, keys = (1, hq, 40, 32), (1, hkv, 70, 32)
    shapes = {"q": rows, "k": keys, "v": keys}
    drawn = ATTENTION.domain.families[family].draw(rng, shapes, {})
    drawn["d_out"] = rng.standard_normal(rows)
    x = {name: array.astype(NUMPY_DTYPES[dtype]).astype(float) for name, array in drawn.items()}
    d_out = x.pop("d_out")
    return attention_gradients(grouped_query(**x, **(options or {})), d_out, hkv)


def differentiated(exact, wide, seen, kept, scale):
    """dq, dk and dv by torch's differentiation of plain operators in one dtype."""
    x, hkv = exact.forward, exact.dk.shape[1]
    group = x.q.shape[1] // hkv
    q, k, v, d_out = (
        torch.from_numpy(np.ascontiguousarray(each)).to(wide)
        for each in (x.q, x.k[:, ::group], x.v[:, ::group], exact.d_out)
    )
    leaves = [each.requires_grad_() for each in (q, k, v)]
    k, v = (each.repeat_interleave(group, 1) for each in (k, v))
    scores = (q * scale) @ k.mT
    probs = scores.masked_fill(~torch.from_numpy(seen), -torch.inf).softmax(-1)
    weights = probs if kept is None else probs * torch.from_numpy(kept).to(wide)
    grads = torch.autograd.grad(weights @ v, leaves, d_out)
    return dict(zip(("dq", "dk", "dv"), grads, strict=True))


def gradient_ratio(exact, got, precision, dtype):
    """The largest error in bounds, rounded to the dtype."""
    bounds = gradients_bound(exact, PRESETS[precision].rounding(dtype))
    ratios = []
    for name, grad in got.items():
        error = abs(np.asarray(to(dtype)(grad.double().numpy())) - getattr(exact, name))
        assert np.isfinite(bounds[name]).all()
        ratios.append((error / np.where(error > 0, bounds[name], 1)).max())
    return max(ratios)


GRADIENT_FAMILIES = ("normal", "heavy-tailed", "large-logit", "value-offset", "cancelling", "faint")


@pytest.mark.parametrize("family", GRADIENT_FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        *(("float32", "strict32"), ("float16", "strict32"), ("bfloat16", "strict32")),
        *(("float16", "eager16"), ("bfloat16", "eager16")),
    ],
)
def test_differentiated_operators_stay_within_the_bound_of_gradients(family, dtype, precision):
    wide = getattr(torch, dtype if precision == "eager16" else "float32")
    keep = np.random.default_rng(1).random((1, 4, 40, 70)) < 0.5
    for options in ({}, {"causal": "top-left"}, {"scale": -0.3}, {"keep": (keep, 0.5)}):
        if family == "large-logit" and (precision == "eager16" or "scale" in options):
            continue  # weights that stored scores may move altogether
        exact = drawn_gradients(family, dtype, options=options)
        kept = 2.0 * keep if "keep" in options else None
        seen = exact.forward.scores > -np.inf
        got = differentiated(exact, wide, seen, kept, float(exact.forward.scale))
        assert gradient_ratio(exact, got, precision, dtype) <= 1, options


@pytest.mark.parametrize("family", ["normal", "heavy-tailed"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_operators_in_16_bits_exceed_the_bound_of_wide_ones(family, dtype):
    exact = drawn_gradients(family, dtype)
    seen = exact.forward.scores > -np.inf
    got = differentiated(exact, getattr(torch, dtype), seen, None, float(exact.forward.scale))
    assert gradient_ratio(exact, got, "strict32", dtype) > 1


@pytest.mark.parametrize("precision", ["strict32", "eager16"])
def test_gradients_that_nothing_leads_to_have_a_bound_of_exactly_zero(precision):
    rounding = PRESETS[precision].rounding("bfloat16")
    exact = drawn_gradients("normal", "bfloat16", hq=2, options={"causal": "bottom-right"})
    cut = replace(exact.forward, scores=np.full_like(exact.forward.scores, -np.inf))
    none = {name: np.zeros_like(getattr(cut, name)) for name in ("probs", "weights", "out")}
    cut = replace(cut, **none, lse=np.full_like(cut.lse, -np.inf))
    for each in (
        attention_gradients(cut, exact.d_out, 2),
        attention_gradients(exact.forward, 0 * exact.d_out, 2),
    ):
        assert not any(bound.any() for bound in gradients_bound(each, rounding).values())
    flat = gradients_bound(drawn_gradients("normal", "bfloat16", options={"scale": 0.0}), rounding)
    assert not flat["dq"].any()
    assert not flat["dk"].any()
    assert flat["dv"].all()


def test_rows_whose_weights_could_all_move_have_gradients_without_a_bound():
    exact = drawn_gradients("huge", "bfloat16")
    bounds = gradients_bound(exact, PRESETS["eager16"].rounding("bfloat16"))
    assert np.isinf(bounds["dq"]).all(-1).any()
    assert not any(np.isnan(bound).any() for bound in bounds.values())


def test_a_logit_error_that_could_move_all_weight_has_an_infinite_bound():
    case = ATTENTION.case("bfloat16/b1.h1.tq8.tk32.d32/default/huge")
    _, [expected] = expect(ATTENTION, case, PRESETS["eager16"], "0", False)
    assert np.isinf(expected.bounds["out"]).any()
    assert not np.isnan(expected.bounds["out"]).any()


# Additive attention -------------------------------------------------------------------------------

TANHS = {
    "a function": np.tanh,
    "one exponential": lambda a: 1 - np.float32(2) / (np.exp(2 * a) + 1),
    "a sigmoid": lambda a: np.float32(2) / (1 + np.exp(-2 * a)) - 1,
}


@pytest.mark.parametrize("tanh", TANHS.values(), ids=TANHS)
def test_tanh_in_float32_is_within_the_units_that_the_bound_allows(tanh):
    a = np.random.default_rng(0).uniform(-12, 12, 1_000_000).astype(np.float32)
    error = abs(tanh(a) - np.tanh(a.astype(np.float64)))
    assert error.max() <= TANH_UNITS * 2.0**-24


def additive_attention(x, tanh=np.tanh, stored=keep):
    """What a right kernel returns in float32, the bias added last and the keys in two parts."""
    queries, keys = stored(x["query"] @ x["w_query"]), stored(x["key"] @ x["w_key"])
    hidden = tanh(stored(stored(queries[:, :, None] + keys[:, None]) + x["bias"]))
    scores = hidden @ x["w_score"]
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    weights = exps / exps.sum(-1, keepdims=True)
    half = exps.shape[-1] // 2
    parts = (weights[..., j] @ x["value"][:, j] for j in (slice(half), slice(half, None)))
    return {"out": sum(parts), "weights": weights}


def additive_ratio(family, precision, **how):
    case = ADDITIVE.case(f"float32/b2.h24.tq9.tk40.dv8.dq12/default/{family}")
    [step], [expected] = expect(ADDITIVE, case, precision, "0", False)
    with np.errstate(all="ignore"):
        return worst_ratio(additive_attention(step.inputs, **how), expected)


@pytest.mark.parametrize("tanh", TANHS.values(), ids=TANHS)
@pytest.mark.parametrize("family", [f for f in ADDITIVE.domain.families if f != "masked-huge"])
def test_additive_attention_in_float32_stays_within_its_bound(family, tanh):
    assert additive_ratio(family, Precision(), tanh=tanh) <= 1


@pytest.mark.parametrize("name", SIXTEEN)
@pytest.mark.parametrize("family", ["normal", "large-score", "saturated", "captured"])
def test_stored_projections_and_tanh_stay_within_the_bound_where_they_are_declared(family, name):
    def tanh(a):
        return to(name)(np.tanh(a))

    how = {"tanh": tanh, "stored": to(name)}
    assert additive_ratio(family, Precision(projections=name, tanh=name), **how) <= 1
    if family != "saturated":  # where tanh is 1, it needs no rounding
        assert additive_ratio(family, Precision(), stored=to(name)) > 1
        assert additive_ratio(family, Precision(), tanh=tanh) > 1


@pytest.mark.parametrize(("a", "u"), [(0.0, 2.0**-53), (1.5, 2.0**-24), (-3.0, 2.0**-24)])
def test_a_score_of_one_unit_has_the_error_that_one_works_out_by_hand(a, u):
    ones, none = np.ones((1, 1, 1)), np.zeros((1, 1))
    exact = additive(ones, ones, ones, none + a / 2, none + a / 4, np.array([a / 4]), np.ones(1))
    rounding = Precision(accumulate="float64" if u < 2.0**-50 else "float32").rounding("float64")
    argument = 3 * u * abs(a)  # two products of one term and two additions, in any order
    t = np.tanh(abs(a))
    passed = (1 - t**2) * argument
    assert score_error(exact, rounding).item() == pytest.approx(
        passed + TANH_UNITS * u + u * t, rel=1e-3
    )


def test_the_query_beside_a_decoder_s_out_has_a_bound_and_a_spread_of_zero():
    case = ADDITIVE.case("bfloat16/b1.h8.tq5.tk9.dv4.dq6/form-decoder/normal")
    _, [expected] = expect(ADDITIVE, case, resolve_precision(None, "bfloat16"), "0", False)
    assert (expected.bounds["out"][..., 4:] == 0).all()
    assert (expected.bounds["out"][..., :4] > 0).all()
    for part in expected.spreads["out"].parts():
        assert (part[..., 4:] == 0).all()


# Products -----------------------------------------------------------------------------------------


def sums_in_blocks(a, b, size, store):
    """Chunks of products, the running sum stored after each."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for start in range(0, a.shape[1], size):
        part = slice(start, start + size)
        total = store(total + a[:, part] @ b[part])
    return total


def toward_zero(x):
    """float64 to float32 by truncation, as tensor cores accumulate."""
    near = x.astype(np.float32)
    away = abs(near.astype(np.float64)) > abs(x)
    return np.where(away, np.nextafter(near, np.float32(0)), near).astype(np.float64)


MULTIPLICATIONS = {
    "blocks of 16": lambda a, b: sums_in_blocks(a, b, 16, keep),
    "one product at a time": lambda a, b: sums_in_blocks(a, b, 1, keep),
    "whole": lambda a, b: a @ b,
    "split in two": lambda a, b: a[:, ::2] @ b[::2] + a[:, 1::2] @ b[1::2],
}


def product_ratio(case, multiply, precision=None, wide=np.float32):
    precision = precision or resolve_precision(None, case.dtype)
    [step], [expected] = expect(MATMUL, case, precision, "0", False)
    wide = np.float64 if case.dtype == "float64" else wide
    with np.errstate(all="ignore"):
        out = multiply(step.inputs["a"].astype(wide), step.inputs["b"].astype(wide))
        return worst_ratio({"out": out.astype(NUMPY_DTYPES[case.dtype])}, expected)


def product_cases(dtype, seed):
    families = [family for family in MATMUL.domain.families if family != "captured"]
    cases = [MATMUL.case(f"{dtype}/m17.k100.n9/default/{family}") for family in families]
    cases.append(MATMUL.case(f"{dtype}/m40.k384.n20/default/captured"))
    return cases + small_cases(MATMUL, seed, 25, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiply", MULTIPLICATIONS.values(), ids=MULTIPLICATIONS)
def test_a_product_summed_in_any_order_stays_within_the_bound(multiply, dtype):
    for case in product_cases(dtype, 11):
        assert product_ratio(case, multiply) <= 1, case.id


@pytest.mark.parametrize("dtype", SIXTEEN)
def test_a_truncating_accumulator_stays_within_the_bound_that_it_declares(dtype):
    def multiply(a, b):
        return sums_in_blocks(a, b, 16, toward_zero)

    for case in product_cases(dtype, 12):
        assert product_ratio(case, multiply, Precision(truncating=True), np.float64) <= 1, case.id


@pytest.mark.parametrize("shorten", [TF32, TRUNCATED_TF32], ids=["rounded", "truncated"])
def test_tf32_operands_stay_within_the_bound_only_where_they_are_declared(shorten):
    def multiply(a, b):
        return shorten(a) @ shorten(b)

    cases = product_cases("float32", 13)
    assert max(product_ratio(case, multiply, PRESETS["tf32"]) for case in cases) <= 1
    assert min(product_ratio(case, multiply) for case in cases[:3]) > 1


@pytest.mark.parametrize("dtype", ["float32", *SIXTEEN])
@pytest.mark.parametrize("point", ["m48.k1024.n40/default/positive", "m40.k512.n40/default/normal"])
def test_an_accumulator_in_bfloat16_exceeds_the_bound_of_every_dtype(point, dtype):
    case = MATMUL.case(f"{dtype}/{point}")
    assert product_ratio(case, lambda a, b: sums_in_blocks(a, b, 16, to("bfloat16"))) > 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_accumulator_in_float16_exceeds_the_bound_of_the_finer_dtypes(dtype):
    case = MATMUL.case(f"{dtype}/m48.k1024.n40/default/positive")
    assert product_ratio(case, lambda a, b: sums_in_blocks(a, b, 16, to("float16"))) > 1


@pytest.mark.parametrize("name", SPECS)
def test_the_bound_of_a_dtype_is_never_below_one_rounding_of_its_result(name):
    spec = SPECS[name]
    for dtype in DTYPES:
        case = spec.case(f"{dtype}/{spec.domain.smoke[0]}")
        _, expected = expect(spec, case, resolve_precision(None, dtype), "0", False)
        for each in expected:
            out = each.outputs.get("out", np.zeros(0))
            assert (each.bounds.get("out", out) >= FORMATS[dtype].unit * abs(out)).all()


@pytest.mark.skipif(extended_significand() is None, reason="float64 is this machine's widest float")
def test_float64_bounds_carry_the_error_of_the_reference_beside_the_kernel_s():
    case = ATTENTION.case("float64/b1.h2.tq9.tk20.d16/default/normal")
    precision = resolve_precision(None, "float64")
    steps, [expected] = expect(ATTENTION, case, precision, "0", False)
    [record] = evaluate(ATTENTION, case, steps, np.longdouble)
    alone = ATTENTION.accuracy.worst_case(record, precision.rounding("float64"))
    assert expected.outputs["out"].dtype == np.longdouble
    assert (expected.bounds["out"] > alone["out"]).all()
    assert (expected.bounds["out"] < 1.01 * alone["out"]).all()


@pytest.mark.parametrize(("tk", "blocks"), [(1, 1), (16, 1), (17, 2), (160, 10)])
@pytest.mark.parametrize(
    ("dtype", "u", "stored"),
    [
        ("float64", 2.0**-53, 2.0**-53),
        ("float32", 2.0**-24, 2.0**-24),
        ("bfloat16", 2.0**-23, 2.0**-24),
    ],
)
def test_equal_weights_have_the_bound_that_one_works_out_by_hand(dtype, u, stored, tk, blocks):
    case = ATTENTION.case(f"{dtype}/b1.h1.tq2.tk{tk}.d16/scale-0.0/unit-value")
    _, [expected] = expect(ATTENTION, case, resolve_precision(None, dtype), "0", False)
    logit = u * (4 + 5 * (blocks - 1))
    lse = logit + tk * u + 5 * u * blocks + (2 * u + stored) * math.log(tk)
    cast = FORMATS[dtype].unit if dtype == "bfloat16" else 0.0
    out = 2 * logit + cast + tk * u + (tk + 3) * u + FORMATS[dtype].unit
    assert np.allclose(expected.bounds["lse"], lse, rtol=0.01, atol=0)
    assert np.allclose(expected.bounds["out"], out, rtol=0.01, atol=0)


@pytest.mark.parametrize(("splits", "parts", "levels"), [(1, 1, 1), (4, 4, 2), (400, 160, 8)])
@pytest.mark.parametrize(("dtype", "u"), [("float32", 2.0**-24), ("bfloat16", 2.0**-23)])
def test_merging_equal_weights_adds_what_one_works_out_by_hand(dtype, u, splits, parts, levels):
    spec, whole = SPECS["attention.flash_decoding"], SPECS["attention.grouped_query"]
    precision, lse = resolve_precision(None, dtype), math.log(160)
    bounds = []
    for each, sizes, option in ((spec, "tk160", f"splits-{splits}+"), (whole, "tq1.tk160", "")):
        case = each.case(f"{dtype}/b1.hq1.hkv1.{sizes}.d16/{option}scale-0.0/unit-value")
        bounds.append(expect(each, case, precision, "0", False)[1][0].bounds)
    # an lse is off by (2 + 3) u |lse| and its storage, a share by (2 + 3) u |lse| + 4 u
    merged = levels * ((10 * u + 2.0**-24) * lse + 4 * u) + 7 * u * parts
    assert np.allclose(bounds[0]["lse"] - bounds[1]["lse"], merged, rtol=0.01, atol=0)
    assert np.allclose(bounds[0]["out"] - bounds[1]["out"], 2 * merged, rtol=0.03, atol=0)


SAFE, ONLINE = SPECS["softmax.safe"].accuracy, SPECS["softmax.online"].accuracy


@pytest.mark.parametrize(("n", "blocks"), [(2, 1), (16, 1), (17, 2), (160, 10)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_softmax_of_zeros_has_the_bound_that_one_works_out_by_hand(dtype, n, blocks):
    rounding, exact = resolve_precision(None, dtype).rounding(dtype), online(np.zeros((3, n)))
    u = FORMATS[dtype].unit
    for accuracy, rescales in ((SAFE, 0), (ONLINE, 5 * (blocks - 1))):
        out = (2 * (4 + rescales) + n + 3 + 1) * u / n
        assert np.allclose(accuracy.worst_case(exact, rounding)["out"], out, rtol=0.01, atol=0)
    lse = (4 + 5 * (blocks - 1) + n + 5 * blocks + 3 * math.log(n)) * u
    assert np.allclose(ONLINE.worst_case(exact, rounding)["lse"], lse, rtol=0.01, atol=0)
    assert set(SAFE.worst_case(exact, rounding)) == {"out"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_a_softmax_is_certain_its_bound_is_exactly_zero(dtype):
    x = np.array([[1.0, -np.inf, 2.0], [-np.inf] * 3])
    bounds = ONLINE.worst_case(online(x), resolve_precision(None, dtype).rounding(dtype))
    assert np.array_equal(bounds["out"] == 0, x == -np.inf)
    assert np.array_equal(bounds["lse"] == 0, [False, True])


def test_a_row_far_beyond_its_precision_has_an_infinite_bound():
    x = np.array([[1e9, 0.0], [1.0, 0.0]])
    bound = SAFE.worst_case(online(x), resolve_precision(None, "float32").rounding("float32"))
    assert np.array_equal(np.isinf(bound["out"]), [[True] * 2, [False] * 2])


def test_equal_numbers_of_a_row_are_rounded_alike_and_their_errors_add_up():
    assert copies(np.array([[1.0, 2, 1, 1], [3, 4, 5, 4]])).tolist() == [[3, 1, 3, 3], [1, 2, 1, 2]]
    exact = online(np.zeros((1, 10_000)))
    rounding = resolve_precision(None, "bfloat16").rounding("bfloat16")
    error = to("bfloat16")(exact.out) - exact.out
    assert abs(error.sum()) <= signed_sum_limit(SAFE.spread(exact, rounding)["out"])
    apart = online(np.linspace(-1e-3, 1e-3, 10_000)[None])
    assert abs(error.sum()) > signed_sum_limit(SAFE.spread(apart, rounding)["out"])


@pytest.mark.parametrize("k", [1, 64, 500])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_product_of_ones_has_the_bound_that_one_works_out_by_hand(dtype, k):
    ones = np.ones((2, k)), np.ones((k, 3))
    rounding = resolve_precision(None, dtype).rounding(dtype)
    got = MATMUL.accuracy.worst_case(MATMUL.reference(*ones), rounding)["out"]
    assert np.allclose(got, (k + 1) * FORMATS[dtype].unit * k, rtol=0.01, atol=0)


def test_the_kernel_of_these_tests_is_one_that_the_bound_can_fail():
    case = ATTENTION.case("float32/b1.h2.tq9.tk40.d16/default/normal")
    wrong = replace(Kernel(), scores=lambda scores: scores * np.float32(1.001))
    assert attention_ratio(case, wrong) > 1


# Fast products ------------------------------------------------------------------------------------


def fast_errors(variant, levels, scale):
    """Errors of the recursion in float32, its bound, and gamma_k |a| |b|, on graded factors."""
    rng = np.random.default_rng(7)
    grades = np.logspace(0, -scale, 64)
    a = (rng.standard_normal((64, 64)) * grades[:, None]).astype(np.float32)
    b = (rng.standard_normal((64, 64)) * grades).astype(np.float32)
    exact = strassen(a.astype(float), b.astype(float), levels=levels, variant=variant)
    error = abs(by_blocks(FORMS[variant], a, b, levels) - exact.out)
    rounding = PRESETS["strict32"].rounding("float32")
    return error, strassen_bound(exact, rounding)["out"], exact


@pytest.mark.parametrize("variant", FORMS)
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("scale", [0, 3, 6])
def test_a_fast_product_in_float32_stays_within_its_bound(variant, levels, scale):
    error, bound, _ = fast_errors(variant, levels, scale)
    assert (error <= bound).all()


def test_no_multiple_of_the_classical_bound_holds_for_a_fast_product():
    error, _, exact = fast_errors("strassen", 3, 6)
    classical = gamma(64, 2.0**-24) * (abs(exact.a) @ abs(exact.b))
    assert (error / classical).max() > 1e4


@pytest.mark.parametrize(("large", "finite"), [(1e18, True), (3e18, True), (1e19, False)])
def test_what_may_overflow_on_the_way_has_no_bound(large, finite):
    a, b = np.full((2, 2), large), np.full((2, 2), large)
    exact = strassen(a, b, levels=1)
    bound = strassen_bound(exact, PRESETS["strict32"].rounding("float32"))["out"]
    assert np.isfinite(bound).all() == finite
    assert np.isfinite(PRESETS["strict32"].rounding("float32").out.largest - exact.out).all()


def test_a_block_sum_that_may_overflow_leaves_no_bound_though_the_product_is_small():
    a, b = np.full((2, 2), 2e38), np.full((2, 2), 1e-30)
    bound = strassen_bound(strassen(a, b, levels=1), PRESETS["strict32"].rounding("float32"))
    assert np.isinf(bound["out"]).all()


@pytest.mark.parametrize(("variant", "reach"), [("strassen", 2), ("winograd", 4)])
def test_a_product_reaches_the_quadrants_that_the_spread_says(variant, reach):
    def quadrants(number):
        made = count(1)
        nothing, one = np.zeros((1, 1)), np.ones((1, 1))
        blocks = ((nothing, nothing), (nothing, nothing))
        mul = lambda x, y: one if next(made) == number else nothing  # noqa: E731
        found = FORMS[variant](blocks, blocks, mul, np.add, np.subtract)
        return sum(bool(c.any()) for row in found for c in row)

    assert max(map(quadrants, range(1, 8))) == reach
    exact = strassen(np.ones((8, 8)), np.ones((8, 8)), levels=3, variant=variant)
    rounding = PRESETS["strict32"].rounding("float32")
    assert strassen_spread(exact, rounding)["out"].shared == reach**3


@pytest.mark.parametrize("variant", list(FORMS))
def test_the_additions_that_a_bound_counts_are_those_of_the_longest_path(variant):
    before = []

    def product(x, y):
        before.append(x + y)
        return x + y

    def addition(x, y):
        return max(x, y) + 1

    zeros = ((0, 0), (0, 0))
    whole = FORMS[variant](zeros, zeros, product, addition, addition)
    assert max(before) == BEFORE[variant]
    assert max(*whole[0], *whole[1]) == BEFORE[variant] + AFTER


# Buckets ------------------------------------------------------------------------------------------


def hashed(gap, dtype, preset=None, *, bits=8):
    """The bound of out of two heads of LSH attention: in the first, the two largest of [x R; -x R]
    of one token are 1 and so much less. Other tokens have so many bits."""
    qk = np.random.default_rng(0).integers(1, 2**bits, (1, 2, 8, 2)) * 2.0**-bits
    qk[..., 0] += 1
    qk[0, 0, 3] = 1.0, 1.0 - gap
    spec, precision = SPECS["approximate.lsh"], resolve_precision(preset, dtype)
    record = spec.reference(qk, np.ones((1, 2, 8, 3)), np.eye(2)[None])
    return spec.accuracy.worst_case(record, precision.rounding(dtype))["out"][0]


@pytest.mark.parametrize(("dtype", "u"), [("float64", 2.0**-53), ("float32", 2.0**-24)])
def test_a_head_has_no_bound_where_a_rounding_could_move_a_token_to_another_bucket(dtype, u):
    # each of the two is off by 2 u of its sum, 6 u of a length
    assert np.isinf(hashed(15 * u, dtype)[0]).all()
    assert np.isfinite(hashed(15 * u, dtype)[1]).all()
    assert np.isfinite(hashed(17 * u, dtype)).all()


@pytest.mark.parametrize(("bits", "bounded"), [(7, True), (20, False)])
def test_a_cast_of_operands_moves_no_token_if_it_changes_none(bits, bounded):
    bound = hashed(2.0**-10, "float32", "tf32", bits=bits)[0]
    assert np.isfinite(bound).all() == bounded


def orthogonalised(rows, dtype="float32"):
    """The bound of features, block by block: n d."""
    spec = load_spec("approximate.features")
    with np.errstate(all="ignore"):
        record = spec.reference(np.array(rows, np.float64), np.ones(len(rows)))
        rounding = resolve_precision("strict32", dtype).rounding(dtype)
        return spec.accuracy.worst_case(record, rounding)["features"]


@pytest.mark.parametrize("left", [0.0, 2.0**-24])
def test_rows_that_depend_on_those_before_and_those_behind_them_have_no_bound(left):
    bound = orthogonalised([[1, 0, 0], [1, left, 0], [0, 1, 1], *np.eye(3)])
    assert np.isinf(bound[1:3]).all()
    assert np.isfinite(bound[[0, 3, 4, 5]]).all()
    assert np.isfinite(orthogonalised([[1, 0, 0], [1, 2.0**-10, 0], [0, 1, 1]])).all()


def test_features_are_made_of_rows_that_are_independent_in_every_format():
    spec = load_spec("approximate.features")
    for number in range(20):
        case = spec.case("bfloat16/d2.r1000/default/ill-conditioned")
        [step] = draw(spec, case, str(number))
        blocks = step.inputs["gaussians"].astype(np.float64).reshape(-1, 2, 2)
        assert (np.linalg.det(blocks) != 0).all()
    with pytest.raises(ValueError, match="layout expanded: wanted contiguous"):
        spec.case("float32/d8.r20/default/normal/expanded")


def test_exponents_of_features_may_be_summed_up_in_any_order():
    """In float32, where a = w x - |x|^2 / 2 is far smaller than either: 3 u (|a| + |c| + |a - c|) +
    4 u do not cover all of them."""
    rng, u = np.random.default_rng(0), 2.0**-24
    half = (40 * rng.random((400, 1))).astype(np.float32)
    along = half + rng.standard_normal((400, 8)).astype(np.float32)
    c = np.float32((along - half).max())
    terms = [known(along.astype(np.float64)), known(-half.astype(np.float64))]
    rounding = resolve_precision("strict32", "float32").rounding("float32")
    held, base = exponential(terms, None, rounding), np.float32(np.log2(np.e))
    exact = np.exp(along.astype(np.longdouble) - half - c)
    top, least = along.max(), half.min()
    for got, lowered_by in (
        (np.exp(along - (half + c)), c),
        (np.exp2(along * base - (half * base + c * base)), c),
        (np.exp(along - top) * np.exp(least - half), np.float64(top) - least),
    ):
        assert got.dtype == np.float32
        got = got * np.exp(np.float64(lowered_by) - c)  # another constant cancels, too
        assert (abs(got - exact) <= held.error + 2 * np.finfo(np.float64).eps).all()
    a = abs(along - half)
    alone = (3 * (a + abs(c) + abs(along - half - c)) + 4) * u * exact
    assert (abs(np.exp(along - (half + c)) - exact) > alone).any()
