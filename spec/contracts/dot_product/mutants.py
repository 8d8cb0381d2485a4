"""Planted bugs of self-attention without parameters, each as a change of the exact computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import Attention, attend
from kernelproof.spec.contracts.attention.mutants import ROUNDING_MUTANTS
from kernelproof.spec.language import Model, Mutant, Outputs, mutants, tile_mutants

Array = npt.NDArray[Any]
Change: TypeAlias = Callable[[Attention], "Array | None"]


def _changed(change: Change) -> Model:
    """The bug that spoils a right result: ``change`` gets the record of tokens that there are."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        exact = reference(**x)
        out = change(exact) if exact.out.size else None
        return None if out is None else {"out": out}

    return model


def _scores(change: Callable[[Attention], Array]) -> Model:
    """The bug of other scores; ``change`` returns them, -inf where a token is not seen."""

    def out(e: Attention) -> Array:
        return attend(e.q, e.k, e.v, 1.0, change(e)).out

    return _changed(out)


def _hidden(hide: Callable[[Array, Array], Array]) -> Model:
    """The bug that leaves tokens j out of row i where ``hide`` of i and j says so."""

    def change(e: Attention) -> Array:
        token = np.arange(e.q.shape[-2])
        return np.where(hide(token[:, None], token), -np.inf, e.scores)

    return _scores(change)


def _no_max(e: Attention) -> Array:
    """exp of the logits themselves, in float32."""
    exps = np.exp(e.scores.astype(np.float32))
    return np.asarray(exps / exps.sum(-1, keepdims=True) @ e.v)


def _softmax_over_queries(e: Attention) -> Array:
    exps = np.exp(e.scores - e.scores.max(-2, keepdims=True))
    return np.asarray(exps / exps.sum(-2, keepdims=True) @ e.v)


def _over_coordinates(e: Attention) -> Array:
    """x softmax(xᵀ x): coordinates attend to each other."""
    turned = e.q.swapaxes(-1, -2)
    return np.asarray(attend(turned, turned, turned, 1.0, turned @ e.q).out.swapaxes(-1, -2))


def _unit_tokens(e: Attention) -> Array:
    """The cosine of two tokens, as where they are normalised first."""
    length = np.linalg.norm(e.q.astype(np.float64), axis=-1, keepdims=True)
    unit = e.q / np.where(length == 0, 1, length)
    return np.asarray(unit @ unit.swapaxes(-1, -2))


def _prefix(e: Attention) -> Array | None:
    """The first half of the tokens is read."""
    half = e.q.shape[-2] // 2
    k, scores = e.k[..., :half, :], e.scores[..., :half]
    return attend(e.q, k, k, 1.0, scores).out if half else None


def _first_sequence(e: Attention) -> Array | None:
    """Every sequence attends to the first of the batch."""
    k = np.broadcast_to(e.k[:1], e.k.shape)
    return attend(e.q, k, k, 1.0, e.q @ k.swapaxes(-1, -2)).out if len(e.q) > 1 else None


def _sequences_together(e: Attention) -> Array | None:
    """All tokens of a batch attend to each other."""
    every = e.q.reshape(1, -1, e.q.shape[-1])
    scores = every @ every.swapaxes(-1, -2)
    return (
        attend(every, every, every, 1.0, scores).out.reshape(e.out.shape) if len(e.q) > 1 else None
    )


def _not_divided(e: Attention) -> Array:
    return np.asarray(np.exp(e.scores - e.scores.max(-1, keepdims=True)) @ e.v)


def _padding_counted(tile: int) -> Model:
    """The zero logits of a last tile of tokens, padded, are counted in the sums of rows."""

    def change(e: Attention) -> Array | None:
        padding = -e.q.shape[-2] % tile
        if not padding:
            return None
        return np.asarray(e.out * np.exp(e.lse - np.logaddexp(e.lse, np.log(padding)))[..., None])

    return _changed(change)


def _last_tile_skipped(tile: int) -> Model:
    """The tokens of a last tile that is no whole one are attended to by none."""

    def change(e: Attention) -> Array:
        t = e.q.shape[-2]
        read = np.arange(t) < max(t // tile * tile, 1)
        return np.where(read, e.scores, -np.inf)

    return _scores(change)


_WITHOUT = ("lse-in-bfloat16", "scaled-query-in-bfloat16")
"""Roundings of what this algorithm has not."""

MUTANTS: tuple[Mutant, ...] = (
    *mutants(
        {
            "zeros": ("returns zeros", _changed(lambda e: 0 * e.out)),
            "copy-of-tokens": (
                "returns x itself: one-hot softmaxes accept it",
                _changed(lambda e: e.v),
            ),
            "mean-of-tokens": (
                "returns the mean of all tokens",
                _changed(lambda e: np.broadcast_to(e.v.mean(-2, keepdims=True), e.out.shape)),
            ),
            "prefix": ("reads the first half of the tokens only", _changed(_prefix)),
            "scaled": (
                "scales the logits by 1/sqrt(d)",
                _scores(lambda e: e.scores / np.sqrt(e.q.shape[-1])),
            ),
            "scaled-by-d": (
                "scales the logits by 1/d",
                _scores(lambda e: e.scores / e.q.shape[-1]),
            ),
            "base-2": ("takes powers of 2 instead of e", _scores(lambda e: e.scores * np.log(2))),
            "scaled-1-percent": (
                "logits are 1 percent too large",
                _scores(lambda e: 1.01 * e.scores),
            ),
            "unit-tokens": ("tokens are normalised to length 1 first", _scores(_unit_tokens)),
            "distances": (
                "scores are minus half the squared distances of tokens",
                _scores(lambda e: e.scores - (e.k**2).sum(-1)[..., None, :] / 2),
            ),
            "over-coordinates": ("softmax(xᵀ x) mixes coordinates", _changed(_over_coordinates)),
            "softmax-over-queries": (
                "softmax runs over the queries",
                _changed(_softmax_over_queries),
            ),
            "diagonal-masked": (
                "a token does not attend to itself",
                _hidden(lambda i, j: (i == j) & (i + j > 0)),
            ),
            "future-masked": ("a token does not attend to later ones", _hidden(lambda i, j: j > i)),
            "last-token-dropped": (
                "the last token is attended to by none",
                _hidden(lambda i, j: (j == len(j) - 1) & (j > 0) & (i >= 0)),
            ),
            "first-token-dropped": (
                "the first token is attended to by none",
                _hidden(lambda i, j: (j == 0) & (len(j) > 1) & (i >= 0)),
            ),
            "first-sequence": (
                "every sequence attends to the first of the batch",
                _changed(_first_sequence),
            ),
            "sequences-together": (
                "tokens attend to those of other sequences, too",
                _changed(_sequences_together),
            ),
            "not-divided": ("weights are not divided by their sum", _changed(_not_divided)),
            "residual-added": ("x is added to the result", _changed(lambda e: e.out + e.v)),
            "no-max-subtraction": (
                "the row maximum is not subtracted before exp",
                _changed(_no_max),
            ),
            "division-approximate": (
                "the division by the row sum is 0.1 percent off",
                _changed(lambda e: 0.999 * e.out),
            ),
            "nan-hidden": ("NaN is replaced by zero", _changed(lambda e: np.nan_to_num(e.out))),
        }
    ),
    *tile_mutants(
        {
            "padding-counted": (
                "the padding of the last tile is counted in the row sum",
                _padding_counted,
            ),
            "last-tile-skipped": (
                "the last, ragged tile of tokens is not visited",
                _last_tile_skipped,
            ),
        }
    ),
    *(m for m in ROUNDING_MUTANTS if m.name not in _WITHOUT),
)
