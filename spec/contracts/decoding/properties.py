"""Properties of decoding: what the splits and the lengths of a call leave as it is."""

from __future__ import annotations

from collections.abc import Iterable

from kernelproof.spec.contracts.decoding.cases import HEADS
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    Agreement,
    Answer,
    Point,
    Posed,
    Relation,
    Variant,
    agreeing,
    as_drawn,
    changed,
)


def _splits_changed(point: Point) -> Posed:
    """1, 2 and 5 splits, and more than there are keys."""
    numbers = (1, 2, 5, point.inputs["k"].shape[2] + 3)
    calls = [changed(point, f"{n} splits", {"splits": n}) for n in numbers]

    def agree(one: Answer, *others: Answer) -> Iterable[Agreement]:
        for call, got in enumerate(others, 1):
            yield from agreeing(call, got, one)

    return Posed(tuple(calls), agree)


def _sequence_alone(point: Point, sequence: int) -> Variant:
    """One sequence of the batch, its keys cut to its length, in a call without lengths."""
    one, n = slice(sequence, sequence + 1), point.options["lengths"][sequence]
    inputs = {name: x[one] if name == "q" else x[one, :, :n] for name, x in point.inputs.items()}
    options = {name: value for name, value in point.options.items() if name != "lengths"}
    return Variant(f"sequence {sequence} alone, cut to {n} keys", inputs, options)


def _sequences_alone(point: Point) -> Posed:
    alone = [_sequence_alone(point, sequence) for sequence in range(len(point.inputs["q"]))]

    def agree(together: Answer, *each: Answer) -> Iterable[Agreement]:
        for sequence, got in enumerate(each):
            one = slice(sequence, sequence + 1)
            own = {name: near[one] for name, near in together.items()}
            yield from agreeing(sequence + 1, got, own)

    return Posed((as_drawn(point), *alone), agree)


PROPERTIES = (
    Clause(
        "attention.property.splits-changed",
        "Any number of splits gives the same result, also more splits than keys.",
        "properties",
        (f"b2.{HEADS}.tk130.d32/lengths-ragged/normal",),
        (f"b1.{HEADS}.tk200.d64/default/heavy-tailed", f"b1.{HEADS}.tk200.d32/default/rising"),
        relation=Relation(_splits_changed, ("lengths", "scale")),
    ),
    Clause(
        "attention.property.sequences-alone",
        "Each sequence alone, its keys cut to its length, gives its part of the whole result.",
        "properties",
        (f"b3.{HEADS}.tk70.d32/lengths-ragged+splits-3/normal",),
        (
            f"b3.{HEADS}.tk40.d64/lengths-some-empty/heavy-tailed",
            f"b3.{HEADS}.tk130.d32/lengths-ragged+splits-2+scale-0.3/normal",
        ),
        relation=Relation(_sequences_alone, ("lengths", "splits", "scale"), requires="lengths"),
    ),
)
"""Clauses about related calls that no longer query has."""
