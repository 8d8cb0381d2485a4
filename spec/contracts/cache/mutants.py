"""Planted bugs of key/value caches: which tokens an attend reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.spec.contracts.attention.mutants import ROUNDING_MUTANTS
from kernelproof.spec.language import Outputs, mutants, rounding_mutants

Array = npt.NDArray[Any]


def _state(change: Callable[[Array, Array, int], tuple[Array, Array]]) -> Any:
    """The bug that attends over other tokens than were appended.

    ``change`` gets k and v in order (b hkv tokens d) and the group size g; heads of its result
    are repeated to those of the query.
    """

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        cache: Contiguous = reference.__self__
        if cache.k.shape[2] < 2:
            return None
        k, v = change(cache.k, cache.v, x["q"].shape[1] // cache.k.shape[1])
        changed = grouped_query(x["q"], k, v)
        return {"out": changed.out, "lse": changed.lse}

    return model


def _newest_from_slot_before(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    return k, np.concatenate([v[:, :, :-1], v[:, :, -2:-1]], axis=2)


def _one_slot_too_many(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    padded = [np.concatenate([x, 0 * x[:, :, :1]], axis=2) for x in (k, v)]
    return padded[0], padded[1]


def _heads_modulo(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    return np.tile(k, (1, g, 1, 1)), np.tile(v, (1, g, 1, 1))


def _empty_attend_nan(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs | None:
    exact = reference(**x)
    return None if exact.k.shape[2] else {"out": np.full(exact.out.shape, np.nan)}


def _nan_hidden(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs:
    exact = reference(**x)
    return {"out": np.nan_to_num(exact.out), "lse": np.nan_to_num(exact.lse, neginf=-np.inf)}


def _zeros(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs:
    exact = reference(**x)
    return {"out": 0 * exact.out, "lse": 0 * exact.out[..., 0]}


def _mean_of_values(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs | None:
    exact = reference(**x)
    if not exact.v.shape[2]:
        return None
    return {"out": np.broadcast_to(exact.v.mean(2, keepdims=True), exact.out.shape)}


_EXACT = mutants(
    {
        "zeros": ("returns zeros", _zeros),
        "mean-of-values": ("returns the mean of the values appended", _mean_of_values),
        "empty-attend-nan": ("attend before any append divides 0 by 0", _empty_attend_nan),
        "nan-hidden": ("NaN is replaced by zero", _nan_hidden),
        "last-token-lost": (
            "the newest token is not read",
            _state(lambda k, v, g: (k[:, :, :-1], v[:, :, :-1])),
        ),
        "first-token-lost": (
            "the oldest token is not read",
            _state(lambda k, v, g: (k[:, :, 1:], v[:, :, 1:])),
        ),
        "slot-stale": (
            "the newest value is read from the slot before it",
            _state(_newest_from_slot_before),
        ),
        "empty-slot-read": ("one slot beyond the last token is read", _state(_one_slot_too_many)),
        "head-modulo": ("query head h reads key head h mod hkv", _state(_heads_modulo)),
        "batch-of-first": (
            "every sequence reads the tokens of the first",
            _state(lambda k, v, g: (0 * k + k[:1], 0 * v + v[:1])),
        ),
    }
)

CACHE_MUTANTS = (
    *_EXACT,
    *ROUNDING_MUTANTS,
    *rounding_mutants(
        {
            "stored-in-bfloat16": (
                "keys and values are stored in bfloat16",
                {"stored": "bfloat16"},
            ),
        },
        dtypes=("float64", "float32", "float16"),
        harmless="they are bfloat16",
    ),
)
