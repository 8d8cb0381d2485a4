"""Planted bugs of additive attention's backward pass, each as a change of the exact computation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.additive_gradients import AdditiveGradients
from kernelproof.spec.contracts.additive.bound import per_pair
from kernelproof.spec.language import Model, Outputs, mutants, spoiled, tile_mutants

Array = npt.NDArray[Any]

NAMES = ("dquery", "dkey", "dvalue", "dw_query", "dw_key", "dbias", "dw_score")

_changed = partial(spoiled, NAMES)
"""The bug that gets some gradients wrong."""


def _through_tanh(
    e: AdditiveGradients,
    *,
    d_scores: Array | None = None,
    slope: Array | None = None,
    w_score: Array | None = None,
) -> Outputs:
    """All gradients but those of value from other factors of dA."""
    x = e.forward
    d_scores = e.d_scores if d_scores is None else d_scores
    slope = 1 - x.hidden**2 if slope is None else slope
    d_argument = d_scores[..., None] * (x.w_score if w_score is None else w_score) * slope
    found = _of_sums(e, d_argument.sum(2), d_argument.sum(1))
    return {**found, "dw_score": (d_scores[..., None] * x.hidden).sum((0, 1, 2))}


def _of_sums(e: AdditiveGradients, of_queries: Array, of_keys: Array) -> dict[str, Array]:
    """Gradients from A: b tq h and B: b tk h."""
    x = e.forward
    return {
        "dquery": of_queries @ x.w_query.T,
        "dkey": of_keys @ x.w_key.T,
        "dw_query": (x.query.swapaxes(-1, -2) @ of_queries).sum(0),
        "dw_key": (x.key.swapaxes(-1, -2) @ of_keys).sum(0),
        "dbias": of_queries.sum((0, 1)),
    }


def _only_last_query(e: AdditiveGradients) -> Outputs | None:
    """Each query's dkey and dvalue replace those of the query before."""
    x, last = e.forward, slice(-1, None)
    if e.d_out.shape[1] < 2:
        return None
    d_argument = e.d_scores[:, last, :, None] * x.w_score * (1 - x.hidden[:, last] ** 2)
    dvalue = x.weights[:, last].swapaxes(-1, -2) @ e.d_out[:, last]
    return {"dkey": d_argument.sum(1) @ x.w_key.T, "dvalue": dvalue}


def _last_rows_dropped(tile: int) -> Model:
    """The last block of queries does not reach the gradients that are sums over queries."""

    def change(e: AdditiveGradients) -> Outputs:
        x, rows = e.forward, slice(max(e.d_out.shape[1] - 1, 0) // tile * tile)
        d_argument = e.d_scores[:, rows, :, None] * x.w_score * (1 - x.hidden[:, rows] ** 2)
        of_keys = d_argument.sum(1)
        return {
            "dkey": of_keys @ x.w_key.T,
            "dw_key": (x.key.swapaxes(-1, -2) @ of_keys).sum(0),
            "dvalue": x.weights[:, rows].swapaxes(-1, -2) @ e.d_out[:, rows],
        }

    return _changed(change)


def _slope_of_argument(e: AdditiveGradients) -> Outputs:
    argument = per_pair(e.forward.projected_query, e.forward.projected_key, e.forward.bias)
    return _through_tanh(e, slope=1 - argument**2)


def _delta_omitted(e: AdditiveGradients) -> Outputs:
    softmax = e.forward.attention
    return _through_tanh(e, d_scores=softmax.probs * (e.d_out @ softmax.v.swapaxes(-1, -2)))


def _softmax_skipped(e: AdditiveGradients) -> Outputs:
    softmax = e.forward.attention
    seen = softmax.scores != -np.inf
    return _through_tanh(e, d_scores=seen * (e.d_out @ softmax.v.swapaxes(-1, -2)))


def _first_batch_alone(e: AdditiveGradients) -> Outputs | None:
    """Gradients of parameters of the first batch: those of the others are overwritten."""
    x = e.forward
    if len(x.query) < 2:
        return None
    return {
        "dw_query": x.query[0].T @ e.of_queries[0],
        "dw_key": x.key[0].T @ e.of_keys[0],
        "dbias": e.of_queries[0].sum(0),
    }


GRADIENT_MUTANTS = (
    *mutants(
        {
            "zeros": ("returns zeros", _changed(lambda e: {n: 0 * getattr(e, n) for n in NAMES})),
            "slope-missing": (
                "the derivative of tanh is taken for 1",
                _changed(lambda e: _through_tanh(e, slope=np.ones(()))),
            ),
            "slope-of-argument": (
                "1 - a^2 stands for 1 - tanh(a)^2",
                _changed(_slope_of_argument),
            ),
            "score-weights-missing": (
                "w_score does not multiply what goes back through tanh",
                _changed(lambda e: _through_tanh(e, w_score=np.ones(()))),
            ),
            "delta-omitted": ("dE is P dP: D is not subtracted", _changed(_delta_omitted)),
            "softmax-skipped": ("dE is dP: the softmax is skipped", _changed(_softmax_skipped)),
            "last-query-alone": (
                "dkey and dvalue are not summed over the queries",
                _changed(_only_last_query),
            ),
            "bias-of-first-row": (
                "dbias is that of the first query of each batch alone",
                _changed(lambda e: {"dbias": e.of_queries[:, :1].sum((0, 1))}),
            ),
            "bias-twice": (
                "dbias is added up over queries and over keys",
                _changed(lambda e: {"dbias": 2 * e.dbias}),
            ),
            "first-batch-alone": (
                "gradients of parameters are not summed over the batch",
                _changed(_first_batch_alone),
            ),
            "dw-score-before-tanh": (
                "dw_score is made of the argument of tanh",
                _changed(
                    lambda e: {
                        "dw_score": (
                            e.d_scores[..., None]
                            * np.arctanh(np.clip(e.forward.hidden, -0.999, 0.999))
                        ).sum((0, 1, 2))
                    }
                ),
            ),
            "scaled-1-percent": (
                "dquery is 1 percent too large",
                _changed(lambda e: {"dquery": 1.01 * e.dquery}),
            ),
        }
    ),
    *tile_mutants(
        {
            "last-rows-dropped": (
                "the last block of queries does not reach dkey, dw_key and dvalue",
                _last_rows_dropped,
            ),
        }
    ),
)
"""Every planted bug of additive attention's backward pass."""
