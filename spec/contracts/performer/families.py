"""Input families of attention through random features, which each draw the features, too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.reference.approximate.features import features
from kernelproof.spec.domain import Arrays, Draw, Family, changed, families, with_inputs

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


_changed = partial(changed, _normal)


def _scaled(by: float) -> Draw:
    def change(rng: Rng, x: Arrays, options: Options) -> None:
        x["q"] *= by
        x["k"] *= by

    return _changed(change)


def _growing(rng: Rng, x: Arrays, options: Options) -> None:
    """Keys of norm 0 at first, and twice the usual at last."""
    x["k"] *= np.linspace(0, 2, x["k"].shape[-2])[:, None]


def _opposite(rng: Rng, x: Arrays, options: Options) -> None:
    """Coordinates of a token are all above 0 or all below, of the first keys below: as those of
    features are above 0, relu makes zeros of them."""
    for name in ("q", "k"):
        x[name] = abs(x[name]) * rng.choice([-1.0, 1.0], (*x[name].shape[:-1], 1))
    first = -(-x["k"].shape[-2] // 4)
    x["k"][..., :first, :] = -abs(x["k"][..., :first, :])


def _growing_queries(rng: Rng, x: Arrays, options: Options) -> None:
    """Queries of 1 to 16 times the usual norm: their exponents lie a thousand apart."""
    x["q"] *= np.linspace(1, 16, x["q"].shape[-2])[:, None]


def _value_offset(rng: Rng, x: Arrays, options: Options) -> None:
    x["v"] = 0.1 * x["v"] + 100


def _features(rng: Rng, shape: tuple[int, ...], family: Family) -> Any:
    """Blocks of orthogonal rows, of the lengths of Gaussian ones; of opposite tokens numbers above
    0."""
    if family.name == "opposite":
        return abs(rng.standard_normal(shape))
    r, d = shape
    return features(rng.standard_normal((r, d)), np.sqrt(rng.chisquare(d, r))).features


FAMILIES: Mapping[str, Family] = {
    name: with_inputs(family, {"features": _features})
    for name, family in families(
        generic={
            "normal": ("independent standard normal numbers", _normal),
            "small": ("queries and keys near 0: every key weighs about the same", _scaled(0.25)),
        },
        coherent={
            "large": ("queries and keys of twice the usual norm", _scaled(2)),
            "growing": ("keys whose norms grow along the sequence", _changed(_growing)),
            "growing-queries": (
                "queries whose norms grow along the sequence",
                _changed(_growing_queries),
            ),
            "tiny": ("queries and keys near 2^-18, as phi of relu then is", _scaled(2.0**-18)),
            "value-offset": ("values near 100: errors of weights cancel", _changed(_value_offset)),
            "opposite": (
                "half the queries, and the first keys, lie opposite to all features: relu is 0",
                _changed(_opposite),
            ),
        },
    ).items()
}
"""q, k: b h t d, v: b h t dv, and features: r d, orthogonal but for opposite ones."""
