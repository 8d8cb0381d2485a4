"""Planted bugs of key/value caches: which tokens an attend reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.reference.cache.rolling import Rolling
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


def _tokens(change: Callable[[Rolling], list[int] | None]) -> Any:
    """The bug that attends over these of all tokens that were ever appended."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        cache: Rolling = reference.__self__
        held = change(cache) if cache.every_k.shape[2] > cache.window else None
        if held is None:
            return None
        changed = grouped_query(x["q"], cache.every_k[:, :, held], cache.every_v[:, :, held])
        return {"out": changed.out, "lse": changed.lse}

    return model


def _newest(cache: Rolling, count: int) -> list[int]:
    tokens = cache.every_k.shape[2]
    return list(range(max(tokens - count, 0), tokens))


def _newest_not_written(cache: Rolling) -> list[int]:
    """In its slot lies the token that has left the window."""
    newest = cache.every_k.shape[2] - 1
    return [*_newest(cache, cache.window)[:-1], newest - cache.window]


def _last_slot_stale(cache: Rolling) -> list[int]:
    """Slots are taken modulo window - 1; in the last one stays its first token."""
    return [*_newest(cache, cache.window - 1), cache.window - 1]


def _up_to_the_newest_slot(cache: Rolling) -> list[int] | None:
    """As if slots were in the order of tokens: those before the newest one's, and it."""
    slot = (cache.every_k.shape[2] - 1) % cache.window
    return _newest(cache, slot + 1) if slot + 1 < cache.window else None


def _behind_the_wrap_lost(cache: Rolling) -> list[int] | None:
    """Of the last append what goes beyond the last slot is not written: its slots are stale."""
    tokens, kept = cache.every_k.shape[2], min(cache.added, cache.window)
    lost = (tokens - kept) % cache.window + kept - cache.window
    if lost <= 0:
        return None
    held = _newest(cache, cache.window)
    return held[:-lost] + [token - cache.window for token in held[-lost:]]


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

WINDOW_MUTANTS = mutants(
    {
        "window-one-more": (
            "one token that has left the window is read",
            _tokens(lambda cache: _newest(cache, cache.window + 1)),
        ),
        "window-ignored": (
            "every token is read, whatever the window",
            _tokens(lambda cache: _newest(cache, cache.every_k.shape[2])),
        ),
        "newest-not-written": (
            "the newest token is not written: its slot holds the one that has left the window",
            _tokens(_newest_not_written),
        ),
        "slot-modulo-short": (
            "slots are taken modulo window - 1: the last one keeps its first token",
            _tokens(_last_slot_stale),
        ),
        "order-assumed": (
            "after a wrap only slots up to the newest token's are read",
            _tokens(_up_to_the_newest_slot),
        ),
        "behind-the-wrap-lost": (
            "of an append that goes beyond the last slot the rest is not written to the first ones",
            _tokens(_behind_the_wrap_lost),
        ),
    }
)
"""What goes wrong where tokens leave a window."""
