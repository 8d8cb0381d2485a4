"""Planted bugs of attention through random features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.performer import FeatureAttention, attended, lifted
from kernelproof.spec.language import (
    Model,
    Outputs,
    mutants,
    rounding_mutants,
    spoiled,
    tile_mutants,
)

Array = npt.NDArray[Any]
Lifted = Callable[[FeatureAttention, Array, Any], Array]
"""phi of the rows of x: b h t d, already scaled, with the largest exponent over some axes off."""

_spoiled = partial(spoiled, ("out",))


def _right(e: FeatureAttention, x: Array, over: Any) -> Array:
    return lifted(x, e.features, e.kind, over)


def _scaled(x: Array, power: float) -> Array:
    return np.asarray(x * x.dtype.type(x.shape[-1]) ** x.dtype.type(power))


def _weights(
    e: FeatureAttention,
    rows: Lifted = _right,
    keys: Lifted = _right,
    power: float = -0.25,
    over: Any = (-2, -1),
) -> Array:
    """A with some part of it wrong, before causal."""
    phi_q = rows(e, _scaled(e.q, power), -1)
    return np.asarray(phi_q @ keys(e, _scaled(e.k, power), over).swapaxes(-1, -2))


def _with(*kinds: str, **parts: Any) -> Model:
    """The bug in a part of the weights, of these kinds or of all."""

    def spoil(e: FeatureAttention) -> Outputs | None:
        if kinds and e.kind not in kinds:
            return None
        return {"out": attended(_weights(e, **parts), e.v, e.causal)[1]}

    return _spoiled(spoil)


def _norm_missing(e: FeatureAttention, x: Array, over: Any) -> Array:
    """phi without exp(-|x|^2 / 2), or exp(|x|^2 / 2) of trig."""
    half = (x**2).sum(-1, keepdims=True) / 2
    exponents = {"positive": half, "hyperbolic": half, "trig": -half}[e.kind]
    phi = lifted(x, e.features, e.kind, (-2, -1)) * np.exp(exponents)
    return np.asarray(phi / abs(phi).max(over, keepdims=True))


def _half(last: bool) -> Lifted:
    """One of the two functions of hyperbolic and trig."""

    def part(e: FeatureAttention, x: Array, over: Any) -> Array:
        return np.split(_right(e, x, over), 2, axis=-1)[last]

    return part


def _shifted(e: FeatureAttention, x: Array, over: Any) -> Array:
    return _right(e, x, over) + 1e-3


def _exponents(e: FeatureAttention, x: Array) -> Array:
    along, half = x @ e.features.T, (x**2).sum(-1, keepdims=True) / 2
    both = np.concatenate([along, -along], -1) if e.kind == "hyperbolic" else along
    return np.asarray(half if e.kind == "trig" else both - half)


def _lowered_by(top: Callable[[Array], Any]) -> Lifted:
    """phi with something else taken off all exponents, in float32."""

    def part(e: FeatureAttention, x: Array, over: Any) -> Array:
        exponents = _exponents(e, x)
        phi = np.exp((exponents - top(exponents)).astype(np.float32))
        if e.kind != "trig":
            return np.asarray(phi)
        along = x @ e.features.T
        return np.asarray(phi * np.concatenate([np.sin(along), np.cos(along)], -1))

    return part


_not_lowered = _lowered_by(lambda exponents: 0)
_lowered_together = _lowered_by(lambda exponents: exponents.max((-2, -1), keepdims=True))


def _barely_shifted(e: FeatureAttention, x: Array, over: Any) -> Array:
    return _right(e, x, over) + 1e-6


def _positive(e: FeatureAttention, x: Array, over: Any) -> Array:
    return lifted(x, e.features, "positive", over)


def _without_last(e: FeatureAttention, x: Array, over: Any) -> Array:
    return lifted(x, e.features[:-1], e.kind, over)


def _softmax(e: FeatureAttention) -> Outputs:
    scores = _scaled(e.q, -0.5) @ e.k.swapaxes(-1, -2)
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    return {"out": attended(exps, e.v, e.causal)[1]}


def _unnormalised(e: FeatureAttention) -> Outputs:
    return {"out": e.weights @ e.v}


def _zero_rows(instead: Callable[[FeatureAttention], Any]) -> Model:
    """The bug that gives queries without a weight something else."""

    def spoil(e: FeatureAttention) -> Outputs | None:
        zero = ~e.weights.any(-1, keepdims=True)
        return {"out": np.where(zero, instead(e), e.out)} if zero.any() else None

    return _spoiled(spoil)


def _normalised_by_all(e: FeatureAttention) -> Outputs | None:
    if e.causal is None:
        return None
    return {"out": e.weights @ e.v / _weights(e).sum(-1, keepdims=True)}


def _causal(sees: Callable[[Array, Array], Array]) -> Model:
    """Under causal, another rule of what a query sees; a row that sees nothing is 0."""

    def spoil(e: FeatureAttention) -> Outputs | None:
        t = e.weights.shape[-1]
        if e.causal is None:
            return None
        weights = _weights(e) * sees(np.arange(t)[:, None], np.arange(t))
        row = weights.sum(-1, keepdims=True)
        return {"out": np.where(row == 0, 0, weights @ e.v / np.where(row == 0, 1, row))}

    return _spoiled(spoil)


def _last_key_dropped(e: FeatureAttention) -> Outputs:
    kept = np.arange(e.weights.shape[-1]) < e.weights.shape[-1] - 1
    weights = e.weights * kept
    return {"out": weights @ e.v / weights.sum(-1, keepdims=True)}


def _one_state(e: FeatureAttention) -> Outputs | None:
    """All heads are answered with the sums of the first."""
    if e.causal is not None or e.v.shape[1] < 2:
        return None
    keys = _right(e, _scaled(e.k, -0.25)[:, :1], (-2, -1))
    weights = _right(e, _scaled(e.q, -0.25), -1) @ keys.swapaxes(-1, -2)
    return {"out": weights @ e.v[:, :1] / weights.sum(-1, keepdims=True)}


def _chunks_apart(chunk: int) -> Model:
    return _causal(lambda i, j: (j <= i) & (j >= i // chunk * chunk))


def _chunk_itself_unseen(chunk: int) -> Model:
    return _causal(lambda i, j: j < i // chunk * chunk)


_VALUES: Mapping[str, tuple[str, Model]] = {
    "zeros": ("returns zeros", _spoiled(lambda e: {"out": 0 * e.out})),
    "exact-softmax": ("computes softmax attention, whatever the features", _spoiled(_softmax)),
    "norm-of-keys-missing": (
        "exp(-|k|^2 / 2) is missing, or its inverse of trig",
        _with("positive", "hyperbolic", "trig", keys=_norm_missing),
    ),
    "normaliser-missing": ("sums are not divided by those of the weights", _spoiled(_unnormalised)),
    "normaliser-of-all-keys": (
        "under causal the normaliser counts all keys",
        _spoiled(_normalised_by_all),
    ),
    "causal-ignored": ("every query sees all keys", _causal(lambda i, j: j >= 0)),
    "causal-without-itself": ("a query does not see its own key", _causal(lambda i, j: j < i)),
    "causal-sees-next": ("a query sees the key after its own", _causal(lambda i, j: j <= i + 1)),
    "scale-twice": ("q and k are scaled by d^-1/2 each", _with(power=-0.5)),
    "scale-missing": ("q and k are not scaled", _with(power=0.0)),
    "first-half-only": (
        "the second function, exp(-W x) or cos, is missing",
        _with("hyperbolic", "trig", rows=_half(False), keys=_half(False)),
    ),
    "second-half-only": (
        "the first function, exp(W x) or sin, is missing",
        _with("hyperbolic", "trig", rows=_half(True), keys=_half(True)),
    ),
    "stabilised-per-key": (
        "each key has its own largest exponent taken off, which does not cancel",
        _with("positive", "hyperbolic", "trig", over=-1),
    ),
    "epsilon": ("0.001 is added to phi", _with(rows=_shifted, keys=_shifted)),
    "zero-row-nan": (
        "a query whose weights are all zero is NaN: 0/0",
        _zero_rows(lambda e: np.nan),
    ),
    "zero-row-mean": (
        "a query whose weights are all zero gets the mean of the values",
        _zero_rows(lambda e: e.v.mean(-2, keepdims=True)),
    ),
    "small-epsilon": (
        "1e-6 is added to phi",
        _with(rows=_barely_shifted, keys=_barely_shifted),
    ),
    "not-stabilised": (
        "no largest exponent is taken off before exp",
        _with("positive", "hyperbolic", "trig", rows=_not_lowered, keys=_not_lowered),
    ),
    "one-maximum-of-queries": (
        "the largest exponent of all queries is taken off each",
        _with("positive", "hyperbolic", rows=_lowered_together),
    ),
    "kind-ignored": (
        "phi is that of positive features",
        _with("hyperbolic", "trig", "relu", rows=_positive, keys=_positive),
    ),
    "last-feature-dropped": (
        "the last feature is not read",
        _with(rows=_without_last, keys=_without_last),
    ),
    "last-key-dropped": ("the last key is not read", _spoiled(_last_key_dropped)),
    "sums-of-first-head": ("all heads get the sums of the first", _spoiled(_one_state)),
}

PERFORMER_MUTANTS = (
    *mutants(_VALUES),
    *tile_mutants(
        {
            "state-lost": ("under causal, chunks before a query's own are not seen", _chunks_apart),
            "chunk-unseen": ("under causal, a query's own chunk is not seen", _chunk_itself_unseen),
        }
    ),
    *rounding_mutants(
        {
            "sums-in-bfloat16": (
                "sums of features times values are kept in bfloat16",
                {"state": "bfloat16"},
            ),
            "features-in-bfloat16": ("W x is kept in bfloat16", {"along": "bfloat16"}),
        },
        undeclared_in="strict32",
    ),
)
"""The bugs of attention through random features."""
