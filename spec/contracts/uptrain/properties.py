"""Properties of pooled heads: what related calls imply of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    Answer,
    Point,
    Posed,
    Relation,
    agreeing,
    as_drawn,
    changed,
    cycle,
)

Array = npt.NDArray[Any]


def _heads_permuted(point: Point) -> Posed:
    """The heads of each group change places."""
    hq, hkv = point.options["heads"], point.options["kv_heads"]
    within = cycle(point.rng, hq // hkv)
    order = (np.arange(hkv)[:, None] * (hq // hkv) + within).reshape(-1)
    moved = changed(
        point, "heads permuted in each group", {}, w=_heads(point.inputs["w"], hq, order)
    )
    calls = (as_drawn(point), moved)
    return Posed(calls, lambda drawn, got: agreeing(1, got, drawn))


def _groups_permuted(point: Point) -> Posed:
    hq, hkv = point.options["heads"], point.options["kv_heads"]
    groups = cycle(point.rng, hkv)
    order = np.arange(hq).reshape(hkv, -1)[groups].reshape(-1)
    moved = changed(point, "groups permuted", {}, w=_heads(point.inputs["w"], hq, order))
    columns = _heads(np.arange(point.inputs["w"].shape[1] // (hq // hkv))[None], hkv, groups)[0]

    def agree(drawn: Answer, got: Answer) -> Any:
        return agreeing(1, got, drawn, lambda n: n[:, columns])

    return Posed((as_drawn(point), moved), agree)


def _heads(w: Array, heads: int, order: Array) -> Array:
    """Heads side by side, in another order."""
    return w.reshape(len(w), heads, -1)[:, order].reshape(w.shape)


UPTRAIN_PROPERTIES = (
    Clause(
        "attention.property.heads-permuted",
        "Permuting the heads of a group changes nothing.",
        "properties",
        smoke=("hq8.hkv2.d16.e24/default/normal",),
        relation=Relation(_heads_permuted),
    ),
    Clause(
        "attention.property.groups-permuted",
        "Permuting the groups permutes the pooled heads.",
        "properties",
        smoke=("hq6.hkv3.d16.e24/default/normal",),
        relation=Relation(_groups_permuted),
    ),
)
"""One clause per property."""
