"""Planted bugs of LSH attention: of hashing, of the sort, of chunks, of tokens alone, of rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.lsh import (
    HashedAttention,
    chunks_of,
    hash_tokens,
)
from kernelproof.spec.contracts.attention.mutants import (
    ROUNDING_MUTANTS,
    changed_options,
    changed_result,
    outputs_of,
)
from kernelproof.spec.contracts.lsh.margin import shortened
from kernelproof.spec.contracts.lsh.steps import Steps, attended, pairs_allowed, with_steps
from kernelproof.spec.language import Model, Outputs, mutants
from kernelproof.spec.rounding import DTYPES

Array = npt.NDArray[Any]
Options = Mapping[str, Any]


def _unstable(buckets: Array, half: int) -> tuple[Array, Array]:
    """Equal buckets come in the opposite order."""
    _, chunk = chunks_of(buckets[..., ::-1], half)
    return buckets, chunk[..., ::-1]


def _sorted_by_position(buckets: Array, half: int) -> tuple[Array, Array]:
    return buckets, chunks_of(np.zeros_like(buckets), half)[1]


def _half_chunks(buckets: Array, half: int) -> tuple[Array, Array]:
    return chunks_of(buckets, 2 * half)


def _of_first_round(x: Array, rotations: Array) -> Array:
    return hash_tokens(x, rotations[:1].repeat(len(rotations), 0))


def _in_bfloat16(x: Array, rotations: Array) -> Array:
    turned = shortened(x @ rotations[:, None, None])
    return np.asarray(np.concatenate([turned, -turned], -1).argmax(-1))


def _halves_swapped(x: Array, rotations: Array) -> Array:
    return hash_tokens(x, -rotations)


def _without_signs(x: Array, rotations: Array) -> Array:
    return np.asarray((x @ rotations[:, None, None]).argmax(-1))


def _lone_per_round(others: Array) -> Array:
    """A token attends to itself in each round in which it is alone."""
    alone = np.asarray(~others.any(-1))
    return np.asarray(others | (alone[..., None] & np.eye(others.shape[-1], dtype=bool)))


def _rounds_apart(change: Callable[[Array, Array], Outputs]) -> Model:
    """The bug that joins the rounds wrongly; ``change`` gets out and lse of each, all in 0."""

    def model(reference: Any, x: Mapping[str, Any], options: Options) -> Outputs | None:
        allowed = pairs_allowed(Steps(), x, options)
        if len(allowed) < 2:
            return None
        each = [attended(x, options, _lone_per_round(one[None])) for one in allowed]
        return change(np.stack([e.out for e in each]), np.stack([e.lse for e in each]))

    return model


def _logits(change: Callable[[HashedAttention], Array]) -> Model:
    """The bug of other logits, for the same pairs."""

    def changed(e: HashedAttention) -> Outputs | None:
        scores = np.where(e.scores > -np.inf, change(e), -np.inf)
        if not scores.size:
            return None
        top = scores.max(-1, keepdims=True)
        exps = np.exp(scores - top)
        total = exps.sum(-1, keepdims=True)
        return {"out": exps / total @ e.v, "lse": (top + np.log(total))[..., 0]}

    return changed_result(changed)


def _log_many(e: HashedAttention) -> Array:
    return np.asarray(np.log(np.maximum(e.allowed.sum(0), 1)) if e.counted else 0.0)


def _scaled(factor: Callable[[int], float]) -> Model:
    def scores(e: HashedAttention) -> Array:
        log = _log_many(e)
        return np.asarray(factor(e.q.shape[-1]) * (e.scores - log) + log)

    return _logits(scores)


def _plain_keys(e: HashedAttention) -> Array:
    """x·x instead of x·k."""
    log, lengths = _log_many(e), np.sqrt((e.q**2).sum(-1))[..., None, :]
    return np.asarray((e.scores - log) * lengths + log)


def _unit_queries(e: HashedAttention) -> Array:
    log, lengths = _log_many(e), np.sqrt((e.q**2).sum(-1, keepdims=True))
    return np.asarray((e.scores - log) / lengths + log)


def _last_chunk_dropped(reference: Any, x: Mapping[str, Any], options: Options) -> Outputs | None:
    """The bug that leaves out what is no whole chunk."""
    half, t = x["rotations"].shape[-1], x["qk"].shape[-2]
    size = max(-(-t // half), 1)
    if not t % size:
        return None
    _, chunk = chunks_of(hash_tokens(x["qk"], x["rotations"]), half)
    left = chunk == t // size
    allowed = pairs_allowed(Steps(), x, options) & ~left[..., None] & ~left[..., None, :]
    return outputs_of(attended(x, options, allowed))


def _next_seen(i: Array, j: Array, causal: bool) -> Array:
    return np.asarray((j != i) & (j <= i + 1) if causal else j != i)


def _duplicates(given: str, taken: str) -> Model:
    """The bug that counts pairs in the other way, where one round does not do for both."""

    def model(reference: Any, x: Mapping[str, Any], options: Options) -> Outputs | None:
        if options.get("duplicates", "once") != given or len(x["rotations"]) < 2:
            return None
        return outputs_of(reference(**x, **{**options, "duplicates": taken}))

    return model


def _heads_rotated(reference: Any, x: Mapping[str, Any], options: Options) -> Outputs | None:
    if x["v"].shape[1] < 2:
        return None
    return outputs_of(reference(**{**x, "v": np.roll(x["v"], 1, axis=1)}, **options))


LSH_MUTANTS = (
    *mutants(
        {
            "zeros": (
                "returns zeros",
                changed_result(lambda e: {"out": 0 * e.out, "lse": 0 * e.lse}),
            ),
            "copy-of-values": (
                "returns V itself",
                changed_result(lambda e: {"out": e.v} if e.v.size else {}),
            ),
            "hash-of-one-round": (
                "every round has the buckets of the first",
                with_steps(buckets=_of_first_round),
            ),
            "hash-in-bfloat16": (
                "x R is rounded to bfloat16 before argmax",
                with_steps(buckets=_in_bfloat16),
            ),
            "hash-without-signs": (
                "argmax is of x R alone: half of the buckets",
                with_steps(buckets=_without_signs),
            ),
            "hash-halves-swapped": (
                "argmax is of [-x R; x R]: buckets are sorted in another order",
                with_steps(buckets=_halves_swapped),
            ),
            "sort-unstable": (
                "within a bucket tokens are not sorted by position",
                with_steps(chunks=_unstable),
            ),
            "not-sorted": (
                "chunks are cut of the tokens as they come",
                with_steps(chunks=_sorted_by_position),
            ),
            "chunks-half-as-long": (
                "a chunk is as long as a bucket, not twice",
                with_steps(chunks=_half_chunks),
            ),
            "chunks-ignored": (
                "all of a bucket attend to each other, however long it is",
                with_steps(near=lambda behind, n: behind == behind),
            ),
            "no-look-back": (
                "a chunk sees itself alone",
                with_steps(near=lambda behind, n: behind == 0),
            ),
            "look-ahead": (
                "a chunk sees the one behind it, too",
                with_steps(near=lambda behind, n: abs(behind) <= 1),
            ),
            "look-back-wraps": (
                "the first chunk sees the last one",
                with_steps(
                    near=lambda behind, n: (behind == 0) | (behind == 1) | (behind == 1 - n)
                ),
            ),
            "last-chunk-dropped": (
                "a last chunk that is not whole is left out",
                _last_chunk_dropped,
            ),
            "bucket-ignored": (
                "a chunk attends to all that it sees, whatever their buckets",
                with_steps(same=lambda bucket: np.ones((*bucket.shape, bucket.shape[-1]), bool)),
            ),
            "self-allowed": (
                "every token attends to itself, too",
                with_steps(others=lambda i, j, causal: j <= i if causal else (i == i) & (j == j)),
            ),
            "self-forbidden": (
                "a token that is alone attends to nothing",
                with_steps(lone=lambda others: others),
            ),
            "self-per-round": (
                "a token attends to itself in each round in which it is alone",
                with_steps(lone=_lone_per_round),
            ),
            "causal-ignored": ("causal is ignored", changed_options(causal=None)),
            "causal-sees-next": (
                "causal is off by one: j <= i + 1",
                with_steps(others=_next_seen),
            ),
            "rounds-averaged": (
                "the result is the plain mean of those of the rounds",
                _rounds_apart(lambda out, lse: {"out": out.mean(0), "lse": lse.mean(0)}),
            ),
            "lse-of-largest-round": (
                "lse is the largest of the rounds, not that of all",
                _rounds_apart(lambda out, lse: {"lse": lse.max(0)}),
            ),
            "log-n-missing": (
                "a pair counts in every round that allows it, though it should once",
                _duplicates("once", "counted"),
            ),
            "log-n-subtracted": (
                "a pair counts once, though duplicates are counted",
                _duplicates("counted", "once"),
            ),
            "keys-not-normalised": ("keys are the tokens, not of length 1", _logits(_plain_keys)),
            "queries-normalised": ("queries have length 1, too", _logits(_unit_queries)),
            "scale-missing": ("does not scale the logits", _scaled(lambda d: d**0.5)),
            "scale-off-1-percent": ("scale is 1 percent off", _scaled(lambda d: 1.01)),
            "scale-off-0.1-percent": ("scale is 0.1 percent off", _scaled(lambda d: 1.001)),
            "heads-rotated": ("each head reads the values of its neighbour", _heads_rotated),
            "division-approximate": (
                "the division by the row sum is 0.1 percent off",
                changed_result(lambda e: {"out": 0.999 * e.out}),
            ),
            "lse-in-log2": (
                "lse is a base-2 logarithm",
                changed_result(lambda e: {"lse": e.lse / np.log(2)}),
            ),
        }
    ),
    # keys of length 1 are no 16-bit numbers, whatever tokens are
    *(replace(m, dtypes=DTYPES, harmless="") for m in ROUNDING_MUTANTS),
)
"""What goes wrong in attention within buckets."""
