"""Properties of exact attention: what related calls imply of each other (catalogue, clause 9).

Every change of the inputs survives a rounding: rows are moved, zeroed, doubled or replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import Attention, allowed
from kernelproof.spec.contracts.attention.bound import logit_term
from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.contracts.softmax.merging import shares
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    EXTENDED,
    Agreement,
    Answer,
    Near,
    Point,
    Posed,
    Relation,
    Variant,
    agreeing,
    as_drawn,
    changed,
    cycle,
)
from kernelproof.spec.rounding import Format, gamma

Array = npt.NDArray[Any]
Agreements = Iterable[Agreement]

MASKED = ("mask", "scale")
CAUSAL = ("mask", "causal", "scale")
DECODED = ("mask", "scale", "causal-bottom-right")
RAGGED = (*CAUSAL, "lengths")


def mask_at(point: Point, axis: int, index: Any) -> dict[str, Array]:
    """The mask, if any, with this index along an axis of b h tq tk, unless it broadcasts there."""
    mask = point.options.get("mask")
    if mask is None:
        return {}
    along = mask.ndim + axis
    if along < 0 or mask.shape[along] == 1:
        return {"mask": mask}
    return {"mask": np.ascontiguousarray(mask[(slice(None),) * along + (index,)])}


def _lengths(point: Point, order: Array) -> dict[str, Array]:
    """The lengths of the sequences, if any, in another order."""
    lengths = point.options.get("lengths")
    return {} if lengths is None else {"lengths": lengths[order]}


def _seen(point: Point) -> Array:
    """Which keys each query may attend to: b hq tq tk."""
    q, k, options = point.inputs["q"], point.inputs["k"], point.options
    shape = (*q.shape[:-1], k.shape[-2])
    return np.asarray(allowed(shape, options.get("mask"), options.get("causal")))


def _per_query_head(point: Point, array: Array) -> Array:
    """Keys or values, b hkv tk d, repeated for the query heads of each group: b hq tk d."""
    hq, hkv = point.inputs["q"].shape[1], array.shape[1]
    return array.repeat(hq // max(hkv, 1), axis=1)


def _keys_permuted(point: Point) -> Posed:
    k, v = point.inputs["k"], point.inputs["v"]
    order = cycle(point.rng, k.shape[-2])
    moved = changed(
        point,
        "keys and values permuted",
        mask_at(point, -1, order),
        k=k[..., order, :],
        v=v[..., order, :],
    )
    return Posed((as_drawn(point), moved), lambda drawn, got: agreeing(1, got, drawn))


def _batch_permuted(point: Point) -> Posed:
    order = cycle(point.rng, len(point.inputs["q"]))
    options = {**mask_at(point, -4, order), **_lengths(point, order)}
    moved = changed(point, "batch permuted", options, **point.moved(b=order))
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[order])
    )


def _heads_permuted(point: Point) -> Posed:
    """Groups change places, and so do the query heads within the first: all of them alike would
    hide a kernel that reads key head h mod hkv."""
    q, k = point.inputs["q"], point.inputs["k"]
    groups = cycle(point.rng, k.shape[1])
    heads = np.arange(q.shape[1]).reshape(len(groups), -1)[groups]
    heads[:1] = heads[:1, cycle(point.rng, heads.shape[1])]
    order = heads.reshape(-1)
    moved = changed(
        point,
        "heads permuted",
        mask_at(point, -3, order),
        **point.moved(h=order, hq=order, hkv=groups),
    )
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[:, order])
    )


def _logits_shifted(point: Point) -> Posed:
    """Coordinate 0 of q is 8 and of k 0, then 32, then -32: logits move by 256 scale, exactly."""
    q, k = point.inputs["q"].copy(), point.inputs["k"]
    q[..., 0] = 8.0
    scale = point.options.get("scale", 1 / np.sqrt(EXTENDED(q.shape[-1])))

    def call(words: str, constant: float) -> Variant:
        shifted = k.copy()
        shifted[..., 0] = constant
        return changed(point, words, {}, q=q, k=shifted)

    def agree(drawn: Answer, raised: Answer, lowered: Answer) -> Agreements:
        for number, got, constant in ((1, raised, 32.0), (2, lowered, -32.0)):
            shift = scale * 8 * constant
            for each in agreeing(number, got, drawn):
                moved = each.want + _formula(shift) if each.output == "lse" else each.want
                yield each._replace(want=moved)

    calls = (
        call("as drawn", 0.0),
        call("a constant added to all logits", 32.0),
        call("a constant subtracted from all logits", -32.0),
    )
    return Posed(calls, agree)


def _formula(value: Any, error: Any = 0.0) -> Near:
    """A number that the judge computes in extended precision, with a few roundings of its own."""
    value = np.asarray(value, EXTENDED)
    return Near(value, error + 4 * np.finfo(EXTENDED).eps * abs(value))


def _values_doubled(point: Point) -> Posed:
    def agree(drawn: Answer, doubled: Answer) -> Agreements:
        for each in agreeing(1, doubled, drawn):
            yield each._replace(want=each.want * 2) if each.output == "out" else each

    return Posed((as_drawn(point), changed(point, "v doubled", {}, v=2 * point.inputs["v"])), agree)


def _values_split(point: Point) -> Posed:
    v = point.inputs["v"]
    even = np.arange(v.shape[-2])[:, None] % 2 == 0

    def agree(whole: Answer, one: Answer, other: Answer) -> Agreements:
        yield from (each for each in agreeing(1, one, whole) if each.output == "lse")
        yield from (each for each in agreeing(2, other, whole) if each.output == "lse")
        if "out" in whole:
            yield Agreement(0, "out", whole["out"], one["out"] + other["out"])

    calls = (
        as_drawn(point),
        changed(point, "v zero at odd keys", {}, v=np.where(even, v, 0.0)),
        changed(point, "v zero at even keys", {}, v=np.where(even, 0.0, v)),
    )
    return Posed(calls, agree)


def _unit_values(point: Point) -> Posed:
    v = np.ones_like(point.inputs["v"])
    some = _seen(point).any(-1, keepdims=True).astype(EXTENDED)
    want = np.broadcast_to(some, (*some.shape[:-1], v.shape[-1]))

    def agree(unit: Answer) -> Agreements:
        if "out" in unit:
            yield Agreement(0, "out", unit["out"], Near(want, np.zeros(want.shape)))

    return Posed((changed(point, "V = 1", {}, v=v),), agree)


def _future_changed(point: Point) -> Posed:
    """All keys that no row before a cut sees under causal, as large as float16 holds."""
    k, v = point.inputs["k"], point.inputs["v"]
    tq, tk = point.inputs["q"].shape[-2], k.shape[-2]
    offset = tk - tq if point.options["causal"] == "bottom-right" else 0
    # rows before the cut must see a key, and some key must lie beyond them
    first, last = max(1, 1 - offset), min(tq, tk - 1 - offset)
    cut = int(point.rng.integers(first, last + 1)) if first <= last else min(1, tq)
    future = np.arange(tk)[:, None] >= cut + offset
    # one sign per column: leaks of many keys add up
    signs = point.rng.choice([-1.0, 1.0], (*v.shape[:2], 1, v.shape[3]))
    later = changed(
        point,
        f"keys and values from {max(cut + offset, 0)} on changed, which no query before {cut} sees",
        {},
        k=np.where(future, 100 * np.sign(k), k),
        v=np.where(future, 6e4 * signs, v),
    )

    def past(n: Near) -> Near:
        return n[:, :, :cut]

    def agree(drawn: Answer, got: Answer) -> Agreements:
        for each in agreeing(1, got, drawn):
            yield each._replace(got=past(each.got), want=past(each.want))

    return Posed((as_drawn(point), later), agree)


def _keys_split(point: Point) -> Posed:
    k, v = point.inputs["k"], point.inputs["v"]
    cut = int(point.rng.integers(1, max(k.shape[-2], 2)))

    def part(words: str, keys: slice) -> Variant:
        return changed(point, words, {}, k=k[..., keys, :], v=v[..., keys, :])

    def agree(whole: Answer, one: Answer, other: Answer) -> Agreements:
        out, lse = merged(one, other)
        yield Agreement(0, "out", whole["out"], out)
        yield Agreement(0, "lse", whole["lse"], lse)

    calls = (
        as_drawn(point),
        part(f"keys before {cut} alone", slice(None, cut)),
        part(f"keys from {cut} on alone", slice(cut, None)),
    )
    return Posed(calls, agree)


def merged(one: Answer, other: Answer) -> tuple[Near, Near]:
    """out and lse over two sets of keys, from those over each.

    out = w1 o1 + w2 o2 with the weights of :func:`shares`, of which one is off by at most t, and
    the other by as much the other way. Hence

        |error of out| <= (w1 + t) b1 + (w2 + t) b2 + t |o1 - o2|.
    """
    o1, o2, parts = one["out"], other["out"], shares(one["lse"], other["lse"])
    w1, w2, t = parts.one, parts.other, parts.moved
    value = w1 * o1.value + w2 * o2.value
    bound = (w1 + t) * o1.bound + (w2 + t) * o2.bound + t * abs(o1.value - o2.value)
    largest = w1 * abs(o1.value) + w2 * abs(o2.value)
    return Near(value, bound + parts.own * largest), parts.lse


def _zero_queries(point: Point) -> Posed:
    q, v = point.inputs["q"], _per_query_head(point, point.inputs["v"]).astype(EXTENDED)
    seen = _seen(point)
    count = seen.sum(-1, keepdims=True)
    sums, magnitudes = seen.astype(EXTENDED) @ v, seen.astype(EXTENDED) @ abs(v)
    error = gamma(v.shape[-2] + 1, float(np.finfo(EXTENDED).eps))
    many = np.maximum(count, 1)
    with np.errstate(divide="ignore"):
        lse = np.log(count[..., 0].astype(EXTENDED))
    wants = {
        "out": Near(sums / many, error * (magnitudes / many)),
        "lse": Near(lse, np.where(count[..., 0] > 0, 4 * np.finfo(EXTENDED).eps * abs(lse), 0.0)),
    }

    def agree(zero: Answer) -> Agreements:
        for name, got in zero.items():
            yield Agreement(0, name, got, wants[name])

    return Posed((changed(point, "q = 0", {}, q=np.zeros_like(q)),), agree)


def _one_hot(point: Point) -> Posed:
    """Query i meets key chosen[i] alone, with a logit of 100 where the others have 0 or -100.

    Those share a weight of at most (tk - 1) exp(-99), whatever 5 sqrt(d) is rounded to, and so
    much of 2 max |v| may be missing.
    """
    q, k = np.zeros_like(point.inputs["q"]), np.zeros_like(point.inputs["k"])
    tk, d = k.shape[-2:]
    hot = np.arange(min(tk, 2 * d))
    sign = np.where(hot < d, 1.0, -1.0)
    k[..., hot, hot % d] = 5 * np.sqrt(d) * sign
    chosen = point.rng.integers(0, max(len(hot), 1), q.shape[:-1])
    v = _per_query_head(point, point.inputs["v"]).astype(EXTENDED)
    if tk:
        np.put_along_axis(q, chosen[..., None] % d, 20 * sign[chosen][..., None], axis=-1)
        want = np.take_along_axis(v, chosen[..., None], axis=-2)
    else:
        want = np.zeros((*q.shape[:-1], v.shape[-1]), EXTENDED)
    faint = 2 * tk * np.exp(-99.0) * abs(v).max(initial=0.0)

    def agree(picked: Answer) -> Agreements:
        if "out" in picked:
            yield Agreement(0, "out", picked["out"], Near(want, np.full(want.shape, faint)))

    return Posed((changed(point, "one-hot keys, saturated logits", {}, q=q, k=k),), agree)


def _decode_as_prefill(point: Point) -> Posed:
    last = slice(-1, None)
    q = point.inputs["q"][..., last, :]
    alone = changed(point, "the last query alone", mask_at(point, -2, last), q=q)

    def agree(whole: Answer, got: Answer) -> Agreements:
        return agreeing(1, got, whole, lambda n: n[:, :, last])

    return Posed((as_drawn(point), alone), agree)


def _ulp_moved(point: Point) -> Posed:
    """Each number moves to a neighbour in its format, up or down at random."""
    moved = {name: _neighbour(point, array) for name, array in point.inputs.items()}

    def agree(drawn: Answer, got: Answer) -> Agreements:
        moves = _allowance(point, moved)
        for each in agreeing(1, got, drawn):
            yield each._replace(want=each.want.widened(moves[each.output]))

    return Posed(
        (as_drawn(point), changed(point, "all inputs moved by one ulp", {}, **moved)), agree
    )


def _neighbour(point: Point, x: Array) -> Array:
    moved: Array = x + point.rng.choice([-1.0, 1.0], x.shape) * _ulp(x, point.format)
    return moved


def _ulp(x: Array, format: Format) -> Array:
    """The distance from |x| to the next larger number of a format."""
    exponent = np.where(x == 0, format.emin, np.maximum(np.frexp(x)[1] - 1, format.emin))
    ulp: Array = np.ldexp(1.0, exponent - format.significand + 1)
    return ulp


def _allowance(point: Point, moved: Mapping[str, Array]) -> Mapping[str, Array]:
    """How far out and lse may move with the inputs, exactly computed.

    With |dq|, |dk| the logits move by at most D = |scale| (|q||dk| + |dq||k| + |dq||dk|), so lse
    by at most its largest D, and P by what the logit term of the bound says. Then out, a mean of
    values that moved by dv themselves, moves by that and by at most the mean of |dv| under the
    moved weights.
    """
    x = {name: np.asarray(array, EXTENDED) for name, array in point.inputs.items()}
    exact: Attention = point.reference(**x, **point.options)
    dq, dk, dv = (abs(moved[name] - point.inputs[name]) for name in "qkv")
    dk, dv = _per_query_head(point, dk), _per_query_head(point, dv)
    turned = abs(exact.k).swapaxes(-1, -2), dk.swapaxes(-1, -2)
    error = abs(exact.scale) * (abs(exact.q) @ turned[1] + dq @ turned[0] + dq @ turned[1])
    error = np.where(exact.scores != -np.inf, error, 0.0)
    term = logit_term(exact, error)
    weights = exact.weights * np.exp(error) / (1 - term.row)
    out = np.where(term.conditioned, term.out + weights @ dv, np.inf)
    return {"out": out, "lse": error.max(-1, initial=0.0)}


class _Property(NamedTuple):
    sentence: str
    relation: Relation
    smoke: tuple[str, ...]
    core: tuple[str, ...] = ()


_SMALL = "b2.{h}.tq17.tk33.d32/default/normal"
_PLAIN = ("b1.{h}.tq40.tk70.d64/default/heavy-tailed",)
_WITH_MASK = ("b2.{h}.tq17.tk40.d32/mask-random/normal",)
_WITH_CAUSAL = ("b2.{h}.tq33.tk40.d32/causal-bottom-right/normal",)

_PROPERTIES: Mapping[str, _Property] = {
    "keys-permuted": _Property(
        "Permuting keys and values together, and the mask with them, changes nothing.",
        Relation(_keys_permuted, MASKED),
        (_SMALL,),
        (*_PLAIN, *_WITH_MASK, "b2.{h}.tq1.tk65.d32/scale-0.3/normal"),
    ),
    "batch-permuted": _Property(
        "Permuting the batch permutes the outputs.",
        Relation(_batch_permuted, RAGGED),
        ("b3.{h}.tq17.tk33.d32/default/normal",),
        (
            "b4.{h}.tq17.tk40.d32/mask-padding/normal",
            "b4.{h}.tq1.tk40.d32/lengths-ragged/normal",
            *_WITH_CAUSAL,
        ),
    ),
    "heads-permuted": _Property(
        "Permuting the groups of heads, and the query heads within one, permutes the outputs.",
        Relation(_heads_permuted, RAGGED),
        (_SMALL,),
        ("b2.{h}.tq17.tk40.d32/mask-per-head/normal", *_WITH_CAUSAL),
    ),
    "logits-shifted": _Property(
        "A constant added to all logits of a row changes nothing but lse, which moves by it.",
        Relation(_logits_shifted, RAGGED),
        (_SMALL,),
        ("b1.{h}.tq40.tk70.d64/default/normal", *_WITH_CAUSAL, *_WITH_MASK),
    ),
    "values-doubled": _Property(
        "Doubling the values doubles out and leaves lse.",
        Relation(_values_doubled, RAGGED),
        (_SMALL,),
        (*_PLAIN, *_WITH_CAUSAL),
    ),
    "values-split": _Property(
        "out is the sum of what the values of even and of odd keys give, each beside zeros.",
        Relation(_values_split, RAGGED),
        (_SMALL,),
        (*_PLAIN, *_WITH_CAUSAL, *_WITH_MASK),
    ),
    "unit-values": _Property(
        "Values of one give 1 in every row that sees a key, and 0 in the others.",
        Relation(_unit_values, CAUSAL),
        ("b1.{h}.tq33.tk40.d32/causal-bottom-right/normal",),
        (
            *_PLAIN,
            "b1.{h}.tq40.tk33.d32/causal-bottom-right/normal",
            "b2.{h}.tq17.tk33.d32/mask-empty-rows/normal",
        ),
    ),
    "future-changed": _Property(
        "Under causal, changing keys and values of the future changes no past row.",
        Relation(_future_changed, CAUSAL, requires="causal"),
        ("b1.{h}.tq33.tk33.d32/causal-top-left/normal",),
        (
            "b2.{h}.tq40.tk70.d64/causal-bottom-right/normal",
            "b1.{h}.tq70.tk40.d32/causal-bottom-right/normal",
            "b1.{h}.tq130.tk200.d32/causal-top-left/normal",
            "b2.{h}.tq33.tk40.d32/causal-bottom-right+mask-random/normal",
        ),
    ),
    "keys-split": _Property(
        "Results over two parts of the keys, merged by lse, equal the result over all of them.",
        Relation(_keys_split, ("scale",), needs=("out", "lse")),
        (_SMALL,),
        (*_PLAIN, "b2.{h}.tq17.tk130.d32/default/large-logit"),
    ),
    "zero-queries": _Property(
        "Zero queries give the mean of the values that each row sees, and lse the log of how many.",
        Relation(_zero_queries, CAUSAL),
        ("b1.{h}.tq33.tk40.d32/causal-bottom-right/normal",),
        (*_PLAIN, *_WITH_MASK, "b1.{h}.tq70.tk40.d32/causal-bottom-right/normal"),
    ),
    "one-hot": _Property(
        "One-hot keys with saturated logits select rows of V.",
        Relation(_one_hot),
        (_SMALL,),
        ("b1.{h}.tq40.tk128.d64.dv32/default/normal",),
    ),
    "decode-as-prefill": _Property(
        "The last query alone gives the last row of the whole call.",
        Relation(_decode_as_prefill, DECODED),
        ("b2.{h}.tq17.tk33.d32/causal-bottom-right/normal",),
        (
            "b1.{h}.tq40.tk70.d64/default/normal",
            "b1.{h}.tq65.tk130.d32/causal-bottom-right/normal",
            *_WITH_MASK,
        ),
    ),
    "ulp-moved": _Property(
        "Inputs moved by one unit in the last place move the result by no more than the logit term "
        "of the bound allows.",
        Relation(_ulp_moved, CAUSAL),
        (_SMALL,),
        ("b1.{h}.tq40.tk70.d64/default/normal", *_WITH_CAUSAL),
    ),
}


def attention_properties(heads: str) -> tuple[Clause, ...]:
    """One clause per property, with cases for ``heads`` (``h2``, ``hq4.hkv2``)."""
    return tuple(
        property_clause(
            "attention",
            name,
            each.sentence,
            each.relation,
            tuple(case.format(h=heads) for case in each.smoke),
            tuple(case.format(h=heads) for case in each.core),
        )
        for name, each in _PROPERTIES.items()
    )
