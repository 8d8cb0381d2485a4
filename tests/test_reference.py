"""The references, certified against scalar loops at 50 digits."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.reference.approximate.features import features
from kernelproof.reference.approximate.linformer import linformer
from kernelproof.reference.approximate.lsh import hash_tokens, lsh
from kernelproof.reference.approximate.performer import performer
from kernelproof.reference.attention.additive import additive
from kernelproof.reference.attention.dot_product import dot_product
from kernelproof.reference.attention.flash_decoding import flash_decoding
from kernelproof.reference.attention.fused import fused
from kernelproof.reference.attention.gradients import attention_gradients
from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.multi_head import multi_head
from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product
from kernelproof.reference.attention.uptrain import uptrain
from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.reference.cache.paged import paged
from kernelproof.reference.cache.paged_manager import PagedManager
from kernelproof.reference.matmul.forms import FORMS
from kernelproof.reference.matmul.strassen import by_blocks, strassen
from kernelproof.reference.matmul.tiled import tiled
from kernelproof.reference.softmax.online import EMPTY, merge, online
from kernelproof.reference.softmax.safe import safe
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.rounding import reference_rounding

mp = mpmath.MPContext()
mp.dps = 50

SIGNIFICANDS = {np.float64: 53, np.longdouble: np.finfo(np.longdouble).nmant + 1}
WIDE = pytest.mark.parametrize("wide", SIGNIFICANDS, ids=["float64", "longdouble"])


def digits(x):
    """A NumPy float as an mpmath number, without loss: its first 53 bits and the rest."""
    head = float(x)
    return mp.mpf(head) + (mp.mpf(float(x - type(x)(head))) if math.isfinite(head) else 0)


def sees(i, j, tq, tk, causal):
    """Counted from the first positions (top-left) or from the last ones (bottom-right)."""
    return causal is None or (j <= i if causal == "top-left" else tk - j >= tq - i)


def attention_row(q, keys, values, scale):
    """One query over the keys and values that it sees: out, one per channel, and lse."""
    scores = [
        scale * mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(q, k, strict=True)) for k in keys
    ]
    if not scores:
        return None, -mp.inf
    exps = [mp.exp(s) for s in scores]
    total = mp.fsum(exps)
    out = [
        mp.fsum(e * w * mp.mpf(v[c]) for e, (w, v) in zip(exps, values, strict=True)) / total
        for c in range(len(values[0][1]))
    ]
    return out, mp.log(total)


def attention(q, k, v, mask=None, causal=None, scale=None, keep=None, group=1):
    """out and lse by plain loops over batch, head, query, key and channel."""
    (b, h, tq, d), tk, dv = q.shape, k.shape[2], v.shape[3]
    scale = 1 / mp.sqrt(d) if scale is None else mp.mpf(scale)
    out = np.full((b, h, tq, dv), mp.mpf(0), dtype=object)
    lse = np.full((b, h, tq), -mp.inf, dtype=object)
    for n, head, i in np.ndindex(b, h, tq):
        keys, values = [], []
        for j in range(tk):
            if sees(i, j, tq, tk, causal) and (mask is None or mask[n, head, i, j]):
                kept = keep is None or keep[0][n, head, i, j]
                weight = mp.mpf(0) if not kept else 1 / (1 - mp.mpf(keep[1] if keep else 0))
                keys.append(k[n, head // group, j].tolist())
                values.append((weight, v[n, head // group, j].tolist()))
        row, lse[n, head, i] = attention_row(q[n, head, i].tolist(), keys, values, scale)
        if row is not None:
            out[n, head, i] = row
    return {"out": out, "lse": lse}


def slopes(attend, x, d_out, options):
    """Derivatives of sum(d_out out) by every element of q, k and v, from its neighbours."""
    step = np.longdouble(2) ** -24

    def objective(name, index, by):
        moved = {each: array.copy() for each, array in x.items()}
        moved[name][index] += by
        return (d_out * attend(**moved, **options).out).sum()

    found = {name: np.zeros_like(array) for name, array in x.items()}
    for name, slope in found.items():
        for index in np.ndindex(slope.shape):
            ends = (objective(name, index, by) for by in (step, -step))
            slope[index] = np.subtract(*ends) / (2 * step)
    return found


def additive_attention(query, key, value, w_query, w_key, bias, w_score, *, mask=None):
    """out and weights by plain loops over batch, query, key and hidden unit."""
    (b, tq, _), (_, tk, dv) = query.shape, value.shape
    out = np.full((b, tq, dv), mp.mpf(0), dtype=object)
    weights = np.full((b, tq, tk), mp.mpf(0), dtype=object)

    def unit(n, i, j, c):
        terms = [(query[n, i], w_query[:, c]), (key[n, j], w_key[:, c]), ([bias[c]], [1])]
        pairs = (pair for a, w in terms for pair in zip(a, w, strict=True))
        return mp.tanh(mp.fsum(mp.mpf(x) * mp.mpf(y) for x, y in pairs))

    for n, i in np.ndindex(b, tq):
        seen = [j for j in range(tk) if mask is None or mask[n, i, j]]
        scores = {
            j: mp.fsum(mp.mpf(w) * unit(n, i, j, c) for c, w in enumerate(w_score)) for j in seen
        }
        total = mp.fsum(mp.exp(score) for score in scores.values())
        for j, score in scores.items():
            weights[n, i, j] = mp.exp(score) / total
        for c in range(dv if seen else 0):
            out[n, i, c] = mp.fsum(weights[n, i, j] * mp.mpf(value[n, j, c]) for j in seen)
    return {"out": out, "weights": weights}


def matrix_product(a, b):
    out = np.full((a.shape[0], b.shape[1]), mp.mpf(0), dtype=object)
    for i, j in np.ndindex(*out.shape):
        out[i, j] = mp.fsum(
            mp.mpf(float(a[i, p])) * mp.mpf(float(b[p, j])) for p in range(a.shape[1])
        )
    return {"out": out}


def worst_ratio(spec, record, exact, wide):
    """The largest error of the reference in units of the bound on its own error."""
    bounds = load_spec(spec).accuracy.worst_case(
        record, reference_rounding("float64", SIGNIFICANDS[wide])
    )
    ratios = [0.0]
    for name, values in exact.items():
        got = getattr(record, name)
        assert got.dtype == wide
        assert got.shape == values.shape
        for index, want in np.ndenumerate(values):
            if want == -mp.inf:
                assert got[index] == -np.inf
                continue
            error, bound = abs(digits(got[index]) - want), digits(bounds[name][index])
            ratios.append(float(error / bound) if error else 0.0)
    return max(ratios)


def draw(b=2, h=2, tq=4, tk=6, d=3, dv=2, hkv=None, size=1.0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"q": (b, h, tq, d), "k": (b, hkv or h, tk, d), "v": (b, hkv or h, tk, dv)}
    return {name: size * rng.standard_normal(shape) for name, shape in shapes.items()}


def widened(x, wide):
    return {name: array.astype(wide) for name, array in x.items()}


def masks(tq=4, tk=6):
    rng = np.random.default_rng(1)
    mask = rng.random((2, 2, tq, tk)) < 0.6
    mask[0, 1, 2] = mask[1, 0] = False
    return mask, (rng.random((2, 2, tq, tk)) < 0.5, 0.1)


MASK, KEEP = masks()
CASES = {
    "default": ({}, {}),
    "causal top-left, fewer queries": ({}, {"causal": "top-left"}),
    "causal bottom-right, fewer queries": ({}, {"causal": "bottom-right"}),
    "causal top-left, more queries": ({"tq": 5, "tk": 3}, {"causal": "top-left"}),
    "causal bottom-right, more queries": ({"tq": 5, "tk": 3}, {"causal": "bottom-right"}),
    "scale zero": ({}, {"scale": 0.0}),
    "scale one": ({}, {"scale": 1.0}),
    "scale negative": ({}, {"scale": -0.7}),
    "mask with empty rows": ({}, {"mask": MASK}),
    "mask and causal": ({}, {"mask": MASK, "causal": "bottom-right"}),
    "dropout": ({}, {"keep": KEEP}),
    "dropout, mask and causal": ({}, {"keep": KEEP, "mask": MASK, "causal": "top-left"}),
    "no keys": ({"tk": 0}, {}),
    "no queries": ({"tq": 0}, {}),
    "one query, one key": ({"tq": 1, "tk": 1}, {}),
    "wider values": ({"d": 2, "dv": 5}, {}),
    "large logits": ({"size": 20.0}, {}),
    "small logits": ({"size": 1e-4}, {}),
}


@WIDE
@pytest.mark.parametrize(("sizes", "options"), CASES.values(), ids=CASES)
def test_attention_differs_from_50_digits_by_no_more_than_its_own_bound(sizes, options, wide):
    x = draw(**sizes)
    record = scaled_dot_product(**widened(x, wide), **options)
    exact = attention(**x, **options)
    assert worst_ratio("attention.scaled_dot_product", record, exact, wide) <= 1


def draw_additive(tq=3, tk=4, h=5, size=1.0):
    rng = np.random.default_rng(3)
    shapes = {"query": (2, tq, 2), "key": (2, tk, 3), "value": (2, tk, 4)}
    shapes |= {"w_query": (2, h), "w_key": (3, h), "bias": (h,), "w_score": (h,)}
    return {name: size * rng.standard_normal(shape) for name, shape in shapes.items()}


ADDITIVE_CASES = {
    "default": {},
    "saturated units, large scores": {"size": 20.0},
    "small arguments": {"size": 1e-3},
    "no keys": {"tk": 0},
    "no queries": {"tq": 0},
    "no hidden units": {"h": 0},
}


@WIDE
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", ADDITIVE_CASES.values(), ids=ADDITIVE_CASES)
def test_additive_attention_differs_from_50_digits_by_no_more_than_its_own_bound(
    sizes, masked, wide
):
    x = draw_additive(**sizes)
    shape = (2, x["query"].shape[1], x["key"].shape[1])
    mask = np.random.default_rng(1).random(shape) < 0.6 if masked else None
    record = additive(**widened(x, wide), mask=mask)
    assert worst_ratio("attention.additive", record, additive_attention(**x, mask=mask), wide) <= 1


def test_a_decoder_gets_the_context_and_behind_it_the_query():
    x = draw_additive()
    plain, decoder = additive(**x), additive(**x, form="decoder")
    assert np.array_equal(decoder.out[..., :4], plain.out)
    assert np.array_equal(decoder.out[..., 4:], x["query"])
    assert np.array_equal(decoder.weights, plain.weights)


def test_two_keys_of_one_hidden_unit_weigh_as_one_works_out_by_hand():
    one = np.ones((1, 1))
    key = np.array([[[0.0], [math.atanh(0.5)]]])
    value = np.array([[[1.0], [5.0]]])
    got = additive(0 * one[None], key, value, one, one, np.zeros(1), np.array([2 * math.log(3)]))
    # scores of 0 and 2 log 3 tanh(artanh 1/2) = log 3: weights of 1/4 and 3/4
    assert got.weights[0, 0] == pytest.approx([0.25, 0.75])
    assert got.out.item() == pytest.approx(4.0)


@WIDE
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("hq", "hkv"), [(4, 2), (6, 2), (3, 1), (2, 2)])
def test_grouped_query_attention_reads_key_head_h_div_g(hq, hkv, seed, wide):
    x = draw(h=hq, hkv=hkv, seed=seed)
    record = grouped_query(**widened(x, wide))
    exact = attention(**x, group=hq // hkv)
    assert worst_ratio("attention.scaled_dot_product", record, exact, wide) <= 1


def assert_gradients_are_slopes(attend, x, options):
    x = widened(x, np.longdouble)
    forward = attend(**x, **options)
    d_out = np.random.default_rng(3).standard_normal(forward.out.shape).astype(np.longdouble)
    found = attention_gradients(forward, d_out, x["k"].shape[1])
    for name, slope in slopes(attend, x, d_out, options).items():
        got = getattr(found, f"d{name}")
        assert got.dtype == np.longdouble
        assert got.shape == slope.shape
        np.testing.assert_allclose(got, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sizes", "options"), CASES.values(), ids=CASES)
def test_gradients_of_attention_are_its_slopes(sizes, options):
    assert_gradients_are_slopes(scaled_dot_product, draw(**sizes), options)


@pytest.mark.parametrize(("hq", "hkv"), [(4, 2), (3, 1)])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
def test_gradients_of_keys_and_values_are_summed_over_the_query_heads_of_a_group(hq, hkv, causal):
    x = draw(b=1, h=hq, hkv=hkv, tq=5, tk=4)
    assert_gradients_are_slopes(grouped_query, x, {"causal": causal})


@pytest.mark.parametrize("heads", [(0, 0), (0, 1), (2, 1)])
def test_gradients_without_heads_rows_or_keys_are_empty_or_zero(heads):
    hq, hkv = heads
    for tq, tk in ((0, 3), (3, 0), (2, 3)):
        x = draw(h=hq, hkv=hkv, tq=tq, tk=tk) if hkv else draw(h=0, tq=tq, tk=tk)
        forward = grouped_query(**x)
        found = attention_gradients(forward, np.ones_like(forward.out), x["k"].shape[1])
        for name, array in x.items():
            assert getattr(found, f"d{name}").shape == array.shape
            if not (hq and tq and tk):
                assert not getattr(found, f"d{name}").any()


@pytest.mark.parametrize("options", [{"mask": MASK}, {"causal": "bottom-right"}])
def test_rows_without_a_key_have_and_add_exactly_no_gradient(options):
    x = draw(tq=4, tk=6) if "mask" in options else draw(tq=5, tk=3)
    forward = scaled_dot_product(**x, **options)
    empty = np.isneginf(forward.lse)
    d_out = np.where(empty[..., None], 1e30, 1.0) * np.ones_like(forward.out)
    found = attention_gradients(forward, d_out, 2)
    assert empty.any()
    assert not found.dq[empty].any()
    assert all(abs(each).max() < 100 for each in (found.dq, found.dk, found.dv))


def projected(x, w, bias, heads):
    """x w + bias by plain loops, one head after the other: b heads t d."""
    (b, t, e), d = x.shape, w.shape[1] // heads
    out = np.full((b, heads, t, d), mp.mpf(0), dtype=object)
    for n, head, i, c in np.ndindex(*out.shape):
        column = head * d + c
        terms = [mp.mpf(x[n, i, p]) * mp.mpf(w[p, column]) for p in range(e)]
        out[n, head, i, c] = mp.fsum([*terms, mp.mpf(bias[column])])
    return out


def layer(x_q, x_kv, w_q, w_k, w_v, w_o, heads, kv_heads, biases, **options):
    q = projected(x_q, w_q, biases[0], heads)
    k, v = (projected(x_kv, w, b, kv_heads) for w, b in ((w_k, biases[1]), (w_v, biases[2])))
    out = attention(q, k, v, group=heads // kv_heads, **options)["out"]
    b, _, tq, dv = out.shape
    joined = np.full((b, tq, heads * dv), mp.mpf(0), dtype=object)
    for n, head, i, c in np.ndindex(*out.shape):
        joined[n, i, head * dv + c] = out[n, head, i, c]
    return {"out": projected(joined, w_o, biases[3], 1)[:, 0]}


def draw_layer(heads, kv_heads, b=2, tq=3, tk=4, d=2, dv=3, e=5):
    rng = np.random.default_rng(heads)
    shapes = {"x_q": (b, tq, e), "x_kv": (b, tk, e), "w_q": (e, heads * d)}
    shapes |= {"w_k": (e, kv_heads * d), "w_v": (e, kv_heads * dv), "w_o": (heads * dv, e)}
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    widths = [heads * d, kv_heads * d, kv_heads * dv, e]
    return inputs, tuple(rng.standard_normal(width) for width in widths)


@WIDE
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (6, 3), (3, 1)])
@pytest.mark.parametrize("options", [{}, {"causal": "bottom-right", "scale": -0.7}])
def test_a_layer_differs_from_50_digits_by_no_more_than_its_own_bound(
    heads, kv_heads, options, wide
):
    x, biases = draw_layer(heads, kv_heads)
    given = {"heads": heads, "kv_heads": kv_heads}
    record = multi_head(**widened(x, wide), biases=biases, **given, **options)
    exact = layer(**x, biases=biases, **given, **options)
    assert worst_ratio("attention.multi_head", record, exact, wide) <= 1
    zeros = tuple(0 * b for b in biases)
    record = multi_head(**widened(x, wide), **given, **options)
    exact = layer(**x, biases=zeros, **given, **options)
    assert worst_ratio("attention.multi_head", record, exact, wide) <= 1


def test_a_bias_of_keys_changes_nothing():
    x, biases = draw_layer(4, 2)
    without = (biases[0], 0 * biases[1], *biases[2:])
    one, other = (multi_head(**x, heads=4, kv_heads=2, biases=b).out for b in (biases, without))
    assert abs(one - other).max() < 1e-12


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_layer_whose_groups_have_identical_heads_is_its_uptrained_one(kv_heads):
    x, (b_q, b_k, b_v, b_o) = draw_layer(8, kv_heads)
    given = {"heads": 8, "kv_heads": 8}

    def repeated(w):
        heads = w.reshape(*w.shape[:-1], kv_heads, 1, -1).repeat(8 // kv_heads, -2)
        return heads.reshape(*w.shape[:-1], -1)

    wide = {**x, "w_k": repeated(x["w_k"]), "w_v": repeated(x["w_v"])}
    original = multi_head(**wide, **given, biases=(b_q, repeated(b_k), repeated(b_v), b_o))
    pooled = {n: uptrain(wide[n], heads=8, kv_heads=kv_heads).out for n in ("w_k", "w_v")}
    biases = (
        b_q,
        *(uptrain(repeated(b)[None], heads=8, kv_heads=kv_heads).out[0] for b in (b_k, b_v)),
        b_o,
    )
    smaller = multi_head(**{**wide, **pooled}, heads=8, kv_heads=kv_heads, biases=biases)
    assert abs(smaller.out - original.out).max() < 1e-12


@WIDE
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (6, 3), (5, 1), (4, 4)])
def test_uptraining_takes_the_mean_of_the_heads_of_each_group(heads, kv_heads, wide):
    d, group = 3, heads // kv_heads
    w = np.random.default_rng(3).standard_normal((4, heads * d))
    exact = np.full((4, kv_heads * d), mp.mpf(0), dtype=object)
    for i, head, c in np.ndindex(4, kv_heads, d):
        terms = [mp.mpf(w[i, (head * group + j) * d + c]) for j in range(group)]
        exact[i, head * d + c] = mp.fsum(terms) / group
    record = uptrain(w.astype(wide), heads=heads, kv_heads=kv_heads)
    assert worst_ratio("attention.uptrain", record, {"out": exact}, wide) <= 1


@WIDE
@pytest.mark.parametrize(("r", "d"), [(7, 3), (2, 5), (3, 1), (8, 4)])
def test_features_are_rows_made_orthogonal_one_after_another_in_each_block(r, d, wide):
    rng = np.random.default_rng(r)
    rows, norms = rng.standard_normal((r, d)), rng.uniform(0.5, 2, r)
    exact = np.full((r, d), mp.mpf(0), dtype=object)
    for i in range(r):
        rest = [mp.mpf(x) for x in rows[i].tolist()]
        for j in range(i // d * d, i):
            unit = [x / mp.mpf(norms[j]) for x in exact[j]]
            along = mp.fsum(mp.mpf(x) * u for x, u in zip(rows[i].tolist(), unit, strict=True))
            rest = [x - along * u for x, u in zip(rest, unit, strict=True)]
        length = mp.sqrt(mp.fsum(x * x for x in rest))
        exact[i] = [mp.mpf(norms[i]) * x / length for x in rest]
    record = features(rows.astype(wide), norms.astype(wide))
    assert worst_ratio("approximate.features", record, {"features": exact}, wide) <= 1


def lifted_row(x, rows, kind):
    """phi of one row, without anything taken off."""
    x = [mp.mpf(value) / mp.mpf(len(x)) ** mp.mpf("0.25") for value in x]
    along = [mp.fsum(mp.mpf(w) * value for w, value in zip(row, x, strict=True)) for row in rows]
    grown = mp.exp(mp.fsum(value * value for value in x) / 2)
    return {
        "positive": [mp.exp(a) / grown for a in along],
        "hyperbolic": [f(a) / grown for a in along for f in (mp.exp, lambda a: mp.exp(-a))],
        "trig": [f(a) * grown for a in along for f in (mp.sin, mp.cos)],
        "relu": [max(a, mp.mpf(0)) for a in along],
    }[kind]


@WIDE
@pytest.mark.parametrize("causal", [None, "top-left"])
@pytest.mark.parametrize("kind", ["positive", "hyperbolic", "trig", "relu"])
def test_attention_through_features_is_the_mean_of_values_by_products_of_phi(kind, causal, wide):
    rng = np.random.default_rng(4)
    q, k = rng.standard_normal((2, 1, 2, 5, 3))
    v, rows = rng.standard_normal((1, 2, 5, 2)), rng.standard_normal((20, 3))
    exact = np.full(v.shape, mp.mpf(0), dtype=object)
    for h, i in np.ndindex(2, 5):
        phi = lifted_row(q[0, h, i].tolist(), rows.tolist(), kind)
        weights = [
            mp.fsum(a * b for a, b in zip(phi, lifted_row(key, rows.tolist(), kind), strict=True))
            for key in k[0, h, : 5 if causal is None else i + 1].tolist()
        ]
        for c in range(2):
            terms = zip(weights, v[0, h, :, c].tolist(), strict=False)
            exact[0, h, i, c] = mp.fsum(w * mp.mpf(x) for w, x in terms) / mp.fsum(weights)
    wide_inputs = [x.astype(wide) for x in (q, k, v, rows)]
    record = performer(*wide_inputs, kind=kind, causal=causal)
    assert worst_ratio("approximate.performer", record, {"out": exact}, wide) <= 1


def test_a_query_whose_weights_of_relu_are_all_zero_has_out_0():
    # one feature: queries -1, 1, 1 meet keys -1, -1, 4
    q, k = (np.array(x)[None, None, :, None] for x in ([-1.0, 1.0, 1.0], [-1.0, -1.0, 4.0]))
    v, features = np.array([5.0, 6.0, 7.0])[None, None, :, None], np.ones((1, 1))
    assert performer(q, k, v, features, kind="relu").out.ravel().tolist() == [0, 7, 7]
    causal = performer(q, k, v, features, kind="relu", causal="top-left")
    assert causal.out.ravel().tolist() == [0, 0, 7]


@WIDE
@pytest.mark.parametrize("scale", [None, -0.3])
def test_projected_attention_is_attention_over_mixtures_of_keys_and_values(scale, wide):
    rng = np.random.default_rng(6)
    q, k = rng.standard_normal((2, 1, 2, 5, 3))
    v, (proj_k, proj_v) = rng.standard_normal((1, 2, 5, 2)), rng.standard_normal((2, 4, 5))
    exact = np.full(v.shape, mp.mpf(0), dtype=object)
    for h in range(2):
        keys, values = (
            [
                [
                    mp.fsum(mp.mpf(e) * mp.mpf(x) for e, x in zip(row, column, strict=True))
                    for column in tokens.T.tolist()
                ]
                for row in projection.tolist()
            ]
            for projection, tokens in ((proj_k, k[0, h]), (proj_v, v[0, h]))
        )
        given = mp.mpf(scale) if scale else 1 / mp.sqrt(3)
        for i in range(5):
            weighted = [(mp.mpf(1), value) for value in values]
            exact[0, h, i], _ = attention_row(q[0, h, i].tolist(), keys, weighted, given)
    wide_inputs = [x.astype(wide) for x in (q, k, v, proj_k, proj_v)]
    record = linformer(*wide_inputs, scale=scale)
    assert worst_ratio("approximate.linformer", record, {"out": exact}, wide) <= 1


def test_projections_that_change_nothing_leave_attention_as_it_is():
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 2, 6, 4))
    same = linformer(q, k, v, np.eye(6), np.eye(6)).out
    assert np.array_equal(same, scaled_dot_product(q, k, v).out)


def test_many_positive_features_come_near_softmax_attention():
    rng = np.random.default_rng(0)
    q, k, v = 0.5 * rng.standard_normal((3, 1, 1, 20, 8))
    near = scaled_dot_product(q, k, v).out
    few, many = (performer(q, k, v, rng.standard_normal((r, 8))).out for r in (8, 200_000))
    assert abs(many - near).max() < 0.01 < abs(few - near).max()


def test_an_orthogonal_map_moves_features_along():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    rows, norms = rng.standard_normal((15, 6)), rng.uniform(0.5, 2, 15)
    moved = features(rows @ turn, norms).features
    assert moved == pytest.approx(features(rows, norms).features @ turn, abs=1e-12)


@WIDE
@pytest.mark.parametrize("size", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("t", [0, 1, 7])
def test_self_attention_differs_from_50_digits_by_no_more_than_its_own_bound(t, size, wide):
    x = size * np.random.default_rng(t).standard_normal((2, t, 3))
    exact = attention(*3 * (x[:, None],), scale=1)["out"][:, 0]
    record = dot_product(x.astype(wide))
    assert worst_ratio("attention.dot_product", record, {"out": exact}, wide) <= 1


def test_tokens_of_length_root_log_3_weigh_themselves_as_much_as_three_others():
    x = np.sqrt(np.log(3)) * np.eye(4)
    assert np.allclose(dot_product(x[None]).probs, (np.ones((4, 4)) + 2 * np.eye(4)) / 6)


def test_fused_attention_is_attention():
    x = draw()
    assert np.array_equal(fused(**x, mask=MASK).out, scaled_dot_product(**x, mask=MASK).out)


@WIDE
@pytest.mark.parametrize(("m", "k", "n"), [(3, 4, 5), (1, 1, 1), (2, 40, 3), (4, 0, 2), (0, 3, 2)])
def test_the_product_differs_from_50_digits_by_no_more_than_its_own_bound(m, k, n, wide):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    record = tiled(a.astype(wide), b.astype(wide))
    assert worst_ratio("matmul.tiled", record, matrix_product(a, b), wide) <= 1


@WIDE
@pytest.mark.parametrize("variant", FORMS)
@pytest.mark.parametrize(("m", "k", "n"), [(3, 4, 5), (1, 1, 1), (2, 40, 3), (4, 0, 2), (0, 3, 2)])
def test_a_fast_product_differs_from_50_digits_by_no_more_than_its_own_bound(
    m, k, n, variant, wide
):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    record = strassen(a.astype(wide), b.astype(wide), levels=2, variant=variant)
    assert worst_ratio("matmul.strassen", record, matrix_product(a, b), wide) <= 1


@pytest.mark.parametrize("variant", FORMS)
@pytest.mark.parametrize("levels", range(4))
@pytest.mark.parametrize(("m", "k", "n"), [(8, 8, 8), (5, 7, 3), (1, 9, 1), (16, 3, 20)])
def test_a_form_gives_the_product_and_on_whole_numbers_exactly(variant, levels, m, k, n):
    rng = np.random.default_rng(levels)
    a, b = rng.integers(-99, 99, (m, k)), rng.integers(-99, 99, (k, n))
    assert np.array_equal(by_blocks(FORMS[variant], a, b, levels), a @ b)


@pytest.mark.parametrize(("variant", "growth"), [("strassen", 12), ("winograd", 18)])
def test_without_cancellation_a_level_multiplies_products_of_ones_as_higham_says(variant, growth):
    ones = np.ones((2, 2))
    assert strassen(ones, ones, levels=1, variant=variant).plus.max() == growth
    ones = np.ones((8, 8))
    assert strassen(ones, ones, levels=3, variant=variant).plus.max() == growth**3


def test_without_cancellation_every_element_is_at_least_that_of_the_plain_product():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 40, 40)) * np.logspace(0, -6, 40)
    for variant in FORMS:
        plus = strassen(a, b, levels=3, variant=variant).plus
        assert (plus >= (1 - 1e-12) * (abs(a) @ abs(b))).all()


def test_the_certificate_fails_a_reference_that_lost_half_its_digits():
    x = draw()
    record = scaled_dot_product(**widened(x, np.float64))
    coarse = replace(record, out=record.out.astype(np.float32).astype(np.float64))
    exact = attention(**x)
    assert worst_ratio("attention.scaled_dot_product", coarse, exact, np.float64) > 1e4


LENGTHS = ([6, 6], [4, 2], [0, 5], [1, 0], [0, 0])


@WIDE
@pytest.mark.parametrize("lengths", LENGTHS)
def test_decoding_is_attention_over_the_keys_that_exist_and_reads_no_others(lengths, wide):
    x = draw(h=4, hkv=2, dv=3, tq=1)
    exact = []
    for one, held in zip((slice(0, 1), slice(1, 2)), lengths, strict=True):
        exact.append(attention(x["q"][one], x["k"][one, :, :held], x["v"][one, :, :held], group=2))
    for one, held in enumerate(lengths):
        x["k"][one, :, held:] = x["v"][one, :, held:] = np.nan
    record = flash_decoding(**widened(x, wide), lengths=np.array(lengths, np.int32))
    together = {name: np.concatenate([e[name] for e in exact]) for name in exact[0]}
    assert worst_ratio("attention.flash_decoding", record, together, wide) <= 1


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("splits", [1, 2, 4, 9])
def test_splits_of_the_keys_merge_to_the_whole_as_flash_decoding_says(splits, lengths):
    x, options = draw(h=4, hkv=2, dv=3, tq=1), {"lengths": np.array(lengths, np.int32)}
    whole = flash_decoding(**x, **options, splits=splits)
    split = np.arange(6) % splits
    each = [flash_decoding(**x, **options, mask=split == s) for s in range(splits)]
    lse = np.logaddexp.reduce([e.lse for e in each])
    shares = [np.exp(e.lse - np.where(lse > -np.inf, lse, 0)) for e in each]
    out = sum(share[..., None] * e.out for share, e in zip(shares, each, strict=True))
    assert np.allclose(whole.lse, lse, rtol=1e-14)
    assert np.allclose(whole.out, out, rtol=1e-13)


@pytest.mark.parametrize("lengths", [[6, 6], [4, 2], [0, 5], [3, 0]])
def test_paged_attention_is_decoding_over_its_pages_one_behind_the_other(lengths):
    x, table = draw(h=4, hkv=2, d=3, dv=3, tq=1), [[3, 0], [4, 1]]
    pools = {f"{name}_pages": np.full((5, 3, 2, 3), np.nan) for name in "kv"}
    for i, held in enumerate(lengths):
        for j in range(held):
            for name in "kv":
                pools[f"{name}_pages"][table[i][j // 3], j % 3] = x[name][i, :, j]
    rows = [
        [p if 3 * at < held else -1 for at, p in enumerate(row)]
        for row, held in zip(table, lengths, strict=True)
    ]
    held = np.array(lengths, np.int32)
    got = paged(x["q"], **pools, page_table=np.array(rows, np.int32), lengths=held, scale=0.3)
    want = flash_decoding(**x, lengths=held, scale=0.3)
    assert np.array_equal(got.out, want.out)
    assert np.array_equal(got.lse, want.lse)


def test_sequences_that_share_pages_read_the_same_tokens():
    x = draw(b=2, h=2, d=3, dv=3, tq=1)
    x["q"][1] = x["q"][0]
    pages = x["k"].swapaxes(1, 2).reshape(4, 3, 2, 3)
    table, lengths = np.array([[2, 1], [2, 1]], np.int32), np.array([5, 5], np.int32)
    got = paged(x["q"], pages, pages, table, lengths)
    assert np.array_equal(got.out[0], got.out[1])
    assert np.array_equal(got.k[0, 0, :3], pages[2, :, 0])


@WIDE
@pytest.mark.parametrize(
    "steps", ["attend", "1 attend", "3 attend 2 attend", "1 1 4 attend attend"]
)
def test_the_cache_equals_attention_over_all_tokens_appended_so_far(steps, wide):
    x, taken = draw(h=4, hkv=2, dv=3, tq=2), 0
    cache = Contiguous(b=2, hkv=2, d=3, capacity=6, dtype=wide)
    for step in steps.split():
        if step != "attend":
            part = slice(taken, taken := taken + int(step))
            cache.append(x["k"][:, :, part].astype(wide), x["v"][:, :, part].astype(wide))
            continue
        exact = attention(x["q"], x["k"][:, :, :taken], x["v"][:, :, :taken], group=2)
        assert worst_ratio("cache.contiguous", cache.attend(x["q"].astype(wide)), exact, wide) <= 1


def test_the_cache_refuses_what_does_not_fit_and_stays_as_it_was():
    x = draw()
    cache = Contiguous(b=2, hkv=2, d=3, capacity=8, dtype=np.float64)
    cache.append(x["k"], x["k"])
    before = cache.attend(x["q"])
    with pytest.raises(OverflowError, match=r"^12 tokens do not fit a capacity of 8$"):
        cache.append(x["k"], x["k"])
    after = cache.attend(x["q"])
    assert all(np.array_equal(each, vars(after)[name]) for name, each in vars(before).items())


def test_the_cache_keeps_copies_of_its_tokens():
    x = draw()
    cache = Contiguous(b=2, hkv=2, d=3, capacity=6, dtype=np.float64)
    cache.append(x["k"], x["k"])
    before = cache.attend(x["q"]).out
    x["k"][...] = np.nan
    assert np.array_equal(cache.attend(x["q"]).out, before)


def managed(steps, *, pages=6, page=2, wide=np.float64):
    """A paged cache after steps such as ``a0 +3@0 f0-1 d0``: begin, append, fork, free."""
    manager, (k, v), taken = PagedManager(pages=pages, page=page, hkv=2, d=3, dtype=wide), TOKENS, 0
    for word in steps.split():
        numbers = [int(n) for n in word[1:].replace("@", "-").split("-")]
        if word[0] == "+":
            part = slice(taken, taken := taken + numbers[0])
            manager.append(*(x[None, :, part].astype(wide) for x in (k, v)), sequence=numbers[1])
        elif word[0] == "f":
            manager.fork(source=numbers[0], target=numbers[1])
        else:
            {"a": manager.allocate, "d": manager.free}[word[0]](sequence=numbers[0])
    return manager


TOKENS = np.random.default_rng(8).standard_normal((2, 2, 20, 3))
FORKED = {
    "a0 +3@0 f0-1 +2@0 +1@1": {0: [0, 1, 2, 3, 4], 1: [0, 1, 2, 5]},
    "a0 +3@0 f0-1 d0 +2@1 a0 +1@0": {0: [5], 1: [0, 1, 2, 3, 4]},
    "a5 f5-6 +2@6 f6-7 +1@7 +0@5": {5: [], 6: [0, 1], 7: [0, 1, 2]},
}


@WIDE
@pytest.mark.parametrize("steps", FORKED)
def test_sequences_of_a_paged_cache_are_attention_over_the_tokens_that_each_has(steps, wide):
    manager, lists = managed(steps, wide=wide), FORKED[steps]
    q = np.random.default_rng(9).standard_normal((len(lists), 4, 1, 3))
    each = [
        attention(q[row : row + 1], *(x[None, :, held] for x in TOKENS), group=2)
        for row, held in enumerate(lists.values())
    ]
    exact = {name: np.concatenate([e[name] for e in each]) for name in each[0]}
    record = manager.attend(q.astype(wide), sequences=tuple(lists))
    assert worst_ratio("cache.paged_manager", record, exact, wide) <= 1


@pytest.mark.parametrize(
    ("steps", "used", "copied"),
    [
        ("a0", 0, 0),
        ("a0 +1@0", 1, 0),
        ("a0 +2@0 +2@0", 2, 0),
        ("a0 +3@0 f0-1 f1-2", 2, 0),
        ("a0 +3@0 f0-1 +0@1", 2, 0),
        ("a0 +3@0 f0-1 +1@1", 3, 1),
        ("a0 +2@0 f0-1 +1@1", 2, 0),  # a page that is full is not written to
        ("a0 +3@0 f0-1 +1@1 +1@0", 3, 0),  # the last one that holds a page keeps it
        ("a0 +3@0 f0-1 d0 +1@1", 2, 0),
    ],
)
def test_pages_that_sequences_share_count_once(steps, used, copied):
    manager = managed(steps)
    assert (manager.used, manager.copied) == (used, copied)
    assert managed(steps, pages=used).used == used
    if used:
        with pytest.raises(OverflowError, match=f"are wanted, and . of {used - 1} are free"):
            managed(steps, pages=used - 1)


ONE = np.zeros((1, 2, 1, 3))
REFUSED = {
    "there is no sequence 3": [
        lambda manager: manager.append(ONE, ONE, sequence=3),
        lambda manager: manager.fork(source=3, target=4),
        lambda manager: manager.free(sequence=3),
        lambda manager: manager.attend(ONE, sequences=(3,)),
    ],
    "sequence 1 is there already": [
        lambda manager: manager.allocate(sequence=1),
        lambda manager: manager.fork(source=0, target=1),
    ],
    "5 pages are wanted, and 3 of 6 are free": [
        lambda manager: manager.append(*2 * [ONE.repeat(10, axis=2)], sequence=0),
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_paged_cache_that_refuses_stays_as_it_was(message):
    manager = managed("a0 +3@0 f0-1 +1@1")
    before = dict(manager.sequences)
    for request in REFUSED[message]:
        with pytest.raises((LookupError, OverflowError), match=f"^{message}$"):
            request(manager)
        assert manager.sequences.keys() == before.keys()
        assert all(manager.sequences[n] is held for n, held in before.items())


def hashed_rounds(x, v, rotations, causal, counted):
    """LSH attention of one head by lists: each round alone, then all of them merged by lse (Kitaev
    et al. 2020, appendix A): out and lse."""
    allowed = [round_of(x, rotation, causal) for rotation in rotations]
    out, lse = [], []
    for i in range(len(x)):
        if not any(seen[i] for seen in allowed):
            for seen in allowed:
                seen[i] = [i]
        z, o = [], []
        for seen in (each for each in allowed if each[i]):
            logits = []
            for j in seen[i]:
                many = sum(j in each[i] for each in allowed)
                product = mp.fdot(x[i], x[j]) / mp.sqrt(mp.fdot(x[j], x[j]) * len(x[i]))
                logits.append(product - (0 if counted else mp.log(many)))
            z.append(mp.log(mp.fsum(map(mp.exp, logits))))
            weights = [mp.exp(each - z[-1]) for each in logits]
            o.append([mp.fdot(weights, [v[j][c] for j in seen[i]]) for c in range(len(v[0]))])
        lse.append(mp.log(mp.fsum(map(mp.exp, z))))
        shares = [mp.exp(each - lse[-1]) for each in z]
        out.append([mp.fdot(shares, column) for column in zip(*o, strict=True)])
    return out, lse


def round_of(x, rotation, causal):
    """Which other tokens each one of a head may attend to in a round."""
    sides = [[mp.fdot(row, column) for column in rotation.T.tolist()] for row in x]
    both = [[*side, *(-s for s in side)] for side in sides]
    bucket = [side.index(max(side)) for side in both]
    order = sorted(range(len(x)), key=lambda i: (bucket[i], i))
    size = math.ceil(len(x) / rotation.shape[1])
    chunks = [order[first : first + size] for first in range(0, len(x), size)]
    seen = {}
    for number, chunk in enumerate(chunks):
        near = (chunks[number - 1] if number else []) + chunk
        for i in chunk:
            others = [j for j in near if j != i and bucket[j] == bucket[i]]
            seen[i] = [j for j in others if causal is None or j < i]
    return seen


@WIDE
@pytest.mark.parametrize("duplicates", ["once", "counted"])
@pytest.mark.parametrize("causal", [None, "top-left"])
@pytest.mark.parametrize(("t", "rounds", "half"), [(9, 2, 2), (10, 3, 3), (5, 1, 4), (1, 2, 1)])
def test_rounds_of_buckets_merge_to_attention_over_the_union_of_their_pairs(
    t, rounds, half, causal, duplicates, wide
):
    rng = np.random.default_rng(t)
    x = {"qk": rng.standard_normal((1, 2, t, 3)), "v": rng.standard_normal((1, 2, t, 2))}
    x["rotations"] = rng.standard_normal((rounds, 3, half))
    record = lsh(**widened(x, wide), causal=causal, duplicates=duplicates)
    heads = [
        hashed_rounds(qk.tolist(), v.tolist(), x["rotations"], causal, duplicates == "counted")
        for qk, v in zip(x["qk"][0], x["v"][0], strict=True)
    ]
    exact = {n: np.array([[h[k] for h in heads]], object) for k, n in enumerate(("out", "lse"))}
    assert worst_ratio("approximate.lsh", record, exact, wide) <= 1


@pytest.mark.parametrize(("turned", "bucket"), [((0.5, 0.25), 0), ((-0.25, -0.5), 3)])
def test_a_bucket_is_the_place_of_the_largest_of_both_signs(turned, bucket):
    assert hash_tokens(np.array([[[turned]]]), np.eye(2)[None]).tolist() == [[[[bucket]]]]


def test_a_near_pair_meets_in_three_of_three_rounds_and_a_far_one_in_one():
    """Buckets are quarters of the circle: 45 to 135 degrees, -15 to 75, and 15 to 105."""
    angles, turns = np.radians([50, 60, 110]), np.radians([0, 30, 60])
    x = np.stack([np.cos(angles), np.sin(angles)], -1)[None, None]
    rotations = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in turns])
    first, near, far = hash_tokens(x, rotations)[:, 0, 0].T
    assert [(first == near).sum(), (first == far).sum()] == [3, 1]


@pytest.mark.parametrize("options", [{"mask": MASK}, {"causal": "bottom-right"}])
def test_rows_without_a_key_give_zero_and_minus_infinity_exactly(options):
    x = draw(tq=4, tk=6) if "mask" in options else draw(tq=5, tk=2)
    got = scaled_dot_product(**x, **options)
    empty = np.isneginf(got.lse)
    assert empty.any()
    assert (got.out[empty] == 0).all()
    assert np.isfinite(got.lse[~empty]).all()


def test_a_nan_in_a_query_makes_its_row_nan_and_no_other():
    x = draw()
    clean = scaled_dot_product(**x)
    x["q"][1, 0, 2, 1] = np.nan
    got = scaled_dot_product(**x)
    row = np.zeros(got.lse.shape, bool)
    row[1, 0, 2] = True
    for name in ("out", "lse"):
        assert np.isnan(getattr(got, name)[row]).all()
        assert np.array_equal(getattr(got, name)[~row], getattr(clean, name)[~row])


@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
def test_a_nan_in_a_key_makes_every_row_that_sees_it_nan(causal):
    x = draw(tq=5, tk=4)
    x["k"][0, 1, 2, 0] = np.nan
    got = scaled_dot_product(**x, causal=causal)
    for n, h, i in np.ndindex(2, 2, 5):
        hit = (n, h) == (0, 1) and sees(i, 2, 5, 4, causal)
        assert np.isnan(got.lse[n, h, i]) == np.isnan(got.out[n, h, i]).all() == hit


def test_a_nan_in_a_value_makes_every_row_that_sees_it_nan_and_leaves_lse():
    x = draw()
    clean = scaled_dot_product(**x)
    x["v"][0, 1, 2] = np.nan
    got = scaled_dot_product(**x)
    assert np.isnan(got.out[0, 1]).all()
    assert np.isfinite(got.out[1]).all()
    assert np.array_equal(got.lse, clean.lse)


def test_hidden_keys_never_influence_a_result_while_they_are_finite():
    x = draw()
    mask = np.ones((2, 1, 1, 6), bool)
    mask[0, ..., 4:] = False
    clean = scaled_dot_product(**x, mask=mask)
    x["k"][0, :, 4:] = x["v"][0, :, 4:] = 6e4
    got = scaled_dot_product(**x, mask=mask)
    assert np.array_equal(got.out, clean.out)
    assert np.array_equal(got.lse, clean.lse)


def test_logits_beyond_the_range_of_exp_stay_finite_where_the_result_is():
    x = draw(size=200.0)
    got = scaled_dot_product(**x, scale=1.0)
    assert abs(got.scores).max() > 1e4
    assert np.isfinite(got.out).all()
    assert (
        worst_ratio("attention.scaled_dot_product", got, attention(**x, scale=1.0), np.float64) <= 1
    )


SPECIAL = [math.nan, math.inf, -math.inf, 0.0, 1.5, -2.0]


@pytest.mark.parametrize("seed", range(5))
def test_nan_and_infinities_multiply_as_scalar_arithmetic_says(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.choice(SPECIAL, (4, 3)), rng.choice(SPECIAL, (3, 5))
    with np.errstate(invalid="ignore"):
        got = tiled(a, b).out
    for i, j in np.ndindex(4, 5):
        want = sum(float(a[i, p]) * float(b[p, j]) for p in range(3))
        assert got[i, j] == want or (math.isnan(got[i, j]) and math.isnan(want))


def test_zeros_and_ones_multiply_without_error():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2, (7, 90)), rng.integers(0, 2, (90, 8))
    assert np.array_equal(tiled(a.astype(float), b.astype(float)).out, a @ b)


# Softmax ------------------------------------------------------------------------------------------


def softmax(x):
    """out and lse by plain loops over rows and columns."""
    out = np.full(x.shape, mp.mpf(0), dtype=object)
    lse = np.full(len(x), -mp.inf, dtype=object)
    for i, row in enumerate(x.tolist()):
        exps = [mp.exp(mp.mpf(each)) for each in row]
        if total := mp.fsum(exps):
            out[i], lse[i] = [each / total for each in exps], mp.log(total)
    return {"out": out, "lse": lse}


def rows_of_numbers(kind="normal", r=4, n=9):
    x = np.random.default_rng(6).standard_normal((r, n))
    if kind == "masked":
        x[x < -0.4] = x[1:2] = -np.inf
    scale, level = {"large": (300.0, 0.0), "alike": (0.0, 1e4)}.get(kind, (1.0, 0.0))
    return scale * x + level if scale != 1 else x


@WIDE
@pytest.mark.parametrize("kind", ["normal", "large", "alike", "masked"])
@pytest.mark.parametrize("size", [(4, 9), (1, 1), (3, 0), (0, 3)])
def test_a_softmax_differs_from_50_digits_by_no_more_than_its_own_bound(kind, size, wide):
    x = rows_of_numbers(kind, *size)
    assert worst_ratio("softmax.online", online(x.astype(wide)), softmax(x), wide) <= 1
    out = {"out": softmax(x)["out"]}
    assert worst_ratio("softmax.safe", safe(x.astype(wide)), out, wide) <= 1


def test_a_row_of_only_minus_infinity_gives_zeros_and_minus_infinity_exactly():
    x = rows_of_numbers("masked")
    got = online(x)
    assert (got.out[1] == 0).all() and got.lse[1] == -np.inf
    assert (got.out[np.isneginf(x)] == 0).all()
    assert np.isfinite(got.lse[[0, 2, 3]]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_infinity_makes_its_row_nan_and_no_other(bad):
    x = rows_of_numbers()
    clean = online(x)
    x[2, 5] = bad
    with np.errstate(invalid="ignore"):
        got = online(x)
    others = [0, 1, 3]
    assert np.isnan(got.out[2]).all() and np.isnan(got.lse[2])
    assert np.array_equal(got.out[others], clean.out[others])
    assert np.array_equal(got.lse[others], clean.lse[others])


A, B = [-1.02, -1.09, 0.24, 0.87, -1.32], [-0.6, -5.04, -2, 1.03, -0.14]


def test_the_worked_example_of_online_softmax_has_the_numbers_of_the_catalogue():
    a, b = np.array(A), np.array(B)
    assert np.round(np.exp(a - a.max()), 2).tolist() == [0.15, 0.14, 0.53, 1, 0.11]
    assert np.round(np.exp(b - b.max()), 2).tolist() == [0.2, 0, 0.05, 1, 0.31]
    whole, (top, total) = np.array([*A, *B]), merge(state(a), state(b))
    joint = [0.13, 0.12, 0.45, 0.85, 0.1, 0.2, 0, 0.05, 1, 0.31]
    out = [0.04, 0.04, 0.14, 0.27, 0.03, 0.06, 0, 0.02, 0.31, 0.1]
    assert top == 1.03
    assert np.round(np.exp(whole - top), 2).tolist() == joint
    assert np.round(np.exp(whole - top) / total, 2).tolist() == out
    assert np.round(online(whole[None]).out[0], 2).tolist() == out


def state(x):
    """Maximum and sum of a row, or of a part of it."""
    return (x.max(), np.exp(x - x.max()).sum()) if np.isfinite(x).any() else EMPTY


def same_state(one, other):
    return one[0] == other[0] and math.isclose(one[1], other[1], rel_tol=1e-13)


SIZED = st.floats(-50, 50) | st.just(-math.inf)
STATES = st.lists(SIZED, max_size=5).map(lambda x: state(np.array(x)))
MONOID = settings(deadline=None, derandomize=True, max_examples=200)


@MONOID
@given(STATES, STATES, STATES)
def test_merging_states_is_associative_and_commutative_with_the_empty_state_as_identity(a, b, c):
    assert same_state(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert same_state(merge(a, b), merge(b, a))
    assert same_state(merge(a, EMPTY), a) and same_state(merge(EMPTY, a), a)


@MONOID
@given(st.lists(SIZED, min_size=1, max_size=40), st.integers(1, 45))
def test_tiles_of_any_size_merge_to_the_softmax_of_the_whole_row(row, tile):
    x, got = np.array(row), EMPTY
    for first in range(0, len(x), tile):
        got = merge(got, state(x[first : first + tile]))
    exact = online(x[None])
    assert same_state(got, state(x))
    with np.errstate(divide="ignore"):
        assert np.isclose(got[0] + np.log(got[1]), exact.lse[0], rtol=1e-13, atol=1e-13)
    if got[1]:
        assert np.allclose(np.exp(x - got[0]) / got[1], exact.out[0], rtol=1e-12, atol=0)


@MONOID
@given(st.lists(SIZED, min_size=1, max_size=40), st.integers(0, 40))
def test_a_row_split_anywhere_merges_to_the_whole(row, cut):
    x = np.array(row)
    assert same_state(merge(state(x[:cut]), state(x[cut:])), state(x))
