"""Planted bugs of attention, each as a change of the exact computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kernelproof.spec.language import (
    Mutant,
    Outputs,
    mutants,
    option_words,
    rounding_mutants,
    spoiled,
    tile_mutants,
)

Reference = Callable[..., Any]


def changed_options(**changes: Any) -> Any:
    """The bug that ignores or replaces options: given for options that the case has."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        if not set(changes) <= set(options):
            return None
        changed = {n: f(options[n]) if callable(f) else f for n, f in changes.items()}
        return outputs_of(reference(**x, **{**options, **changed}))

    return model


def changed_inputs(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The bug that computes the right thing for other inputs."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        if not x["k"].size:
            return None
        return outputs_of(reference(**{**x, **change(dict(x))}, **options))

    return model


def _unread(first: Callable[[int], int], end: Callable[[int], int]) -> Any:
    """The bug that does not read the keys from ``first`` to ``end``, which get their number."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        tk = x["k"].shape[-2]
        key = np.arange(tk)
        read = (key < first(tk)) | (key >= end(tk))
        mask = read & options.get("mask", True)
        with np.errstate(all="ignore"):
            return outputs_of(reference(**x, **{**options, "mask": mask})) if tk else None

    return model


changed_result = partial(spoiled, ("out", "lse"))
"""The bug that spoils a right result; its change gets the reference's record."""


def outputs_of(exact: Any) -> Outputs:
    """The outputs of a record."""
    return {"out": exact.out, "lse": exact.lse}


def _scale(factor: Callable[[Any], float]) -> Any:
    """The bug of a wrong scale; ``factor`` gets the inputs."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        right = options.get("scale", x["q"].shape[-1] ** -0.5)
        return outputs_of(reference(**x, **{**options, "scale": right * factor(x)}))

    return model


def _mean_of_values(e: Any) -> Outputs:
    return {"out": np.broadcast_to(e.v.mean(-2, keepdims=True), e.out.shape)} if e.v.size else {}


def _finite_mask_value(e: Any) -> Outputs | None:
    """-1e9 in place of -inf: nothing changes but rows without a key, which become mean(V)."""
    empty = np.isneginf(e.lse)
    if not empty.any() or not e.v.size:
        return None
    mean = np.broadcast_to(e.v.mean(-2, keepdims=True), e.out.shape)
    return {
        "out": np.where(empty[..., None], mean, e.out),
        "lse": np.where(empty, -1e9 + np.log(e.k.shape[-2]), e.lse),
    }


def _empty_row_nan(e: Any) -> Outputs | None:
    empty = np.isneginf(e.lse)
    return {"out": np.where(empty[..., None], np.nan, e.out)} if empty.any() else None


def _padding_counted(tile: int) -> Any:
    """The zero logits of a last tile of keys, padded, are counted in the row sums."""

    def change(e: Any) -> Outputs | None:
        padding = -e.k.shape[-2] % tile
        if not padding:
            return None
        lse = np.logaddexp(e.lse, np.log(padding))
        return {"out": e.out * np.exp(e.lse - lse)[..., None], "lse": lse}

    return changed_result(change)


def _no_max(e: Any) -> Outputs:
    """exp of the logits themselves, in float32."""
    exps = np.exp(e.scores.astype(np.float32))
    total = exps.sum(-1, keepdims=True)
    return {"out": np.where(total > 0, exps / total @ e.v, 0), "lse": np.log(total[..., 0])}


def _uniform(e: Any) -> Outputs:
    """Every key that a query sees weighs the same."""
    seen = ~np.isneginf(e.scores)
    count = seen.sum(-1)
    weights = seen / np.maximum(count, 1)[..., None]
    return {"out": weights @ e.v, "lse": np.log(count)}


def _softmax_over_queries(e: Any) -> Outputs:
    exps = np.exp(e.scores - e.scores.max(-2, keepdims=True, initial=-np.inf))
    return {"out": np.nan_to_num(exps / exps.sum(-2, keepdims=True)) @ e.v}


def _prefix(e: Any) -> Outputs | None:
    """Only the first half of the keys is read."""
    half = e.k.shape[-2] // 2
    exps = np.exp(e.scores - np.where(np.isneginf(e.lse), 0, e.lse)[..., None])[..., :half]
    return {"out": exps @ e.v[..., :half, :] / exps.sum(-1, keepdims=True)} if half else None


def _divided_roughly(e: Any) -> Outputs:
    return {"out": 0.999 * e.out}


def _copy_of_values(e: Any) -> Outputs | None:
    return {"out": e.v} if e.v.shape == e.out.shape else None


def _causal_shift(by: int) -> Any:
    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        if "causal" not in options:
            return None
        tq, tk = x["q"].shape[-2], x["k"].shape[-2]
        offset = by + (tk - tq if options["causal"] == "bottom-right" else 0)
        mask = np.arange(tk) <= np.arange(tq)[:, None] + offset
        rest = {n: value for n, value in options.items() if n != "causal"}
        return outputs_of(reference(**x, **{**rest, "mask": mask & rest.get("mask", True)}))

    return model


_OTHER = {"top-left": "bottom-right", "bottom-right": "top-left"}

_SHARED = mutants(
    {
        "zeros": (
            "returns zeros",
            changed_result(lambda e: {"out": 0 * e.out, "lse": 0 * e.out[..., 0]}),
        ),
        "mean-of-values": (
            "returns the mean of V: flat inputs accept it",
            changed_result(_mean_of_values),
        ),
        "uniform": ("weighs every visible key the same", changed_result(_uniform)),
        "copy-of-values": ("returns V itself", changed_result(_copy_of_values)),
        "prefix": ("reads the first half of the keys only", changed_result(_prefix)),
        "scale-missing": ("does not scale the logits", _scale(lambda x: x["q"].shape[-1] ** 0.5)),
        "scale-from-dv": (
            "scales by 1/sqrt(dv) instead of 1/sqrt(d)",
            _scale(lambda x: (x["q"].shape[-1] / x["v"].shape[-1]) ** 0.5),
        ),
        "scale-off-1-percent": ("scale is 1 percent off", _scale(lambda x: 1.01)),
        "scale-off-0.1-percent": ("scale is 0.1 percent off", _scale(lambda x: 1.001)),
        "scale-ignored": ("an explicit scale is ignored", changed_options(scale=None)),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            changed_options(scale=lambda s: s or None),
        ),
        "scale-absolute": ("the sign of scale is lost", changed_options(scale=abs)),
        "mask-inverted": (
            "mask True is read as: may not attend",
            changed_options(mask=np.logical_not),
        ),
        "mask-ignored": ("mask is ignored", changed_options(mask=None)),
        "mask-of-first-batch": (
            "every batch uses the mask of the first",
            changed_options(mask=lambda m: m[:1] if m.ndim == 4 else m),
        ),
        "mask-of-first-head": (
            "every head uses the mask of the first",
            changed_options(mask=lambda m: m[:, :1] if m.ndim == 4 else m),
        ),
        "mask-finite": (
            "a finite number stands for -inf: empty rows give mean(V)",
            changed_result(_finite_mask_value),
        ),
        "empty-row-nan": ("a row without any key is NaN: 0/0", changed_result(_empty_row_nan)),
        "causal-ignored": ("causal is ignored", changed_options(causal=None)),
        "causal-other-corner": (
            "causal is aligned to the other corner",
            changed_options(causal=_OTHER.get),
        ),
        "causal-sees-next": ("causal is off by one: j <= i + 1", _causal_shift(1)),
        "causal-misses-diagonal": ("causal is off by one: j < i", _causal_shift(-1)),
        "last-key-dropped": (
            "the last key is not read",
            _unread(lambda tk: tk - 1, lambda tk: tk),
        ),
        "first-key-dropped": (
            "the first key is not read",
            _unread(lambda tk: 0, lambda tk: 1),
        ),
        "heads-rotated": (
            "each head reads the values of its neighbour",
            changed_inputs(lambda x: {"v": np.roll(x["v"], 1, axis=1)}),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            changed_result(_no_max),
        ),
        "softmax-over-queries": (
            "softmax runs over the queries",
            changed_result(_softmax_over_queries),
        ),
        "division-approximate": (
            "the division by the row sum is 0.1 percent off",
            changed_result(_divided_roughly),
        ),
        "lse-in-log2": (
            "lse is a base-2 logarithm",
            changed_result(lambda e: {"lse": e.lse / np.log(2)}),
        ),
        "lse-without-max": (
            "lse lacks the row maximum",
            changed_result(lambda e: {"lse": e.lse - e.scores.max(-1, initial=-np.inf)}),
        ),
        "nan-hidden": (
            "NaN is replaced by zero",
            changed_result(
                lambda e: {"out": np.nan_to_num(e.out), "lse": np.nan_to_num(e.lse, neginf=-np.inf)}
            ),
        ),
        "dropout-ignored": ("the keep-mask of dropout is ignored", changed_options(keep=None)),
        "dropout-not-rescaled": (
            "kept weights are not divided by 1 - rate",
            changed_options(keep=lambda k: (k[0], 0.0)),
        ),
    }
)


_PADDING = tile_mutants(
    {
        "padding-counted": (
            "the padding of the last tile is counted in the row sum",
            _padding_counted,
        ),
    }
)

ROUNDING_MUTANTS = (
    *rounding_mutants(
        {
            "accumulator-in-bfloat16": (
                "the sum of P V is accumulated in bfloat16",
                {"accumulator": "bfloat16"},
            ),
            "accumulator-in-float16": (
                "the sum of P V is accumulated in float16",
                {"accumulator": "float16"},
            ),
            "sum-in-bfloat16": ("the running row sum is kept in bfloat16", {"sum": "bfloat16"}),
            "scores-accumulated-in-bfloat16": (
                "the dot products q k are accumulated in bfloat16",
                {"products": "bfloat16"},
            ),
            "lse-in-bfloat16": ("lse is rounded to bfloat16", {"lse": "bfloat16"}),
        }
    ),
    *rounding_mutants(
        {
            "weights-in-bfloat16": (
                "P is rounded to bfloat16 before it multiplies V, undeclared",
                {"weights": "bfloat16"},
            ),
            "scores-in-bfloat16": (
                "S is stored in bfloat16, undeclared",
                {"scores": "bfloat16"},
            ),
            "scaled-query-in-bfloat16": (
                "scale q is rounded to bfloat16, undeclared",
                {"scaled_query": "bfloat16"},
            ),
        },
        undeclared_in="strict32",
    ),
    *rounding_mutants(
        {
            "operands-in-tf32": (
                "products take TF32 operands, undeclared",
                {"operands": "tf32"},
            )
        },
        dtypes=("float64", "float32"),
        harmless="16-bit numbers are TF32 numbers",
    ),
)


_OPTION_OF = {"mask": "mask", "dropout": "keep", "causal": "causal"}


def attention_mutants(options: str, *, without: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """The bugs that a variant with these options can have."""
    every = (m for m in (*_SHARED, *_PADDING, *ROUNDING_MUTANTS) if m.name not in without)
    return with_these_options(every, options)


def with_these_options(every: Iterable[Mutant], options: str) -> tuple[Mutant, ...]:
    """Those that need no other option: their names begin with the one that they are about."""
    taken = option_words(options)
    # it shows in rows that causal or lengths empty, too
    wanted = {"mask-finite": ("causal", "lengths")}

    def possible(name: str) -> bool:
        option = _OPTION_OF.get(name.partition("-")[0], taken[0])
        return bool({*wanted.get(name, (option,))} & {*taken})

    return tuple(m for m in every if possible(m.name))


def _other_group(change: Callable[[Any, int], Any]) -> Any:
    """The bug that reads the wrong key/value head; ``change`` gets the heads and hkv."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        heads, hkv = np.arange(x["q"].shape[1]), x["k"].shape[1]
        if not hkv:
            return None
        wrong = change(heads, hkv)
        return outputs_of(
            reference(**{**x, "k": x["k"][:, wrong], "v": x["v"][:, wrong]}, **options)
        )

    return model


GROUP_MUTANTS = mutants(
    {
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            _other_group(lambda heads, hkv: heads % hkv),
        ),
        "group-first": (
            "every query head reads key/value head 0",
            _other_group(lambda heads, hkv: 0 * heads),
        ),
    }
)


def _online(tile: int, *, rescale_out: bool = True, rescale_sum: bool = True) -> Any:
    """An online softmax over tiles of keys that forgets to rescale what came before."""

    def change(e: Any) -> Outputs | None:
        if e.k.shape[-2] <= tile:
            return None
        top = np.full((*e.scores.shape[:-1], 1), -np.inf)
        total, out = np.zeros_like(top), np.zeros_like(e.out)
        for start in range(0, e.k.shape[-2], tile):
            scores = e.scores[..., start : start + tile]
            new = np.maximum(top, scores.max(-1, keepdims=True))
            shift = np.where(np.isneginf(new), 0, new)
            exps, rescale = np.exp(scores - shift), np.exp(top - shift)
            total = total * (rescale if rescale_sum else 1) + exps.sum(-1, keepdims=True)
            out = out * (rescale if rescale_out else 1) + exps @ e.v[..., start : start + tile, :]
            top = new
        safe = np.where(total == 0, 1, total)
        return {"out": out / safe, "lse": (top + np.log(total))[..., 0]}

    return changed_result(change)


TILE_MUTANTS = (
    *tile_mutants(
        {
            "out-not-rescaled": (
                "the accumulated output is not rescaled when the maximum grows",
                lambda tile: _online(tile, rescale_out=False),
            ),
            "sum-not-rescaled": (
                "the running sum is not rescaled when the maximum grows",
                lambda tile: _online(tile, rescale_sum=False),
            ),
            "last-tile-skipped": (
                "the last, ragged tile of keys is not visited",
                lambda tile: _unread(lambda tk: tk // tile * tile, lambda tk: tk),
            ),
            "first-tile-skipped": (
                "the first tile of keys is not visited",
                lambda tile: _unread(lambda tk: 0, lambda tk: tile),
            ),
        }
    ),
    *rounding_mutants(
        {
            "output-carried-in-bfloat16": (
                "the output is kept in bfloat16 from one tile of keys to the next",
                {"carried": "bfloat16"},
            ),
        }
    ),
)


def _rows_unwritten(tile: int) -> Any:
    """The last block of rows is not computed where it is no whole one; fresh memory holds NaN."""

    def change(e: Any) -> Outputs | None:
        tq = e.q.shape[-2]
        computed = np.arange(tq) < tq // tile * tile
        if computed.all():
            return None
        return {
            "out": np.where(computed[:, None], e.out, np.nan),
            "lse": np.where(computed, e.lse, np.nan),
        }

    return changed_result(change)


def _causal_from_block(tile: int) -> Any:
    """Under causal, query i sees what query i mod tile may see."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        tq, tk = x["q"].shape[-2], x["k"].shape[-2]
        if "causal" not in options or tq <= tile:
            return None
        offset = tk - tq if options["causal"] == "bottom-right" else 0
        mask = np.arange(tk) <= np.arange(tq)[:, None] % tile + offset
        rest = {n: value for n, value in options.items() if n != "causal"}
        return outputs_of(reference(**x, **{**rest, "mask": mask & rest.get("mask", True)}))

    return model


def _first_rows_again(tile: int) -> Any:
    """Every block reads the queries of the first."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        rows = np.arange(x["q"].shape[-2]) % tile
        if len(rows) <= tile:
            return None
        return outputs_of(reference(**{**x, "q": x["q"][..., rows, :]}, **options))

    return model


ROW_MUTANTS = tile_mutants(
    {
        "last-rows-unwritten": (
            "the last, ragged block of rows is not computed",
            _rows_unwritten,
        ),
        "causal-from-block": (
            "causal counts positions from the first row of a block",
            _causal_from_block,
        ),
        "first-rows-again": (
            "every block of rows takes the queries of the first",
            _first_rows_again,
        ),
    }
)
"""Bugs of algorithms that take queries in blocks of rows."""
