"""Properties of self-attention without parameters: what related calls imply of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
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

Array = npt.NDArray[Any]


def _sequences_permuted(point: Point) -> Posed:
    order = cycle(point.rng, len(point.inputs["x"]))
    moved = changed(point, "sequences permuted", {}, x=point.inputs["x"][order])
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[order])
    )


def _tokens_permuted(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["x"].shape[1])
    moved = changed(point, "tokens permuted", {}, x=point.inputs["x"][:, order])
    return Posed(
        (as_drawn(point), moved), lambda one, got: agreeing(1, got, one, lambda n: n[:, order])
    )


def _axes_turned(point: Point) -> Posed:
    """A signed permutation is the only orthogonal matrix that no number is rounded by."""
    d = point.inputs["x"].shape[-1]
    order, sign = cycle(point.rng, d), point.rng.choice([-1.0, 1.0], d)

    def turn(n: Near) -> Near:
        return Near(n.value[..., order] * sign, n.bound[..., order])

    turned = changed(
        point, "coordinates permuted and negated", {}, x=point.inputs["x"][..., order] * sign
    )
    return Posed((as_drawn(point), turned), lambda one, got: agreeing(1, got, one, turn))


def _tokens_repeated(point: Point) -> Posed:
    twice = changed(point, "every token twice", {}, x=np.tile(point.inputs["x"], (1, 2, 1)))

    def tile(n: Near) -> Near:
        return Near(np.tile(n.value, (1, 2, 1)), np.tile(n.bound, (1, 2, 1)))

    return Posed((as_drawn(point), twice), lambda one, got: agreeing(1, got, one, tile))


def _coordinate_constant(point: Point) -> Posed:
    """Coordinate 0 is 0, then 12: all logits move by 144, the other coordinates of out do not."""
    rest = np.array(point.inputs["x"])

    def call(words: str, constant: float) -> Variant:
        rest[..., 0] = constant
        return changed(point, words, {}, x=rest.copy())

    def agree(zero: Answer, raised: Answer) -> list[Agreement]:
        got = raised["out"]
        constant = Near(np.full(got.value.shape[:-1], 12.0), np.zeros(got.value.shape[:-1]))
        return [
            Agreement(1, "out", got[..., 1:], zero["out"][..., 1:]),
            Agreement(1, "out", got[..., 0], constant),
        ]

    return Posed((call("coordinate 0 is 0", 0.0), call("coordinate 0 is 12", 12.0)), agree)


def _outlier(point: Point) -> Posed:
    """One token has a coordinate of its own, of 32: its logit with itself is 1024, with others 0,
    and exp(-1024) is no number of any format."""
    x = np.array(point.inputs["x"])
    b, t, _ = x.shape
    rows, chosen = np.arange(b), point.rng.integers(0, max(t, 1), b)
    x[..., 0] = 0.0
    x[rows, chosen] = 0.0
    x[rows, chosen, 0] = 32.0

    def agree(got: Answer) -> list[Agreement]:
        want = x[rows, chosen].astype(np.longdouble)
        return [Agreement(0, "out", got["out"][rows, chosen], Near(want, np.zeros(want.shape)))]

    return Posed((changed(point, "one token far longer than all others", {}, x=x),), agree)


_SMALL = ("b2.t33.d32/default/normal",)
_MORE = ("b2.t70.d64/default/clustered",)

PROPERTIES: tuple[Clause, ...] = tuple(
    property_clause("attention", name, sentence, relation, _SMALL, _MORE)
    for name, sentence, relation in (
        (
            "sequences-permuted",
            "Permuting the sequences of a batch permutes those of out.",
            Relation(_sequences_permuted),
        ),
        (
            "tokens-permuted",
            "Permuting the tokens permutes the rows of out.",
            Relation(_tokens_permuted),
        ),
        (
            "axes-turned",
            "Turning the axes turns out with them: permuting and negating coordinates of all "
            "tokens does so to those of out.",
            Relation(_axes_turned),
        ),
        (
            "tokens-repeated",
            "Repeating every token repeats the rows of out, and changes none.",
            Relation(_tokens_repeated),
        ),
        (
            "coordinate-constant",
            "Giving all tokens one more number in common raises all logits alike, and changes out "
            "there alone.",
            Relation(_coordinate_constant),
        ),
        (
            "outlier",
            "A token far longer than all others, and orthogonal to them, attends to itself alone.",
            Relation(_outlier),
        ),
    )
)
