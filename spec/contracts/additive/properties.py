"""Properties of additive attention: what related calls imply of each other.

Every change of the inputs survives a rounding: rows are moved, zeroed, doubled or negated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.language import Clause
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
from kernelproof.spec.rounding import gamma

Array = npt.NDArray[Any]
Agreements = Iterable[Agreement]


def _mask(point: Point, columns: Any) -> dict[str, Array]:
    """The mask, if any, with these columns of keys."""
    mask = point.options.get("mask")
    return {} if mask is None else {"mask": np.ascontiguousarray(mask[..., columns])}


def _seen(point: Point) -> Array:
    """Which keys each query may attend to: b tq tk."""
    shape = (*point.inputs["query"].shape[:2], point.inputs["key"].shape[1])
    return np.broadcast_to(point.options.get("mask", True), shape).astype(EXTENDED)


def _keys_permuted(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["key"].shape[1])
    moved = changed(point, "keys and values permuted", _mask(point, order), **point.moved(tk=order))

    def agree(drawn: Answer, got: Answer) -> Agreements:
        for each in agreeing(1, got, drawn):
            permuted = each.output == "weights"
            yield each._replace(want=each.want[..., order]) if permuted else each

    return Posed((as_drawn(point), moved), agree)


def _units_negated(point: Point) -> Posed:
    """tanh is odd: units of the other sign, weighed with the other sign."""
    names = ("w_query", "w_key", "bias", "w_score")
    turned = {name: -point.inputs[name] for name in names}
    calls = (as_drawn(point), changed(point, "every weight and the bias negated", {}, **turned))
    return Posed(calls, lambda drawn, got: agreeing(1, got, drawn))


def _units_split(point: Point) -> Posed:
    """A unit may be two of half its score weight: halves are exact."""
    twice = {
        name: np.concatenate([point.inputs[name]] * 2, axis=-1) for name in ("w_query", "w_key")
    }
    bias, half = np.tile(point.inputs["bias"], 2), np.tile(point.inputs["w_score"] / 2, 2)
    split = changed(
        point, "every hidden unit twice, of half weight", {}, **twice, bias=bias, w_score=half
    )
    return Posed((as_drawn(point), split), lambda drawn, got: agreeing(1, got, drawn))


def _values_doubled(point: Point) -> Posed:
    def agree(drawn: Answer, doubled: Answer) -> Agreements:
        for each in agreeing(1, doubled, drawn):
            yield each._replace(want=each.want * 2) if each.output == "out" else each

    doubled = changed(point, "value doubled", {}, value=2 * point.inputs["value"])
    return Posed((as_drawn(point), doubled), agree)


def _unit_values(point: Point) -> Posed:
    value = np.ones_like(point.inputs["value"])
    some = _seen(point).max(-1, keepdims=True, initial=0.0)
    want = np.broadcast_to(some, (*some.shape[:2], value.shape[-1]))

    def agree(unit: Answer) -> Agreements:
        if "out" in unit:
            yield Agreement(0, "out", unit["out"], Near(want, np.zeros(want.shape)))

    return Posed((changed(point, "value = 1", {}, value=value),), agree)


def _no_score_weights(point: Point) -> Posed:
    value, seen = point.inputs["value"].astype(EXTENDED), _seen(point)
    weights = seen / np.maximum(seen.sum(-1, keepdims=True), 1)
    eps = float(np.finfo(EXTENDED).eps)
    error = gamma(value.shape[1] + 2, eps) * (weights @ abs(value))
    wants = {"out": Near(weights @ value, error), "weights": Near(weights, eps * weights)}

    def agree(got: Answer) -> Agreements:
        for name, near in got.items():
            yield Agreement(0, name, near, wants[name])

    none = np.zeros_like(point.inputs["w_score"])
    return Posed((changed(point, "w_score = 0", {}, w_score=none),), agree)


def _hidden_keys_left_out(point: Point) -> Posed:
    """The last keys are hidden from every query, or not there."""
    mask, tk = point.options["mask"], point.inputs["key"].shape[1]
    cut = int(point.rng.integers(1, max(tk, 2)))
    kept = {name: point.inputs[name][:, :cut] for name in ("key", "value")}
    calls = (
        changed(point, f"keys from {cut} on hidden", {"mask": mask & (np.arange(tk) < cut)}),
        changed(point, f"keys from {cut} on left out", _mask(point, slice(cut)), **kept),
    )

    def agree(hidden: Answer, got: Answer) -> Agreements:
        for each in agreeing(1, got, hidden):
            shorter = each.output == "weights"
            yield each._replace(want=each.want[..., :cut]) if shorter else each

    return Posed(calls, agree)


def _query_alone(point: Point) -> Posed:
    """As a decoder asks: one state at a time."""
    last = slice(-1, None)
    alone = changed(point, "the last query alone", {}, query=point.inputs["query"][:, last])
    return Posed(
        (as_drawn(point), alone),
        lambda whole, got: agreeing(1, got, whole, lambda n: n[:, last]),
    )


_SMALL = ("b2.h16.tq9.tk20.dv8.dq12/default/normal",)
_MASKED = ("b2.h16.tq9.tk20.dv8.dq12/mask-random/normal",)

_PROPERTIES: Mapping[str, tuple[str, Relation, Sequence[str], Sequence[str]]] = {
    "keys-permuted": (
        "Permuting keys and values together, and the mask with them, permutes weights and leaves "
        "out.",
        Relation(_keys_permuted, ("mask",)),
        _SMALL,
        _MASKED,
    ),
    "units-permuted": (
        "Permuting the hidden units (columns of both projections, bias and score weights together) "
        "changes nothing.",
        axis_permuted("h", None, ("mask", "form"), words="hidden units permuted"),
        _SMALL,
        _MASKED,
    ),
    "units-negated": (
        "Negating both projections, the bias and the score weights changes nothing: tanh is odd.",
        Relation(_units_negated, ("mask", "form")),
        _SMALL,
        ("b1.h40.tq5.tk33.dq12/default/heavy-tailed",),
    ),
    "units-split": (
        "A hidden unit may be two of half its score weight.",
        Relation(_units_split, ("mask", "form")),
        _SMALL,
        (),
    ),
    "values-doubled": (
        "Doubling the values doubles out and leaves weights.",
        Relation(_values_doubled, ("mask",)),
        _SMALL,
        _MASKED,
    ),
    "unit-values": (
        "Values of one give 1 in every row that sees a key, and 0 in the others.",
        Relation(_unit_values, ("mask",)),
        _SMALL,
        ("b2.h16.tq9.tk20.dq12/mask-empty-rows/normal",),
    ),
    "no-score-weights": (
        "Without score weights out is the mean of the values that each row sees.",
        Relation(_no_score_weights, ("mask",)),
        _MASKED,
        _SMALL,
    ),
    "hidden-keys-left-out": (
        "Keys that no query may attend to can as well be left out.",
        Relation(_hidden_keys_left_out, ("mask",), requires="mask"),
        _MASKED,
        ("b2.h16.tq9.tk33.dq12/mask-padding/heavy-tailed",),
    ),
    "query-alone": (
        "The last query alone gives the last row of the whole call.",
        Relation(_query_alone, ("form",)),
        _SMALL,
        ("b2.h16.tq9.tk20.dv8.dq12/form-decoder/normal",),
    ),
}

PROPERTIES: tuple[Clause, ...] = tuple(
    property_clause("attention.additive", name, sentence, relation, smoke, core)
    for name, (sentence, relation, smoke, core) in _PROPERTIES.items()
)
"""One clause per property."""
