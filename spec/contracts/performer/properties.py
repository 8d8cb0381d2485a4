"""Properties of attention through random features: what related calls imply of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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
    changed,
    cycle,
)


def _keys_permuted(point: Point) -> Posed:
    k, v = point.inputs["k"], point.inputs["v"]
    order = cycle(point.rng, k.shape[-2])
    moved = changed(point, "keys and values permuted", {}, k=k[..., order, :], v=v[..., order, :])
    return Posed((as_drawn(point), moved), lambda drawn, got: agreeing(1, got, drawn))


def _moved(axis: str) -> Callable[[Point], Posed]:
    """Permuting an axis of inputs permutes it in outputs, if they have it."""

    def pose(point: Point) -> Posed:
        place = {"b": 0, "h": 1}.get(axis)
        name = "features" if axis == "r" else "q"
        order = cycle(point.rng, point.inputs[name].shape[place or 0])
        moved = changed(point, f"{axis} permuted", {}, **point.moved(**{axis: order}))
        index = {None: (...,), 0: order, 1: (slice(None), order)}[place]
        return Posed(
            (as_drawn(point), moved),
            lambda drawn, got: agreeing(1, got, drawn, lambda n: n[index]),
        )

    return pose


def _unit_values(point: Point) -> Posed:
    v = np.ones_like(point.inputs["v"])
    weights = point.reference(**{**point.inputs, "v": v}, **point.options).weights
    want = np.where(weights.any(-1, keepdims=True), v, 0).astype(EXTENDED)

    def agree(unit: Answer) -> Any:
        yield Agreement(0, "out", unit["out"], Near(want, np.zeros(v.shape)))

    return Posed((changed(point, "V = 1", {}, v=v),), agree)


def _future_changed(point: Point) -> Posed:
    """Keys no larger than before: the constant that is taken off all of them must not grow."""
    k, v = point.inputs["k"], point.inputs["v"]
    cut = int(point.rng.integers(1, max(k.shape[-2], 2)))
    future = np.arange(k.shape[-2])[:, None] >= cut
    later = changed(
        point,
        f"keys and values from {cut} on changed",
        {},
        k=np.where(future, k[..., ::-1], k),
        v=np.where(future, 6e4, v),
    )
    return Posed(
        (as_drawn(point), later),
        lambda one, got: agreeing(1, {"out": got["out"][:, :, :cut]}, one, lambda n: n[:, :, :cut]),
    )


def _prefix_alone(point: Point) -> Posed:
    cut = int(point.rng.integers(1, max(point.inputs["q"].shape[-2], 2)))
    first = {name: x[..., :cut, :] for name, x in point.inputs.items() if name != "features"}
    alone = changed(point, f"the first {cut} positions alone", {}, **first)
    return Posed(
        (as_drawn(point), alone),
        lambda whole, got: agreeing(1, got, whole, lambda n: n[:, :, :cut]),
    )


def _property(
    name: str, sentence: str, relation: Relation, smoke: Sequence[str], core: Sequence[str] = ()
) -> Clause:
    anchor = f"approximate.property.{name}"
    return Clause(anchor, sentence, "properties", smoke, core, relation=relation)


_SMALL = "b2.h2.t33.d16.r24/default/normal"
_CAUSAL = "b1.h2.t70.d16.r24/causal-top-left/normal"
_OTHER = "b2.h2.t20.d16.r40/kind-relu+causal-top-left/normal"

PERFORMER_PROPERTIES = (
    _property(
        "keys-permuted",
        "Permuting keys and values together changes nothing.",
        Relation(_keys_permuted, ("kind",)),
        (_SMALL,),
        ("b1.h2.t70.d16.r24/kind-hyperbolic/large",),
    ),
    _property(
        "features-permuted",
        "Permuting the features changes nothing.",
        Relation(_moved("r"), ("kind", "causal")),
        (_SMALL,),
        (_OTHER,),
    ),
    _property(
        "batch-permuted",
        "Permuting the batch permutes the outputs.",
        Relation(_moved("b"), ("kind", "causal")),
        (_SMALL,),
        (_OTHER,),
    ),
    _property(
        "heads-permuted",
        "Permuting the heads permutes the outputs.",
        Relation(_moved("h"), ("kind", "causal")),
        (_SMALL,),
        (_OTHER,),
    ),
    _property(
        "unit-values",
        "V = 1 gives 1, or 0 to a query whose weights are all zero: weights are divided by their "
        "sum, with nothing added to it.",
        Relation(_unit_values, ("kind", "causal")),
        (_SMALL, "b1.h1.t20.d16.r8/kind-relu+causal-top-left/opposite"),
        (_OTHER,),
    ),
    _property(
        "future-changed",
        "Under causal, changing keys and values changes no row before them.",
        Relation(_future_changed, ("kind", "causal"), requires="causal"),
        (_CAUSAL,),
        (_OTHER,),
    ),
    _property(
        "prefix-alone",
        "Under causal, the first positions alone give the rows that they give before others.",
        Relation(_prefix_alone, ("kind", "causal"), requires="causal"),
        (_CAUSAL,),
        (_OTHER,),
    ),
)
"""The properties of attention through random features."""
