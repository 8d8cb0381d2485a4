"""Planted bugs of uptraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.language import Model, Outputs, mutants, rounding_mutants

Array = npt.NDArray[Any]


def _pooled(pool: Callable[[Array], Array]) -> Model:
    """The bug that pools wrongly; ``pool`` gets the heads by group: e hkv g d."""

    def model(
        reference: Callable[..., Any], x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs:
        exact = reference(**x, **options)
        return {"out": pool(exact.grouped).reshape(exact.out.shape)}

    return model


def _random_head(grouped: Array) -> Array:
    chosen = np.random.default_rng(0).integers(grouped.shape[2], size=grouped.shape[1])
    return np.asarray(grouped[:, np.arange(grouped.shape[1]), chosen])


def _by_modulo(grouped: Array) -> Array:
    """Group j is of the heads h with h mod hkv = j."""
    e, hkv, group, d = grouped.shape
    return np.asarray(grouped.reshape(e, group, hkv, d).mean(axis=1))


def _heads_last(grouped: Array) -> Array:
    """Columns are read as d heads, as if the heads of a channel lay side by side."""
    e, hkv, group, d = grouped.shape
    return np.asarray(grouped.reshape(e, d, hkv, group).mean(axis=3).swapaxes(1, 2))


UPTRAIN_MUTANTS = (
    *mutants(
        {
            "sum": ("the heads of a group are added, not averaged", _pooled(lambda w: w.sum(2))),
            "first-head": ("each group keeps its first head", _pooled(lambda w: w[:, :, 0])),
            "random-head": (
                "each group keeps one of its heads, drawn at random",
                _pooled(_random_head),
            ),
            "groups-by-modulo": (
                "head h belongs to group h mod hkv instead of h // g",
                _pooled(_by_modulo),
            ),
            "heads-last": (
                "the columns of a head are read as far apart instead of side by side",
                _pooled(_heads_last),
            ),
            "divided-by-groups": (
                "sums are divided by the number of groups instead of the heads of one",
                _pooled(lambda w: w.sum(2) / w.shape[1]),
            ),
            "last-head-dropped": (
                "the last head of each group is not added",
                _pooled(lambda w: w[:, :, :-1].sum(2) / w.shape[2]),
            ),
        }
    ),
    *rounding_mutants(
        {"sum-in-bfloat16": ("the sum over heads is kept in bfloat16", {"sum": "bfloat16"})}
    ),
)
"""The bugs of a mean over groups of heads."""
