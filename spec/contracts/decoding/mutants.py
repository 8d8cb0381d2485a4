"""Planted bugs of decoding: of lengths, and of splits and their merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.mutants import changed_options, outputs_of
from kernelproof.spec.language import TILES, Model, Outputs, mutants, tile_mutants

Array = npt.NDArray[Any]
Merge = Callable[[Array, Array, Array], Outputs]
"""Makes out and lse of partial results: s b hq 1 dv and s b hq 1, of which b hold a key each."""


def _held(x: Mapping[str, Any], options: Mapping[str, Any]) -> Array:
    """How many keys each sequence has: b."""
    return np.asarray(options.get("lengths", np.full(len(x["k"]), x["k"].shape[2])), np.int64)


def _dealt(x: Mapping[str, Any], options: Mapping[str, Any], tile: int) -> tuple[Array, Array]:
    """Which split each key goes to, b tk, and how many splits of each sequence hold one: b."""
    tiles = -(-_held(x, options) // tile)
    each = np.maximum(-(-tiles // options["splits"]), 1)
    return np.arange(x["k"].shape[2]) // (each * tile)[:, None], -(-tiles // each)


def _over_splits(merge: Merge) -> Callable[[int], Model]:
    """The bug that merges the splits wrongly, by the size of the tiles that they are dealt."""

    def of_tile(tile: int) -> Model:
        def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
            if "splits" not in options:
                return None
            split, parts = _dealt(x, options, tile)
            if parts.max(initial=0) < 2:
                return None
            seen = [split == s for s in range(parts.max())]
            each = [reference(**x, **{**options, "mask": s[:, None, None]}) for s in seen]
            return merge(np.stack([e.out for e in each]), np.stack([e.lse for e in each]), parts)

        return model

    return of_tile


def _plain_mean(out: Array, lse: Array, parts: Array) -> Outputs:
    """Splits without keys give 0 and do not count."""
    return {"out": out.sum(0) / np.maximum(parts, 1)[:, None, None, None]}


def _largest_lse(out: Array, lse: Array, parts: Array) -> Outputs:
    return {"lse": lse.max(0)}


def _last_split_dropped(tile: int) -> Model:
    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        if "splits" not in options:
            return None
        split, parts = _dealt(x, options, tile)
        kept = split < parts[:, None] - 1
        return outputs_of(reference(**x, **{**options, "mask": kept[:, None, None]}))

    return model


def _zero_logits_counted(count: Callable[[Any, Any, int], Array]) -> Callable[[int], Model]:
    """The bug that counts so many logits of 0 in each sequence, whose values are 0: b."""

    def of_tile(tile: int) -> Model:
        def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
            more = count(x, options, tile)[:, None, None]
            if not more.any():
                return None
            exact = reference(**x, **options)
            lse = np.logaddexp(exact.lse, np.log(more))
            share = np.exp(exact.lse - np.where(lse > -np.inf, lse, 0))
            return {"out": exact.out * share[..., None], "lse": lse}

        return model

    return of_tile


def _empty_splits(x: Mapping[str, Any], options: Mapping[str, Any], tile: int) -> Array:
    if "splits" not in options:
        return np.zeros(len(x["k"]))
    return np.asarray(options["splits"] - _dealt(x, options, tile)[1])


def _padding(x: Mapping[str, Any], options: Mapping[str, Any], tile: int) -> Array:
    return np.asarray(-_held(x, options) % tile)


DECODING_MUTANTS = (
    *mutants(
        {
            "lengths-ignored": (
                "every key is read, whatever the lengths",
                changed_options(lengths=None),
            ),
            "lengths-one-more": (
                "one key beyond each length is read",
                changed_options(lengths=lambda n: n + 1),
            ),
            "lengths-one-less": (
                "the last key of each sequence is not read",
                changed_options(lengths=lambda n: n - 1),
            ),
            "lengths-of-neighbour": (
                "each sequence has the length of its neighbour",
                changed_options(lengths=lambda n: np.roll(n, 1)),
            ),
        }
    ),
    *tile_mutants(
        {
            "merged-without-weights": (
                "the result is the plain mean of those of the splits",
                _over_splits(_plain_mean),
            ),
            "lse-of-largest-split": (
                "lse is the largest of the splits, not that of all",
                _over_splits(_largest_lse),
            ),
            "last-split-dropped": ("the last split is not merged", _last_split_dropped),
            "empty-splits-counted": (
                "a split without keys is merged with an lse of 0",
                _zero_logits_counted(_empty_splits),
            ),
        },
        # splits of equal length, and of whole tiles
        tiles=(1, *TILES),
    ),
    *tile_mutants(
        {
            "padding-counted": (
                "the padding of the last tile of a sequence is counted in the row sum",
                _zero_logits_counted(_padding),
            ),
        }
    ),
)
"""What goes wrong in decoding alone."""
