"""Planted bugs of additive attention, each as a change of the exact computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.additive import Additive, in_form
from kernelproof.reference.attention.scaled_dot_product import attend
from kernelproof.spec.contracts.additive.bound import per_pair
from kernelproof.spec.contracts.attention.mutants import ROUNDING_MUTANTS
from kernelproof.spec.language import (
    Model,
    Mutant,
    Outputs,
    mutants,
    rounding_mutants,
    spoiled,
    tile_mutants,
)

Array = npt.NDArray[Any]
Inputs = Mapping[str, Any]


def outputs_of(exact: Additive) -> Outputs:
    """The outputs of a record."""
    return {"out": exact.out, "weights": exact.weights}


def _inputs(change: Callable[[Inputs], Mapping[str, Array] | None]) -> Model:
    """The bug that computes the right thing for other inputs; None where there are none."""

    def model(reference: Any, x: Inputs, options: Mapping[str, Any]) -> Outputs | None:
        changed = change(x) if x["key"].size else None
        return None if changed is None else outputs_of(reference(**{**x, **changed}, **options))

    return model


def _option(name: str, change: Callable[[Any], Any]) -> Model:
    """The bug that ignores or replaces an option."""

    def model(reference: Any, x: Inputs, options: Mapping[str, Any]) -> Outputs | None:
        if name not in options:
            return None
        return outputs_of(reference(**x, **{**options, name: change(options[name])}))

    return model


_result = partial(spoiled, ("out", "weights"))
"""The bug that spoils a right result."""


def _scores(change: Callable[[Additive], Array]) -> Model:
    """The bug that takes the softmax of other scores (b tq tk), where a key is seen."""

    def rescored(e: Additive) -> Outputs:
        softmax = e.attention
        scores = np.where(softmax.scores == -np.inf, -np.inf, change(e))
        found = attend(softmax.q, softmax.k, softmax.v, 1.0, scores)
        return {"out": _beside(e, found.out), "weights": found.probs}

    return _result(rescored)


def _beside(e: Additive, out: Array) -> Array:
    """out: b tq dv in the form of the call."""
    return in_form("decoder" if e.out.shape != e.attention.out.shape else None, out, e.query)


def _argument(e: Additive) -> Array:
    return per_pair(e.projected_query, e.projected_key, e.bias)


def _projections_swapped(x: Inputs) -> Mapping[str, Array] | None:
    w_query, w_key = x["w_query"], x["w_key"]
    same = w_query.shape == w_key.shape
    return {"w_query": w_key, "w_key": w_query} if same else None


def _unread(first: Callable[[int], int], end: Callable[[int], int]) -> Model:
    """The bug that does not read the keys from ``first`` to ``end``, which get their number."""

    def model(reference: Any, x: Inputs, options: Mapping[str, Any]) -> Outputs | None:
        tk = x["key"].shape[1]
        key = np.arange(tk)
        read = (key < first(tk)) | (key >= end(tk))
        mask = read & options.get("mask", True)
        return outputs_of(reference(**x, **{**options, "mask": mask})) if tk else None

    return model


def _rows_stale(tile: int) -> Model:
    """The last, ragged block of queries is not computed: its rows are zero."""

    def change(e: Additive) -> Outputs | None:
        row = np.arange(e.weights.shape[1])[:, None]
        done = row < e.weights.shape[1] // tile * tile
        return None if done.all() else {"out": e.out * done, "weights": e.weights * done}

    return _result(change)


def _empty(e: Additive) -> Array:
    """Rows without a key: b tq 1."""
    return np.isneginf(e.attention.lse)[..., None]


def _mask_finite(e: Additive) -> Outputs | None:
    """-1e9 in place of -inf: rows without a key become the mean of the values."""
    empty, tk = _empty(e), e.weights.shape[-1]
    if not empty.any() or not tk:
        return None
    weights = np.where(empty, 1 / tk, e.weights)
    return {"out": _beside(e, weights @ e.attention.v), "weights": weights}


def _empty_nan(e: Additive) -> Outputs | None:
    empty = _empty(e)
    spoilt = {name: np.where(empty, np.nan, array) for name, array in outputs_of(e).items()}
    return spoilt if empty.any() else None


def _over_queries(e: Additive) -> Outputs:
    scores = e.attention.scores
    top = scores.max(1, keepdims=True, initial=-np.inf)
    exps = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = exps.sum(1, keepdims=True)
    weights = exps / np.where(total == 0, 1, total)
    return {"out": _beside(e, weights @ e.attention.v), "weights": weights}


def _not_normalised(e: Additive) -> Outputs:
    """What the sum was taken of."""
    scores = e.attention.scores
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    return {"weights": np.exp(scores - np.where(top == -np.inf, 0, top))}


def _no_max(e: Additive) -> Outputs:
    """exp of the scores themselves, in float32."""
    exps = np.exp(e.attention.scores.astype(np.float32))
    total = exps.sum(-1, keepdims=True)
    weights = np.where(total > 0, exps / total, 0)
    return {"out": _beside(e, weights @ e.attention.v), "weights": weights}


def _concatenated(parts: Callable[[Additive], tuple[Array, Array]]) -> Model:
    """The bug of a decoder that concatenates something else."""

    def change(e: Additive) -> Outputs | None:
        decoder = e.out.shape != e.attention.out.shape
        return {"out": np.concatenate(parts(e), axis=-1)} if decoder else None

    return _result(change)


def _divided_roughly(e: Additive) -> Outputs:
    return {"out": _beside(e, 0.999 * e.attention.out), "weights": 0.999 * e.weights}


def _no_nan(e: Additive) -> Outputs:
    return {name: np.nan_to_num(array) for name, array in outputs_of(e).items()}


_VALUES = mutants(
    {
        "zeros": ("returns zeros", _result(lambda e: {"out": 0 * e.out, "weights": 0 * e.weights})),
        "uniform": (
            "weighs every visible key the same",
            _scores(lambda e: np.zeros(e.weights.shape)),
        ),
        "bias-missing": ("the bias is not added", _inputs(lambda x: {"bias": 0 * x["bias"]})),
        "bias-twice": (
            "the bias is added to both projections",
            _inputs(lambda x: {"bias": 2 * x["bias"]}),
        ),
        "bias-outside-tanh": (
            "the bias is added to tanh",
            _scores(lambda e: (np.tanh(_argument(e) - e.bias) + e.bias) @ e.w_score),
        ),
        "scaled": (
            "scores are divided by sqrt(h)",
            _inputs(lambda x: {"w_score": x["w_score"] / np.sqrt(max(len(x["bias"]), 1))}),
        ),
        "scaled-1-percent": (
            "scores are 1 percent too large",
            _inputs(lambda x: {"w_score": 1.01 * x["w_score"]}),
        ),
        "tanh-missing": (
            "scores are linear: no tanh",
            _scores(lambda e: _argument(e) @ e.w_score),
        ),
        "relu": (
            "max(0, a) stands for tanh(a)",
            _scores(lambda e: np.maximum(_argument(e), 0) @ e.w_score),
        ),
        "score-weights-ignored": (
            "hidden units are summed, not weighed",
            _scores(lambda e: e.hidden.sum(-1)),
        ),
        "last-unit-dropped": (
            "the last hidden unit is not summed",
            _scores(lambda e: e.hidden[..., :-1] @ e.w_score[:-1]),
        ),
        "projections-swapped": ("w_query and w_key change places", _inputs(_projections_swapped)),
        "query-unprojected": (
            "scores lack the query",
            _inputs(lambda x: {"w_query": 0 * x["w_query"]}),
        ),
        "keys-of-first-batch": (
            "every batch attends to the keys of the first",
            _inputs(lambda x: {"key": np.broadcast_to(x["key"][:1], x["key"].shape)}),
        ),
        "last-key-dropped": ("the last key is not read", _unread(lambda tk: tk - 1, lambda tk: tk)),
        "first-key-dropped": ("the first key is not read", _unread(lambda tk: 0, lambda tk: 1)),
        "softmax-over-queries": ("softmax runs over the queries", _result(_over_queries)),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            _result(_no_max),
        ),
        "division-approximate": (
            "the division by the row sum is 0.1 percent off",
            _result(_divided_roughly),
        ),
        "weights-not-normalised": (
            "weights are returned before their division by the row sum",
            _result(_not_normalised),
        ),
        "weights-are-scores": (
            "scores are returned for weights",
            _result(lambda e: {"weights": np.where(_empty(e), 0, e.attention.scores)}),
        ),
        "mask-inverted": ("mask True is read as: may not attend", _option("mask", np.logical_not)),
        "mask-ignored": ("mask is ignored", _option("mask", lambda mask: None)),
        "mask-of-first-batch": (
            "every batch uses the mask of the first",
            _option("mask", lambda mask: mask[:1] if mask.ndim == 3 else mask),
        ),
        "mask-finite": (
            "a finite number stands for -inf: empty rows give the mean of the values",
            _result(_mask_finite),
        ),
        "empty-row-nan": ("a row without any key is NaN: 0/0", _result(_empty_nan)),
        "nan-hidden": ("NaN is replaced by zero", _result(_no_nan)),
        "query-first": (
            "a decoder gets [query; out]",
            _concatenated(lambda e: (e.query, e.attention.out)),
        ),
        "query-missing": (
            "a decoder gets zeros for the query",
            _concatenated(lambda e: (e.attention.out, 0 * e.query)),
        ),
    }
)

_TILES = tile_mutants(
    {
        "last-tile-skipped": (
            "the last, ragged tile of keys is not visited",
            lambda tile: _unread(lambda tk: tk // tile * tile, lambda tk: tk),
        ),
        "last-rows-stale": ("the last, ragged block of queries is not computed", _rows_stale),
    }
)

_SHARED = (
    "accumulator-in-bfloat16",
    "accumulator-in-float16",
    "sum-in-bfloat16",
    "weights-in-bfloat16",
    "scores-in-bfloat16",
)

_ROUNDINGS = rounding_mutants(
    {
        "projections-accumulated-in-bfloat16": (
            "the products of query and key with their weights are accumulated in bfloat16",
            {"products": "bfloat16"},
        ),
        "projections-in-bfloat16": (
            "the argument of tanh is stored in bfloat16, undeclared",
            {"projections": "bfloat16"},
        ),
        "operands-in-tf32": (
            "products take TF32 operands, undeclared: tanh and P are float32 whatever the inputs",
            {"operands": "tf32"},
        ),
        "tanh-in-bfloat16": ("tanh is rounded to bfloat16, undeclared", {"tanh": "bfloat16"}),
        "scores-accumulated-in-bfloat16": (
            "hidden units are summed in bfloat16",
            {"score": "bfloat16"},
        ),
    }
)

ADDITIVE_MUTANTS: tuple[Mutant, ...] = (
    *_VALUES,
    *_TILES,
    *(mutant for mutant in ROUNDING_MUTANTS if mutant.name in _SHARED),
    *_ROUNDINGS,
)
"""Every planted bug of additive attention."""
