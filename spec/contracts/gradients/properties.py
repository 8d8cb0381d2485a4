"""Properties of attention's backward pass: what related calls imply of each other.

Every call takes the out and lse that its own forward pass leaves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    Agreement,
    Answer,
    Near,
    Point,
    Posed,
    Relation,
    agreeing,
    as_drawn,
    axis_permuted,
    changed,
    cycle,
)

Agreements = Iterable[Agreement]
OPTIONS = ("causal", "scale")


def _doubled(point: Point) -> Posed:
    def agree(drawn: Answer, doubled: Answer) -> Agreements:
        return agreeing(1, doubled, drawn, lambda n: n * 2)

    twice = changed(point, "d_out doubled", {}, d_out=2 * point.inputs["d_out"])
    return Posed((as_drawn(point), twice), agree)


def _split(point: Point) -> Posed:
    d_out = point.inputs["d_out"]
    even = np.arange(d_out.shape[-2])[:, None] % 2 == 0

    def agree(whole: Answer, one: Answer, other: Answer) -> Agreements:
        for name in whole:
            yield Agreement(0, name, whole[name], one[name] + other[name])

    calls = (
        as_drawn(point),
        changed(point, "d_out zero at odd queries", {}, d_out=np.where(even, d_out, 0.0)),
        changed(point, "d_out zero at even queries", {}, d_out=np.where(even, 0.0, d_out)),
    )
    return Posed(calls, agree)


def _keys_moved(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["k"].shape[-2])

    def agree(drawn: Answer, got: Answer) -> Agreements:
        for each in agreeing(1, got, drawn):
            yield each if each.output == "dq" else each._replace(want=each.want[:, :, order])

    moved = changed(point, "keys and values permuted", {}, **point.moved(tk=order))
    return Posed((as_drawn(point), moved), agree)


def _past_kept(point: Point) -> Posed:
    """All keys that no query before a cut sees under causal, as large as float16 holds."""
    k, v = point.inputs["k"], point.inputs["v"]
    tq, tk = point.inputs["q"].shape[-2], k.shape[-2]
    offset = tk - tq if point.options["causal"] == "bottom-right" else 0
    first, last = max(1, 1 - offset), min(tq, tk - 1 - offset)
    cut = int(point.rng.integers(first, last + 1)) if first <= last else min(1, tq)
    future = np.arange(tk)[:, None] >= cut + offset
    later = changed(
        point,
        f"keys and values from {max(cut + offset, 0)} on changed, which no query before {cut} sees",
        {},
        k=np.where(future, 100 * np.sign(k), k),
        v=np.where(future, 100 * np.sign(v), v),
    )

    def past(n: Near) -> Near:
        return n[:, :, :cut]

    def agree(drawn: Answer, got: Answer) -> Agreements:
        if "dq" in got:
            yield Agreement(1, "dq", past(got["dq"]), past(drawn["dq"]))

    return Posed((as_drawn(point), later), agree)


_SMALL = "b2.hq2.hkv1.tq17.tk33.d32/default/normal"
_CAUSAL = "b2.hq2.hkv1.tq33.tk40.d32/causal-bottom-right/normal"

_PROPERTIES = {
    "gradients-doubled": (
        "Doubling d_out doubles every gradient.",
        Relation(_doubled, OPTIONS),
        (_SMALL,),
    ),
    "gradients-split": (
        "Every gradient is the sum of what d_out gives at even and at odd queries, each beside "
        "zeros.",
        Relation(_split, OPTIONS),
        (_SMALL,),
    ),
    "keys-moved": (
        "Permuting keys and values together permutes dk and dv, and leaves dq.",
        Relation(_keys_moved, ("scale",)),
        (_SMALL,),
    ),
    "batch-moved": (
        "Permuting the batch permutes every gradient.",
        axis_permuted("b", 0, OPTIONS, words="batch permuted"),
        (_CAUSAL,),
    ),
    "past-kept": (
        "Under causal, changing keys and values of the future changes no dq of the past.",
        Relation(_past_kept, OPTIONS, requires="causal"),
        (_CAUSAL,),
    ),
}


def gradient_properties() -> tuple[Clause, ...]:
    """One clause per property."""
    return tuple(
        property_clause("attention", name, sentence, relation, smoke)
        for name, (sentence, relation, smoke) in _PROPERTIES.items()
    )
