"""Planted bugs of a backward pass that recomputes P, each as a change of the exact computation.

Such a pass takes out and lse as the forward pass left them, whatever it gets wrong itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.gradients import Gradients, kept, summed_over_groups
from kernelproof.reference.attention.scaled_dot_product import Attention, allowed
from kernelproof.spec.contracts.attention.mutants import with_these_options
from kernelproof.spec.contracts.gradients.mutants import (
    changed_gradients,
    gradients_from,
)
from kernelproof.spec.language import (
    Model,
    Mutant,
    Outputs,
    mutants,
    rounding_mutants,
    tile_mutants,
)

Array: TypeAlias = npt.NDArray[Any]
Options: TypeAlias = Mapping[str, Any]


def _replayed(e: Gradients, scores: Array, lse: Array | None = None) -> dict[str, Array]:
    """All gradients for other scores (-inf where no key is seen), or for another lse."""
    lse = (e.forward.lse if lse is None else lse)[..., None]
    probs = np.where(np.isneginf(scores), 0, np.exp(scores - lse))
    share = _share(e.forward)
    d_probs = share * (e.d_out @ e.forward.v.swapaxes(-1, -2))
    return gradients_from(e, share * probs, probs * (d_probs - e.delta))


def _share(x: Attention) -> Array | float:
    """What dropout multiplied each weight by."""
    return 1.0 if x.weights is x.probs else kept(x)


def _seeing(visible: Callable[[int, int, str], Array]) -> Model:
    """The bug of another causal mask, which gets tq, tk and the corner."""

    def change(e: Gradients, options: Options) -> Outputs | None:
        if "causal" not in options:
            return None
        x = e.forward
        tq, tk = x.scores.shape[-2:]
        seen = visible(tq, tk, options["causal"])
        return _replayed(e, np.where(seen, x.scale * (x.q @ x.k.swapaxes(-1, -2)), -np.inf))

    return changed_gradients(change)


def _mask_ignored(e: Gradients, options: Options) -> Outputs | None:
    if "mask" not in options:
        return None
    x = e.forward
    seen = allowed(x.scores.shape, None, options.get("causal"))
    return _replayed(e, np.where(seen, x.scale * (x.q @ x.k.swapaxes(-1, -2)), -np.inf))


def _shifted(by: int) -> Model:
    def visible(tq: int, tk: int, corner: str) -> Array:
        last = by + (tk - tq if corner == "bottom-right" else 0)
        return np.tri(tq, tk, last, dtype=bool)

    return _seeing(visible)


_OTHER = {"top-left": "bottom-right", "bottom-right": "top-left"}


def _scale(change: Callable[[float, float], float]) -> Model:
    """The bug of another scale all along, from the right one and the default."""

    def model(e: Gradients, options: Options) -> Outputs | None:
        x = e.forward
        right, default = float(x.scale), x.q.shape[-1] ** -0.5
        other = change(right, default)
        if "scale" not in options or other == right:
            return None
        products = other * (x.q @ x.k.swapaxes(-1, -2))
        scores = np.where(np.isneginf(x.scores), -np.inf, products)
        return _replayed(replace(e, forward=replace(x, scale=other)), scores)

    return changed_gradients(model)


def _lse_in_log2(e: Gradients, options: Options) -> Outputs:
    return _replayed(e, e.forward.scores, e.forward.lse * np.log(2))


def _lse_missing(e: Gradients, options: Options) -> Outputs:
    return _replayed(e, e.forward.scores, e.forward.scores.max(-1, initial=-np.inf))


def _group_modulo(e: Gradients, options: Options) -> Outputs | None:
    """Query head h reads k and v of, and adds to, key head h mod hkv."""
    x, hkv = e.forward, e.dk.shape[1]
    heads = np.arange(x.q.shape[1])
    if not len(heads):
        return None
    group = len(heads) // hkv
    k, v = (each[:, heads % hkv * group] for each in (x.k, x.v))
    products = np.where(np.isneginf(x.scores), -np.inf, x.scale * (x.q @ k.swapaxes(-1, -2)))
    probs = np.where(np.isneginf(products), 0, np.exp(products - x.lse[..., None]))
    d_scores = probs * (e.d_out @ v.swapaxes(-1, -2) - e.delta)
    added = np.argsort(heads % hkv, kind="stable")
    per_head = (x.scale * (d_scores.swapaxes(-1, -2) @ x.q), probs.swapaxes(-1, -2) @ e.d_out)
    dk, dv = (summed_over_groups(each[:, added], hkv) for each in per_head)
    return {"dq": x.scale * (d_scores @ k), "dk": dk, "dv": dv}


def _unreached(e: Gradients, options: Options) -> Outputs | None:
    """What no tile adds to stays as it was allocated."""
    seen: Array = ~np.isneginf(e.forward.scores)
    visible = np.any(seen, -2)[..., None]
    keys = summed_over_groups(visible.astype(int), e.dk.shape[1])[..., 0] > 0
    if keys.all() and seen.any(-1).all():
        return None
    dk, dv = (np.where(keys[..., None], each, np.nan) for each in (e.dk, e.dv))
    return {"dq": np.where(np.any(seen, -1)[..., None], e.dq, np.nan), "dk": dk, "dv": dv}


def _last_queries_dropped(tile: int) -> Model:
    def change(e: Gradients, options: Options) -> Outputs:
        last = max(e.dq.shape[-2] - 1, 0) // tile * tile
        wrong = gradients_from(e, e.forward.probs, e.d_scores, slice(0, last))
        return {name: wrong[name] for name in ("dk", "dv")}

    return changed_gradients(change)


def _last_keys_dropped(tile: int) -> Model:
    def change(e: Gradients, options: Options) -> Outputs:
        last = max(e.dk.shape[-2] - 1, 0) // tile * tile
        x = e.forward
        return {"dq": x.scale * (e.d_scores[..., :last] @ x.k[..., :last, :])}

    return changed_gradients(change)


_EXACT = mutants(
    {
        "scores-off-1-percent": (
            "the recomputed scores are 1 percent off",
            changed_gradients(lambda e, o: _replayed(e, 1.01 * e.forward.scores)),
        ),
        "scale-ignored": ("an explicit scale is ignored", _scale(lambda s, default: default)),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            _scale(lambda s, default: s or default),
        ),
        "scale-absolute": ("the sign of scale is lost", _scale(lambda s, default: abs(s))),
        "lse-in-log2": (
            "lse is taken for a base-2 logarithm",
            changed_gradients(_lse_in_log2),
        ),
        "lse-missing": (
            "P is recomputed without lse: exp(S - max), not divided by its sum",
            changed_gradients(_lse_missing),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            changed_gradients(_group_modulo),
        ),
        "unreached-unwritten": (
            "the gradients of a query or key that no other sees are not written",
            changed_gradients(_unreached),
        ),
        "mask-ignored": ("mask is ignored", changed_gradients(_mask_ignored)),
        "causal-ignored": (
            "causal is ignored",
            _seeing(lambda tq, tk, corner: np.ones((tq, tk), bool)),
        ),
        "causal-other-corner": (
            "causal is aligned to the other corner",
            _seeing(lambda tq, tk, corner: allowed((tq, tk), None, _OTHER[corner])),
        ),
        "causal-sees-next": ("causal is off by one: j <= i + 1", _shifted(1)),
        "causal-misses-diagonal": ("causal is off by one: j < i", _shifted(-1)),
    }
)

_TILED = tile_mutants(
    {
        "last-query-tile-dropped": (
            "dk and dv lack the last tile of queries",
            _last_queries_dropped,
        ),
        "last-key-tile-dropped": ("dq lacks the last tile of keys", _last_keys_dropped),
    }
)

_ROUNDING = rounding_mutants(
    {"lse-in-bfloat16": ("lse is rounded to bfloat16", {"lse": "bfloat16"})}
)


def recomputation_mutants(options: str) -> tuple[Mutant, ...]:
    """The bugs of a backward pass with these options, from a stored lse."""
    return with_these_options((*_EXACT, *_TILED, *_ROUNDING), options)
