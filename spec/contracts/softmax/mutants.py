"""Planted bugs of softmax, each as a change of the exact computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.softmax.online import OnlineSoftmax
from kernelproof.spec.language import (
    Model,
    Mutant,
    Outputs,
    mutants,
    rounding_mutants,
    tile_mutants,
)

Array = npt.NDArray[Any]
TILES = tuple(2**k for k in range(4, 11))
"""Sizes of tiles in use: columns lie next to each other, so that wide tiles are cheap."""

Change: TypeAlias = Callable[[Any], "Outputs | None"]


def _changed_result(change: Change) -> Model:
    """The bug that spoils a right result; ``change`` gets the reference's record."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        exact = reference(**x)
        changed = change(exact) if exact.lse.size else None
        return None if changed is None else _outputs(exact, **changed)

    return model


def _outputs(exact: Any, **changed: Array) -> Outputs:
    """Those of its algorithm, some of them changed: safe softmax has no lse."""
    names = ("out", "lse") if isinstance(exact, OnlineSoftmax) else ("out",)
    return {name: changed.get(name, getattr(exact, name)) for name in names}


def _changed_input(change: Callable[[Array], Array | None]) -> Model:
    """The bug that computes the right thing for other numbers."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        changed = change(x["x"]) if x["x"].size else None
        if changed is None:
            return None
        return _outputs(reference(x=changed))

    return model


def _shifted(x: Array, shift: Any) -> Outputs:
    """With this in place of each row's maximum, in float32, which overflows and underflows."""
    narrow = np.asarray(x - shift, np.float32)
    exps = np.exp(narrow).astype(x.dtype)
    total = exps.sum(-1, keepdims=True)
    lse = np.where(total > 0, shift + np.log(total), -np.inf)[..., 0]
    return {"out": exps / np.where(total == 0, 1, total), "lse": lse}


def _no_max(e: Any) -> Outputs:
    return _shifted(e.x, np.zeros(()))


def _one_max_for_all(e: Any) -> Outputs | None:
    top = e.x.max(initial=-np.inf)
    return _shifted(e.x, top) if np.isfinite(top) else None


def _max_of_first_tile(tile: int) -> Model:
    """Numbers of later tiles that are larger by 88 overflow."""

    def change(e: Any) -> Outputs | None:
        top = e.x[:, :tile].max(-1, keepdims=True, initial=-np.inf)
        return _shifted(e.x, np.where(np.isneginf(top), 0, top)) if e.x.shape[1] > tile else None

    return _changed_result(change)


def _without(unread: Callable[[int], slice]) -> Model:
    """The bug that takes some columns for -inf."""

    def change(x: Array) -> Array:
        changed = x.copy()
        changed[:, unread(x.shape[1])] = -np.inf
        return changed

    return _changed_input(change)


def _padding_counted(tile: int) -> Model:
    """The zeros that pad the last tile are counted in the sum."""

    def change(e: Any) -> Outputs | None:
        padding = -e.x.shape[1] % tile
        if not padding:
            return None
        lse = np.logaddexp(e.lse, np.log(padding))
        return {"out": e.out * np.exp(e.lse - lse)[:, None], "lse": lse}

    return _changed_result(change)


def _not_rescaled(tile: int) -> Model:
    """An online softmax that adds up the tiles' sums as they are."""

    def change(e: Any) -> Outputs | None:
        if e.x.shape[1] <= tile:
            return None
        top, total = np.full((len(e.x), 1), -np.inf), np.zeros((len(e.x), 1))
        for start in range(0, e.x.shape[1], tile):
            part = e.x[:, start : start + tile]
            top = np.maximum(top, part.max(-1, keepdims=True))
            total = total + np.exp(part - np.where(np.isneginf(top), 0, top)).sum(-1, keepdims=True)
        exps = np.exp(e.x - np.where(np.isneginf(top), 0, top))
        return {"out": exps / np.where(total == 0, 1, total), "lse": (top + np.log(total))[:, 0]}

    return _changed_result(change)


def _softmax_over_rows(e: Any) -> Outputs:
    """Over the first axis; lse has no shape there."""
    top = e.x.max(0, keepdims=True, initial=-np.inf)
    exps = np.exp(e.x - np.where(np.isneginf(top), 0, top))
    total = exps.sum(0, keepdims=True)
    return {"out": exps / np.where(total == 0, 1, total)}


def _uniform(e: Any) -> Outputs | None:
    n = e.x.shape[1]
    return {"out": np.full_like(e.out, 1 / n), "lse": np.full_like(e.lse, np.log(n))} if n else None


def _empty_row(out: Callable[[int], float], lse: float) -> Change:
    """What becomes of rows of only -inf."""

    def change(e: Any) -> Outputs | None:
        empty, n = np.isneginf(e.lse), max(e.x.shape[1], 1)
        if not empty.any():
            return None
        return {
            "out": np.where(empty[:, None], out(n), e.out),
            "lse": np.where(empty, lse, e.lse),
        }

    return change


def _hide_nan(e: Any) -> Outputs:
    return {"out": np.nan_to_num(e.out), "lse": np.nan_to_num(e.lse, neginf=-np.inf)}


def _clip_infinity(x: Array) -> Array | None:
    return np.where(x == np.inf, 65504.0, x) if np.isposinf(x).any() else None


_SHARED = mutants(
    {
        "zeros": ("returns zeros", _changed_result(lambda e: {"out": 0 * e.out, "lse": 0 * e.lse})),
        "uniform": ("every element gets 1/n", _changed_result(_uniform)),
        "copy": ("returns x itself", _changed_result(lambda e: {"out": e.x})),
        "logarithm": (
            "returns log softmax",
            _changed_result(lambda e: {"out": e.x - e.lse[:, None]}),
        ),
        "not-normalised": (
            "the division by the sum is missing",
            _changed_result(lambda e: {"out": e.out / e.out.max(-1, keepdims=True, initial=0.0)}),
        ),
        "no-max-subtraction": (
            "the maximum is not subtracted before exp",
            _changed_result(_no_max),
        ),
        "one-max-for-all-rows": (
            "the maximum of all rows is subtracted from each",
            _changed_result(_one_max_for_all),
        ),
        "softmax-over-rows": (
            "softmax runs over the first axis",
            _changed_result(_softmax_over_rows),
        ),
        "last-element-dropped": (
            "the last element of a row is not read",
            _without(lambda n: slice(n - 1, n)),
        ),
        "first-element-dropped": (
            "the first element of a row is not read",
            _without(lambda n: slice(0, 1)),
        ),
        "first-half": ("the first half of a row is read", _without(lambda n: slice(n // 2, n))),
        "temperature-off-1-percent": (
            "x is scaled by 1.01",
            _changed_input(lambda x: x * x.dtype.type(1.01)),
        ),
        "temperature-off-0.1-percent": (
            "x is scaled by 1.001",
            _changed_input(lambda x: x * x.dtype.type(1.001)),
        ),
        "base-2": (
            "powers of 2 instead of e",
            _changed_input(lambda x: x * np.log(x.dtype.type(2))),
        ),
        "division-approximate": (
            "the division by the sum is 0.1 percent off",
            _changed_result(lambda e: {"out": 0.999 * e.out}),
        ),
        "empty-row-nan": (
            "a row of only -inf is NaN: 0/0",
            _changed_result(_empty_row(lambda n: np.nan, -np.inf)),
        ),
        "empty-row-uniform": (
            "a finite number stands for -inf: a row of it gives 1/n",
            _changed_result(_empty_row(lambda n: 1 / n, -1e9)),
        ),
        "nan-hidden": ("NaN is replaced by zero", _changed_result(_hide_nan)),
        "infinity-clipped": ("+inf is taken for a large number", _changed_input(_clip_infinity)),
    }
)

_TILED = tile_mutants(
    {
        "padding-counted": (
            "the padding of the last tile is counted in the sum",
            _padding_counted,
        ),
        "max-of-first-tile": (
            "the maximum of the first tile stands for that of the row",
            _max_of_first_tile,
        ),
        "last-tile-skipped": (
            "the last, ragged tile of a row is not visited",
            lambda tile: _without(lambda n: slice(n // tile * tile, n)),
        ),
        "first-tile-skipped": (
            "the first tile of a row is not visited",
            lambda tile: _without(lambda n: slice(0, tile)),
        ),
    },
    tiles=TILES,
)

_ROUNDED = rounding_mutants(
    {
        "sum-in-bfloat16": ("the sum is kept in bfloat16", {"sum": "bfloat16"}),
        "sum-in-float16": ("the sum is kept in float16", {"sum": "float16"}),
        "exps-in-bfloat16": (
            "exponentials are rounded to bfloat16 before they are added and divided",
            {"exps": "bfloat16"},
        ),
        "differences-in-bfloat16": (
            "x - max is rounded to bfloat16 before exp",
            {"logits": "bfloat16"},
        ),
    }
)

SAFE_MUTANTS: tuple[Mutant, ...] = (*_SHARED, *_TILED, *_ROUNDED)

ONLINE_MUTANTS: tuple[Mutant, ...] = (
    *SAFE_MUTANTS,
    *mutants(
        {
            "lse-in-log2": (
                "lse is a base-2 logarithm",
                _changed_result(lambda e: {"lse": e.lse / np.log(2)}),
            ),
            "lse-without-max": (
                "lse lacks the maximum",
                _changed_result(lambda e: {"lse": e.lse - e.x.max(-1, initial=-np.inf)}),
            ),
            "lse-is-max": (
                "lse lacks the logarithm of the sum",
                _changed_result(lambda e: {"lse": e.x.max(-1, initial=-np.inf)}),
            ),
        }
    ),
    *tile_mutants(
        {
            "sum-not-rescaled": (
                "the running sum is not rescaled when the maximum grows",
                _not_rescaled,
            ),
        },
        tiles=TILES,
    ),
    *rounding_mutants({"lse-in-bfloat16": ("lse is rounded to bfloat16", {"lse": "bfloat16"})}),
)
