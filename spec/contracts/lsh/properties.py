"""Properties of LSH attention: what rounds, heads and coordinates leave as it is.

Tokens stay as they are, but for what moves them exactly: others might lose their margin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.relations import (
    EXTENDED,
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

OPTIONS = ("causal", "duplicates")


def _rounds_repeated(point: Point) -> Posed:
    """Where duplicates are counted, every weight doubles."""
    rotations = point.inputs["rotations"]
    twice = changed(point, "every round twice", {}, rotations=np.tile(rotations, (2, 1, 1)))
    counted = point.options.get("duplicates") == "counted"
    log_2 = np.log(np.asarray(2.0 if counted else 1.0, EXTENDED))

    def agree(once: Answer, got: Answer) -> Iterable[Agreement]:
        for each in agreeing(1, got, once):
            more = Near(log_2, np.asarray(2 * np.finfo(EXTENDED).eps * log_2))
            yield each._replace(want=each.want + more) if each.output == "lse" else each

    return Posed((as_drawn(point), twice), agree)


def _coordinates_turned(point: Point) -> Posed:
    """A signed permutation is the only orthogonal matrix that no number is rounded by."""
    qk, rotations = point.inputs["qk"], point.inputs["rotations"]
    order, sign = cycle(point.rng, qk.shape[-1]), point.rng.choice([-1.0, 1.0], qk.shape[-1])
    turned = changed(
        point,
        "coordinates of tokens and rotations permuted and negated",
        {},
        qk=qk[..., order] * sign,
        rotations=rotations[:, order] * sign[:, None],
    )
    return Posed((as_drawn(point), turned), lambda one, got: agreeing(1, got, one))


def _values_doubled(point: Point) -> Posed:
    def agree(drawn: Answer, doubled: Answer) -> Iterable[Agreement]:
        for each in agreeing(1, doubled, drawn):
            yield each._replace(want=each.want * 2) if each.output == "out" else each

    return Posed((as_drawn(point), changed(point, "v doubled", {}, v=2 * point.inputs["v"])), agree)


def _unit_values(point: Point) -> Posed:
    v = np.ones_like(point.inputs["v"])

    def agree(unit: Answer) -> Iterable[Agreement]:
        if "out" in unit:
            want = np.ones(v.shape, EXTENDED)
            yield Agreement(0, "out", unit["out"], Near(want, np.zeros(want.shape)))

    return Posed((changed(point, "V = 1", {}, v=v),), agree)


class _Property(NamedTuple):
    sentence: str
    relation: Relation
    smoke: tuple[str, ...]
    core: tuple[str, ...] = ()


_SMALL = "b1.h2.t30.d16.rounds2.half2/default/normal"
_CAUSAL = "b1.h2.t30.d16.rounds2.half2/causal-top-left/large-logit"
_COUNTED = "b1.h2.t30.d16.rounds2.half2/duplicates-counted/clustered"

_PROPERTIES: Mapping[str, _Property] = {
    "batch-permuted": _Property(
        "Permuting the batch permutes the outputs.",
        axis_permuted("b", 0, OPTIONS),
        ("b3.h1.t20.d16.rounds1.half2/default/normal",),
    ),
    "heads-permuted": _Property(
        "Permuting the heads permutes the outputs.",
        axis_permuted("h", 1, OPTIONS),
        ("b1.h4.t20.d16.rounds1.half2/default/normal",),
    ),
    "rounds-permuted": _Property(
        "The order of the rounds changes nothing.",
        axis_permuted("rounds", None, OPTIONS),
        (_SMALL,),
        (_CAUSAL, _COUNTED),
    ),
    "rounds-repeated": _Property(
        "Every round twice changes nothing but lse, and that by log 2 where duplicates are "
        "counted.",
        Relation(_rounds_repeated, OPTIONS),
        (_SMALL, _COUNTED),
        (_CAUSAL,),
    ),
    "coordinates-turned": _Property(
        "Coordinates of tokens and rotations may be permuted and negated together.",
        Relation(_coordinates_turned, OPTIONS),
        (_SMALL,),
        (_CAUSAL,),
    ),
    "values-doubled": _Property(
        "Doubling the values doubles out and leaves lse.",
        Relation(_values_doubled, OPTIONS),
        (_SMALL,),
    ),
    "unit-values": _Property(
        "Values of one give 1 in every row: each attends to others, or to itself.",
        Relation(_unit_values, OPTIONS),
        (_CAUSAL,),
        (_COUNTED,),
    ),
}

PROPERTIES = tuple(
    property_clause("approximate", name, *each) for name, each in _PROPERTIES.items()
)
"""Clauses about related calls."""
