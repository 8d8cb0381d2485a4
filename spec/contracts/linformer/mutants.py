"""Planted bugs of attention over projected keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.reference.approximate.linformer import ProjectedAttention
from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product
from kernelproof.spec.language import Model, Mutant, Outputs, mutants, rounding_mutants, spoiled

Inputs = dict[str, Any]

_spoiled = partial(spoiled, ("out",))


def _with(change: Callable[[Inputs], Inputs | None]) -> Model:
    """The bug that computes the right thing for other inputs, or options."""

    def model(
        reference: Callable[..., Any], x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        if not all(array.size for array in x.values()):
            return None
        changed = change({**x, **options})
        return None if changed is None else {"out": reference(**{**x, **options, **changed}).out}

    return model


def _scaled(factor: Callable[[Inputs], float]) -> Model:
    """The bug of a wrong scale."""
    return _with(lambda x: {"scale": x.get("scale", x["q"].shape[-1] ** -0.5) * factor(x)})


def _not_projected(
    reference: Callable[..., Any], x: Mapping[str, Any], options: Mapping[str, Any]
) -> Outputs:
    return {"out": scaled_dot_product(x["q"], x["k"], x["v"], **options).out}


def _first_tokens(x: Inputs) -> Inputs | None:
    """The first r tokens in place of r mixtures."""
    r, t = x["proj_k"].shape
    if r > t:
        return None
    chosen = 0 * x["proj_k"]
    chosen[range(r), range(r)] = 1
    return {"proj_k": chosen, "proj_v": chosen}


def _transposed(x: Inputs) -> Inputs | None:
    r, t = x["proj_k"].shape
    return {name: x[name].T for name in ("proj_k", "proj_v")} if r == t else None


def _row_by_row(x: Inputs) -> Inputs | None:
    """The numbers of a projection taken column by column."""
    shape = x["proj_k"].shape
    if 1 in shape:
        return None
    return {name: x[name].T.reshape(shape) for name in ("proj_k", "proj_v")}


def _weighed(exps: Any, e: ProjectedAttention) -> Outputs:
    return {"out": exps / exps.sum(-1, keepdims=True) @ e.attention.v}


def _no_max(e: ProjectedAttention) -> Outputs:
    """exp of the logits themselves, in float32."""
    return _weighed(np.exp(e.attention.scores.astype(np.float32)), e)


def _clamped(e: ProjectedAttention) -> Outputs:
    return _weighed(np.exp(np.clip(e.attention.scores, -80, 80)), e)


def _only_first(axis: int, most: int) -> Model:
    """Outputs beyond so many along an axis stay zero."""

    def spoil(e: ProjectedAttention) -> Outputs | None:
        size = e.out.shape[axis]
        kept = np.arange(size).reshape(-1, *(1,) * (e.out.ndim - 1 - axis)) < most
        return {"out": np.where(kept, e.out, 0.0)} if size > most else None

    return _spoiled(spoil)


def _first_mixtures(x: Inputs) -> Inputs | None:
    """The first 100 mixtures alone."""
    long = len(x["proj_k"]) > 100
    return {name: x[name][:100] for name in ("proj_k", "proj_v")} if long else None


def _first_coordinates(x: Inputs) -> Inputs | None:
    """The logits of the first 64 coordinates alone."""
    d = x["q"].shape[-1]
    scale = x.get("scale") or d**-0.5
    return {**{n: x[n][..., :64] for n in ("q", "k")}, "scale": scale} if d > 64 else None


_SIZES: Mapping[str, tuple[str, Model]] = {
    "third-batch-unwritten": ("batches beyond the second stay zero", _only_first(0, 2)),
    "fifth-head-unwritten": ("heads beyond the fourth stay zero", _only_first(1, 4)),
    "wide-values-unwritten": ("values beyond 64 columns stay zero", _only_first(3, 64)),
    "wide-keys-cut": ("coordinates beyond 64 are not read", _with(_first_coordinates)),
    "many-mixtures-cut": ("mixtures beyond 100 are not attended", _with(_first_mixtures)),
}

_SOFTMAX: Mapping[str, tuple[str, Model]] = {
    "no-max-subtraction": (
        "the row maximum is not subtracted before exp",
        _spoiled(_no_max),
    ),
    "nan-to-zero": (
        "what is NaN becomes 0",
        _spoiled(lambda e: {"out": np.where(np.isnan(e.out), 0.0, e.out)}),
    ),
}

LINFORMER_MUTANTS = (
    *mutants({**_SIZES, **_SOFTMAX}),
    *mutants(
        {
            "zeros": ("returns zeros", lambda f, x, o: {"out": 0 * f(**x, **o).out}),
            "projections-swapped": (
                "keys are mixed by proj_v, and values by proj_k",
                _with(lambda x: {"proj_k": x["proj_v"], "proj_v": x["proj_k"]}),
            ),
            "one-projection": (
                "values are mixed by proj_k, too",
                _with(lambda x: {"proj_v": x["proj_k"]}),
            ),
            "queries-projected": (
                "queries are mixed where keys should be",
                _with(lambda x: {"k": x["q"]}),
            ),
            "not-projected": ("full attention, whatever the projections", _not_projected),
            "first-tokens": ("the first r tokens stand for the mixtures", _with(_first_tokens)),
            "transposed": ("square projections are transposed", _with(_transposed)),
            "projection-column-major": (
                "the numbers of a projection are read column by column",
                _with(_row_by_row),
            ),
            "last-token-dropped": (
                "the last token is not mixed in",
                _with(
                    lambda x: {
                        **{name: x[name][..., :-1, :] for name in ("k", "v")},
                        **{name: x[name][:, :-1] for name in ("proj_k", "proj_v")},
                    }
                ),
            ),
            "last-mixture-dropped": (
                "the last mixture is not attended",
                _with(
                    lambda x: (
                        {name: x[name][:-1] for name in ("proj_k", "proj_v")}
                        if len(x["proj_k"]) > 1
                        else None
                    )
                ),
            ),
            "scale-missing": (
                "does not scale the logits",
                _scaled(lambda x: x["q"].shape[-1] ** 0.5),
            ),
            "scale-from-rank": (
                "scales by 1/sqrt(r) instead of 1/sqrt(d)",
                _scaled(lambda x: float((x["q"].shape[-1] / len(x["proj_k"])) ** 0.5)),
            ),
            "scale-ignored": (
                "an explicit scale is ignored",
                _with(lambda x: {"scale": None} if "scale" in x else None),
            ),
            "scale-zero-is-default": (
                "an explicit scale of 0 is taken for none",
                _with(lambda x: {"scale": x["scale"] or None} if "scale" in x else None),
            ),
        }
    ),
    Mutant(
        "logits-clamped",
        "logits are held to 80",
        _spoiled(_clamped),
        undeclared_in="strict32",  # of mixtures in 16 bits, logits of 400 may be off by that much
    ),
    Mutant(
        "scale-off-1-percent",
        "scale is 1 percent off",
        _scaled(lambda x: 1.01),
        undeclared_in="strict32",  # mixtures stored in 16 bits may move a logit by as much
    ),
    *rounding_mutants(
        {
            "mixtures-in-bfloat16": (
                "sums of tokens are kept in bfloat16",
                {"mixed": "bfloat16"},
            ),
        },
        undeclared_in="strict32",
    ),
)
"""The bugs of attention over projected keys."""
