"""Input families of attention over projected keys: those of attention, and two projections each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kernelproof.spec.contracts.attention.families import FAMILIES as ATTENTION
from kernelproof.spec.domain import DrawInput, Family, with_inputs

Rng = np.random.Generator


def _random(rng: Rng, shape: tuple[int, ...], family: Family) -> Any:
    """Rows of length 1, about: mixtures are as large as what they mix."""
    return rng.standard_normal(shape) / np.sqrt(max(shape[1], 1))


def _pooling(rng: Rng, shape: tuple[int, ...], family: Family) -> Any:
    """Row i is the mean of the tokens of segment i, of a random length; as many rows as tokens
    give each its own."""
    r, t = shape
    own = np.sort(rng.integers(r, size=t)) if r < t else np.arange(t)
    chosen = own == np.arange(r)[:, None]
    return chosen / np.maximum(chosen.sum(-1, keepdims=True), 1)


def _both(draw: DrawInput) -> Mapping[str, DrawInput]:
    return {"proj_k": draw, "proj_v": draw}


FAMILIES: Mapping[str, Family] = {
    **{
        name: with_inputs(ATTENTION[name], _both(_random))
        for name in (
            *("normal", "large-logit", "huge", "value-offset", "captured"),
            *("nan-query", "nan-key", "nan-value"),
        )
    },
    "pooling": replace(
        with_inputs(ATTENTION["normal"], _both(_pooling)),
        name="pooling",
        sentence="projections that take means of neighbouring tokens",
        generic=False,
    ),
}
"""q, k: b h t d, v: b h t dv, proj_k and proj_v: r t."""
