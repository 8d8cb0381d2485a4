"""Planted bugs of attention's backward pass, each as a change of the exact computation.

A backward pass that gets P wrong still takes out and lse as the forward pass left them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.gradients import Gradients, kept, summed_over_groups
from kernelproof.reference.attention.scaled_dot_product import Attention, allowed
from kernelproof.spec.language import (
    Model,
    Mutant,
    Outputs,
    mutants,
    option_words,
    rounding_mutants,
    tile_mutants,
)

Array: TypeAlias = npt.NDArray[Any]
Options: TypeAlias = Mapping[str, Any]


def _changed(change: Callable[[Gradients, Options], Outputs | None]) -> Model:
    """The bug that gets some gradients wrong; ``change`` gets the reference's record."""

    def model(
        reference: Callable[..., Any], x: Mapping[str, Any], options: Options
    ) -> Outputs | None:
        with np.errstate(all="ignore"):
            exact = reference(**x, **options)
            wrong = change(exact, options)
        right = {name: getattr(exact, name) for name in ("dq", "dk", "dv")}
        return None if wrong is None else {**right, **wrong}

    return model


def _gradients(
    e: Gradients, probs: Array, d_scores: Array, rows: slice = slice(None)
) -> dict[str, Array]:
    """All gradients from P and dS: b hq tq tk; those of keys and values from these rows alone."""
    x, turned = e.forward, d_scores.swapaxes(-1, -2)
    weights = (_share(x) * probs).swapaxes(-1, -2)
    per_head = {
        "dk": x.scale * (turned[..., rows] @ x.q[..., rows, :]),
        "dv": weights[..., rows] @ e.d_out[..., rows, :],
    }
    summed = {n: summed_over_groups(each, e.dk.shape[1]) for n, each in per_head.items()}
    return {"dq": x.scale * (d_scores @ x.k), **summed}


def _replayed(e: Gradients, scores: Array, lse: Array | None = None) -> dict[str, Array]:
    """All gradients for other scores (-inf where no key is seen), or for another lse."""
    lse = (e.forward.lse if lse is None else lse)[..., None]
    probs = np.where(np.isneginf(scores), 0, np.exp(scores - lse))
    d_probs = _share(e.forward) * (e.d_out @ e.forward.v.swapaxes(-1, -2))
    return _gradients(e, probs, probs * (d_probs - e.delta))


def _share(x: Attention) -> Array | float:
    """What dropout multiplied each weight by, for pairs that no mask hides."""
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

    return _changed(change)


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
        wrong = _replayed(e, np.where(np.isneginf(x.scores), -np.inf, products))
        factor = other / right if right else 0.0
        return {**wrong, "dq": wrong["dq"] * factor, "dk": wrong["dk"] * factor}

    return _changed(model)


def _lse_in_log2(e: Gradients, options: Options) -> Outputs:
    return _replayed(e, e.forward.scores, e.forward.lse * np.log(2))


def _lse_missing(e: Gradients, options: Options) -> Outputs:
    return _replayed(e, e.forward.scores, e.forward.scores.max(-1, initial=-np.inf))


def _delta_omitted(e: Gradients, options: Options) -> Outputs:
    return _gradients(e, e.forward.probs, e.forward.probs * e.d_probs)


def _of_first_head(e: Gradients, options: Options) -> Outputs | None:
    hkv = e.dk.shape[1]
    group = e.dq.shape[1] // max(hkv, 1)
    first = np.arange(e.dq.shape[1]) % group == 0 if group else np.zeros(0, bool)
    if first.all():
        return None
    kept = first[:, None, None]
    wrong = _gradients(e, e.forward.probs * kept, e.d_scores * kept)
    return {name: wrong[name] for name in ("dk", "dv")}


def _group_mean(e: Gradients, options: Options) -> Outputs:
    group = e.dq.shape[1] // max(e.dk.shape[1], 1)
    return {"dk": e.dk / max(group, 1), "dv": e.dv / max(group, 1)}


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


def _neighbour(e: Gradients, options: Options) -> Outputs:
    d_out = np.roll(e.d_out, 1, axis=1)
    dv = e.forward.weights.swapaxes(-1, -2) @ d_out
    return {"dv": summed_over_groups(dv, e.dk.shape[1])}


def _empty_row_nan(e: Gradients, options: Options) -> Outputs | None:
    """exp(-inf - -inf): NaN in a row of P without a key is NaN in every sum that it enters."""
    empty = np.isneginf(e.forward.lse)[..., None]
    if not empty.any():
        return None
    probs = np.where(empty, np.nan, e.forward.probs)
    return _gradients(e, probs, np.where(empty, np.nan, e.d_scores))


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
        wrong = _gradients(e, e.forward.probs, e.d_scores, slice(0, last))
        return {name: wrong[name] for name in ("dk", "dv")}

    return _changed(change)


def _last_keys_dropped(tile: int) -> Model:
    def change(e: Gradients, options: Options) -> Outputs:
        last = max(e.dk.shape[-2] - 1, 0) // tile * tile
        x = e.forward
        return {"dq": x.scale * (e.d_scores[..., :last] @ x.k[..., :last, :])}

    return _changed(change)


_EXACT = mutants(
    {
        "zeros": (
            "returns zeros",
            _changed(lambda e, o: {"dq": 0 * e.dq, "dk": 0 * e.dk, "dv": 0 * e.dv}),
        ),
        "delta-omitted": ("dS lacks rowsum(dO O): it is P dP", _changed(_delta_omitted)),
        "scale-missing-in-dq": (
            "dq is not scaled",
            _changed(lambda e, o: {"dq": e.d_scores @ e.forward.k}),
        ),
        "scale-missing-in-dk": (
            "dk is not scaled",
            _changed(
                lambda e, o: {
                    "dk": summed_over_groups(
                        e.d_scores.swapaxes(-1, -2) @ e.forward.q, e.dk.shape[1]
                    )
                }
            ),
        ),
        "scores-off-1-percent": (
            "the recomputed scores are 1 percent off",
            _changed(lambda e, o: _replayed(e, 1.01 * e.forward.scores)),
        ),
        "scale-ignored": ("an explicit scale is ignored", _scale(lambda s, default: default)),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            _scale(lambda s, default: s or default),
        ),
        "scale-absolute": ("the sign of scale is lost", _scale(lambda s, default: abs(s))),
        "lse-in-log2": (
            "lse is taken for a base-2 logarithm",
            _changed(_lse_in_log2),
        ),
        "lse-missing": (
            "P is recomputed without lse: exp(S - max), not divided by its sum",
            _changed(_lse_missing),
        ),
        "group-first": (
            "dk and dv are those of the first query head of a group, not the sum",
            _changed(_of_first_head),
        ),
        "group-mean": (
            "dk and dv are the mean over the query heads of a group, not the sum",
            _changed(_group_mean),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            _changed(_group_modulo),
        ),
        "heads-rotated": (
            "dv of each head is made with the d_out of its neighbour",
            _changed(_neighbour),
        ),
        "empty-row-nan": (
            "a row without any key is NaN: exp(-inf - -inf)",
            _changed(_empty_row_nan),
        ),
        "unreached-unwritten": (
            "the gradients of a query or key that no other sees are not written",
            _changed(_unreached),
        ),
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

_ROUNDING = (
    *rounding_mutants(
        {
            "accumulator-in-bfloat16": (
                "dq, dk and dv are accumulated in bfloat16",
                {"accumulator": "bfloat16"},
            ),
            "accumulator-in-float16": (
                "dq, dk and dv are accumulated in float16",
                {"accumulator": "float16"},
            ),
            "products-accumulated-in-bfloat16": (
                "the dot products of S and dP are accumulated in bfloat16",
                {"products": "bfloat16"},
            ),
            "lse-in-bfloat16": ("lse is rounded to bfloat16", {"lse": "bfloat16"}),
        }
    ),
    *rounding_mutants(
        {
            "weights-in-bfloat16": (
                "P is rounded to bfloat16 before it multiplies dO, undeclared",
                {"weights": "bfloat16"},
            ),
            "score-gradients-in-bfloat16": (
                "dS is rounded to bfloat16 before its products, undeclared",
                {"score_gradients": "bfloat16"},
            ),
            "scores-in-bfloat16": (
                "S is stored in bfloat16, undeclared",
                {"scores": "bfloat16"},
            ),
        },
        undeclared_in="strict32",
    ),
    *rounding_mutants(
        {"operands-in-tf32": ("products take TF32 operands, undeclared", {"operands": "tf32"})},
        dtypes=("float64", "float32"),
        harmless="16-bit numbers are TF32 numbers",
    ),
)

GRADIENT_MUTANTS: tuple[Mutant, ...] = (*_EXACT, *_TILED, *_ROUNDING)
"""The bugs of a backward pass with causal and scale, and heads that share keys."""


def _mask_ignored(e: Gradients, options: Options) -> Outputs | None:
    if "mask" not in options:
        return None
    x = e.forward
    seen = allowed(x.scores.shape, None, options.get("causal"))
    return _replayed(e, np.where(seen, x.scale * (x.q @ x.k.swapaxes(-1, -2)), -np.inf))


def _dropout_forgotten(e: Gradients, options: Options) -> Outputs | None:
    """dP without the keep-mask."""
    if "keep" not in options:
        return None
    d_probs = e.d_out @ e.forward.v.swapaxes(-1, -2)
    return _gradients(e, e.forward.probs, e.forward.probs * (d_probs - e.delta))


def _dropout_not_in_values(e: Gradients, options: Options) -> Outputs | None:
    if "keep" not in options:
        return None
    dv = e.forward.probs.swapaxes(-1, -2) @ e.d_out
    return {"dv": summed_over_groups(dv, e.dk.shape[1])}


_OF_OPTIONS = mutants(
    {
        "mask-ignored": ("P is recomputed without the mask", _changed(_mask_ignored)),
        "dropout-forgotten": (
            "what dropout zeroed has a gradient: dP lacks the keep-mask",
            _changed(_dropout_forgotten),
        ),
        "dropout-not-in-values": (
            "dv is made of P as it was before dropout",
            _changed(_dropout_not_in_values),
        ),
    }
)
_OPTION_OF = {"mask": "mask", "dropout": "keep", "causal": "causal"}


def gradient_mutants(options: str, *, without: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """The bugs that the gradients of a variant with these options can have."""
    taken = option_words(options)
    return tuple(
        m
        for m in (*_EXACT, *_OF_OPTIONS, *_TILED, *_ROUNDING)
        if m.name not in without and _OPTION_OF.get(m.name.partition("-")[0], taken[0]) in taken
    )
