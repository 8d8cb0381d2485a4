"""Properties of attention layers: what related calls imply of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.properties import mask_at
from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.relations import (
    Answer,
    Near,
    Point,
    Posed,
    Relation,
    agreeing,
    as_drawn,
    changed,
    cycle,
)

Array = npt.NDArray[Any]

FREE = ("biases", "mask", "scale")
CAUSAL = ("biases", "mask", "causal", "scale")


def _same(drawn: Answer, got: Answer) -> Any:
    return agreeing(1, got, drawn)


def _queries_permuted(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["x_q"].shape[1])
    moved = changed(
        point, "tokens of x_q permuted", mask_at(point, -2, order), **point.moved(tq=order)
    )
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[:, order])
    )


def _keys_permuted(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["x_kv"].shape[1])
    moved = changed(
        point, "tokens of x_kv permuted", mask_at(point, -1, order), **point.moved(tk=order)
    )
    return Posed((as_drawn(point), moved), _same)


def _batch_permuted(point: Point) -> Posed:
    order = cycle(point.rng, len(point.inputs["x_q"]))
    moved = changed(point, "batch permuted", mask_at(point, -4, order), **point.moved(b=order))
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[order])
    )


def _heads_permuted(point: Point) -> Posed:
    """Groups change places, and so do the query heads within the first: all of them alike would
    hide a layer that reads key head h mod hkv."""
    hq, hkv = point.options["heads"], point.options["kv_heads"]
    groups = cycle(point.rng, hkv)
    heads = np.arange(hq).reshape(hkv, -1)[groups]
    heads[:1] = heads[:1, cycle(point.rng, heads.shape[1])]
    order = heads.reshape(-1)
    x, options = point.inputs, dict[str, Any](mask_at(point, -3, order))
    if (biases := point.options.get("biases")) is not None:
        of_heads = zip(biases, (order, groups, groups), strict=False)
        options["biases"] = (*(_columns(b, o) for b, o in of_heads), biases[3])
    moved = changed(
        point,
        "heads permuted in all weights",
        options,
        w_q=_columns(x["w_q"], order),
        w_k=_columns(x["w_k"], groups),
        w_v=_columns(x["w_v"], groups),
        w_o=_columns(x["w_o"].T, order).T,
    )
    return Posed((as_drawn(point), moved), _same)


def _columns(weight: Array, order: Array) -> Array:
    """Heads along the last axis, in another order, or repeated."""
    heads = int(order.max()) + 1
    return weight.reshape(*weight.shape[:-1], heads, -1)[..., order, :].reshape(
        *weight.shape[:-1], -1
    )


def _heads_repeated(point: Point) -> Posed:
    """The key heads of every query head of a group, as heads of their own."""
    hq, hkv = point.options["heads"], point.options["kv_heads"]
    order = np.arange(hq) // (hq // hkv)
    options: dict[str, Any] = {"kv_heads": hq}
    if (biases := point.options.get("biases")) is not None:
        b_k, b_v = (_columns(b, order) for b in biases[1:3])
        options["biases"] = (biases[0], b_k, b_v, biases[3])
    repeated = changed(
        point,
        "key heads repeated for every query head",
        options,
        **{name: _columns(point.inputs[name], order) for name in ("w_k", "w_v")},
    )
    return Posed((as_drawn(point), repeated), _same)


def _future_changed(point: Point) -> Posed:
    """All tokens of x_kv that no row before a cut sees under causal."""
    tokens = point.inputs["x_kv"]
    tq, tk = point.inputs["x_q"].shape[1], tokens.shape[1]
    offset = tk - tq if point.options["causal"] == "bottom-right" else 0
    # rows before the cut must see a key, and some key must lie beyond them
    first, last = max(1, 1 - offset), min(tq, tk - 1 - offset)
    cut = int(point.rng.integers(first, last + 1)) if first <= last else min(1, tq)
    future = np.arange(tk)[:, None] >= cut + offset
    later = changed(
        point,
        f"tokens of x_kv from {max(cut + offset, 0)} on changed, which no query before {cut} sees",
        {},
        x_kv=np.where(future, -100 * tokens, tokens),
    )

    def past(n: Near) -> Near:
        return n[:, :cut]

    def agree(drawn: Answer, got: Answer) -> Any:
        for each in agreeing(1, got, drawn):
            yield each._replace(got=past(each.got), want=past(each.want))

    return Posed((as_drawn(point), later), agree)


def _decode_as_prefill(point: Point) -> Posed:
    last = point.inputs["x_q"].shape[1] - 1
    alone = changed(
        point,
        "the last token of x_q alone",
        mask_at(point, -2, np.array([last])),
        x_q=point.inputs["x_q"][:, last:],
    )
    return Posed(
        (as_drawn(point), alone), lambda whole, got: agreeing(1, got, whole, lambda n: n[:, last:])
    )


_SMALL = "b2.hq4.hkv2.tq17.tk33.d8.e24/default/normal"
_BIASED = "b2.hq6.hkv3.tq17.tk20.d8.e24/biases-normal+mask-random/normal"
_PROPERTIES: Mapping[str, tuple[str, Relation, tuple[str, ...], tuple[str, ...]]] = {
    "queries-permuted": (
        "Permuting the tokens of x_q, and the mask with them, permutes the rows.",
        Relation(_queries_permuted, FREE),
        (_SMALL,),
        (_BIASED,),
    ),
    "keys-permuted": (
        "Permuting the tokens of x_kv, and the mask with them, changes nothing.",
        Relation(_keys_permuted, FREE),
        (_SMALL,),
        (_BIASED,),
    ),
    "batch-permuted": (
        "Permuting the batch permutes the output.",
        Relation(_batch_permuted, CAUSAL),
        ("b3.hq4.hkv2.tq17.tk33.d8.e24/mask-per-query/normal",),
        (),
    ),
    "heads-permuted": (
        "Permuting heads, in the columns of w_q, w_k and w_v, their biases, and the rows of w_o, "
        "changes nothing.",
        Relation(_heads_permuted, CAUSAL),
        (_BIASED,),
        (_SMALL,),
    ),
    "heads-repeated": (
        "A layer whose query heads share key heads equals one that repeats the weights of each key "
        "head for its group.",
        Relation(_heads_repeated, CAUSAL),
        (_SMALL,),
        (_BIASED, "b1.hq4.hkv1.tq20.tk20.d8.e24/causal-top-left/self"),
    ),
    "future-changed": (
        "Under causal, changing tokens of the future changes no past row.",
        Relation(_future_changed, CAUSAL, requires="causal"),
        ("b1.hq2.hkv2.tq33.tk33.d8.e24/causal-top-left/normal",),
        ("b2.hq4.hkv2.tq20.tk35.d8.e24/causal-bottom-right/normal",),
    ),
    "decode-as-prefill": (
        "The last token of x_q alone gives the last row of the whole call.",
        Relation(_decode_as_prefill, (*FREE, "causal-bottom-right")),
        ("b2.hq4.hkv2.tq17.tk33.d8.e24/causal-bottom-right/normal",),
        (_BIASED,),
    ),
}

LAYER_PROPERTIES = tuple(
    property_clause("attention", name, sentence, relation, smoke, core)
    for name, (sentence, relation, smoke, core) in _PROPERTIES.items()
)
"""One clause per property."""
