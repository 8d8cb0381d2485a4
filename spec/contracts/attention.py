"""Clauses and mutants that all exact attention variants share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kernelproof.spec.language import Clause, Mutant, Outputs

Reference = Callable[..., Any]


def attention_clauses(heads: str) -> tuple[Clause, ...]:
    """The clauses, with cases for ``heads`` (such as ``h2`` or ``hq4.hkv2``)."""
    h = heads
    no_head = "".join(c if not c.isdigit() else "0" for c in heads)
    return (
        Clause(
            "attention.accuracy",
            "out and lse differ from the exact result by no more than the worst case of the "
            "declared roundings, in every element.",
            "accuracy",
        ),
        Clause(
            "attention.scale.default",
            "scale defaults to 1/sqrt(d) of the query and key head size, also where dv differs "
            "or d is not a power of two.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d16.dv48/default/normal", f"b1.{h}.tq19.tk40.d80/default/normal"],
            core=[f"b1.{h}.tq17.tk33.d{d}/default/normal" for d in (16, 24, 32, 64, 96, 128)]
            + [f"b1.{h}.tq17.tk33.d64.dv32/default/normal"],
        ),
        Clause(
            "attention.scale.explicit",
            "An explicit scale is obeyed, also 0, 1 and a negative one.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/scale-{s}/normal" for s in (0.0, 1.0, -0.3)],
            core=[f"b1.{h}.tq17.tk33.d64/scale--0.125+causal-top-left/normal"],
            option="scale",
        ),
        Clause(
            "attention.mask.boolean",
            "mask is boolean and broadcasts to b h tq tk; True = may attend.",
            "semantics",
            smoke=[
                f"b2.{h}.tq17.tk33.d32/mask-{m}/normal"
                for m in ("random", "padding", "shared", "per-head")
            ],
            core=[f"b3.{h}.tq70.tk130.d64/mask-{m}/heavy-tailed" for m in ("random", "padding")]
            + [f"b2.{h}.tq33.tk33.d32/causal-top-left+mask-random/normal"],
            option="mask",
        ),
        Clause(
            "attention.mask.fully-masked-row",
            "A row with no allowed key gives out = 0 and lse = -inf, exactly.",
            "semantics",
            smoke=[f"b2.{h}.tq17.tk33.d32/mask-{m}/normal" for m in ("empty-rows", "none")],
            core=[f"b1.{h}.tq17.tk33.d64/mask-empty-rows/large-logit"],
            option="mask",
        ),
        Clause(
            "attention.mask.hidden-keys",
            "Keys that a boolean mask hides never influence the output while they are finite.",
            "semantics",
            smoke=[f"b2.{h}.tq17.tk33.d32/mask-padding/masked-huge"],
            core=[f"b2.{h}.tq17.tk33.d32/mask-none/masked-huge"],
            option="mask",
        ),
        Clause(
            "attention.causal.top-left",
            "causal top-left lets query i attend to keys j <= i.",
            "semantics",
            smoke=_causal("top-left", f"b1.{h}", ((33, 33), (17, 40), (40, 17), (1, 9))),
            core=_causal("top-left", f"b2.{h}", ((1, 1), (64, 128), (130, 70))),
            option="causal",
        ),
        Clause(
            "attention.causal.bottom-right",
            "causal bottom-right lets query i attend to keys j <= i + tk - tq; queries before "
            "the first key give out = 0 and lse = -inf.",
            "semantics",
            smoke=_causal("bottom-right", f"b1.{h}", ((33, 33), (17, 40), (40, 17), (1, 9))),
            core=_causal("bottom-right", f"b2.{h}", ((1, 1), (64, 128), (130, 70))),
            option="causal",
        ),
        Clause(
            "attention.keys.structural",
            "What lies beyond the keys in memory (the padding of a tile, the rest of a storage) "
            "never influences the output, NaN included.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/normal/sliced", f"b1.{h}.tq1.tk65.d64/default/normal/offset"],
            core=[f"b2.{h}.tq{t}.tk{t + 1}.d64/default/normal/sliced" for t in (15, 64, 127)],
        ),
        Clause(
            "attention.nan.query",
            "A NaN in query i makes row i NaN and no other.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-query"],
            core=[f"b1.{h}.tq130.tk130.d64/default/nan-query", f"b1.{h}.tq4.tk4.d16/default/nan-query"],
        ),
        Clause(
            "attention.nan.key",
            "A NaN in a key makes every row that sees it NaN.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-key"],
            core=[f"b1.{h}.tq130.tk130.d64/default/nan-key"],
        ),
        Clause(
            "attention.nan.value",
            "A NaN in a value makes every row that sees it NaN.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-value"],
            core=[f"b1.{h}.tq130.tk130.d64/default/nan-value"],
        ),
        Clause(
            "attention.shape.empty",
            "tk = 0 gives zeros (lse -inf); tq = 0, b = 0 or no heads give empty tensors.",
            "semantics",
            smoke=[f"b1.{h}.tq5.tk0.d32/default/normal", f"b1.{h}.tq0.tk9.d32/default/normal"],
            core=[f"b0.{h}.tq5.tk9.d32/default/normal", f"b1.{no_head}.tq5.tk9.d32/default/normal"],
        ),
        Clause(
            "attention.shape.ragged",
            "Lengths of 1, below a tile and not a multiple of one are right.",
            "semantics",
            smoke=[f"b1.{h}.tq{q}.tk{k}.d64/default/normal" for q, k in ((1, 1), (7, 129), (65, 15))],
            core=[f"b1.{h}.tq{q}.tk{k}.d64/default/normal" for q, k in ((63, 127), (129, 257), (1, 513))],
        ),
        Clause(
            "attention.statistics.wide",
            "Running max, running sum and the accumulator are kept in at least float32: logits "
            "beyond 88 and beyond 65504 stay finite where the true result is.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk64.d16/default/beyond-65504", f"b1.{h}.tq17.tk65.d32/default/huge"],
            core=[f"b1.{h}.tq64.tk256.d64/default/rising", f"b1.{h}.tq64.tk256.d64/default/huge"],
        ),
        Clause(
            "attention.layout",
            "Inputs may be transposed, sliced, expanded or at an offset in a larger storage.",
            "integrity",
            smoke=[
                f"b2.{h}.tq17.tk33.d32/default/normal/{layout}"
                for layout in ("transposed", "sliced", "offset", "expanded")
            ],
            core=[f"b2.{h}.tq33.tk65.d64/causal-bottom-right/normal/{x}" for x in ("transposed", "sliced")]
            + [f"b2.{h}.tq33.tk65.d64/mask-random/normal/{x}" for x in ("transposed", "sliced")],
        ),
        Clause(
            "attention.deterministic",
            "The same call twice gives equal bits, unless the implementation declares atomics.",
            "integrity",
            smoke=[f"b2.{h}.tq65.tk129.d64/default/normal"],
            core=[f"b2.{h}.tq128.tk256.d64/causal-bottom-right/normal"],
            repeat=True,
        ),
    )


def _causal(kind: str, prefix: str, lengths: tuple[tuple[int, int], ...]) -> list[str]:
    return [f"{prefix}.tq{tq}.tk{tk}.d32/causal-{kind}/normal" for tq, tk in lengths]


def _with(**changes: Any) -> Any:
    """The bug that ignores or replaces options: given for options that the case has."""

    def model(reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        if not set(changes) <= set(options):
            return None
        changed = {n: f(options[n]) if callable(f) else f for n, f in changes.items()}
        return _outputs(reference(**x, **{**options, **changed}))

    return model


def _inputs(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The bug that computes the right thing for other inputs (unmasked cases only)."""

    def model(reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        if options.keys() & {"mask", "causal", "keep"} or not x["k"].size:
            return None
        return _outputs(reference(**{**x, **change(dict(x))}, **options))

    return model


def _result(change: Callable[[Any], Outputs | None]) -> Any:
    """The bug that spoils a right result; ``change`` gets the reference's record."""

    def model(reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        with np.errstate(all="ignore"):
            exact = reference(**x, **options)
            changed = change(exact)
        return None if changed is None else {**_outputs(exact), **changed}

    return model


def _outputs(exact: Any) -> Outputs:
    return {"out": exact.out, "lse": exact.lse}


def _scale(factor: Callable[[Any], float]) -> Any:
    """The bug of a wrong scale; ``factor`` gets the inputs."""

    def model(reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        right = options.get("scale", x["q"].shape[-1] ** -0.5)
        return _outputs(reference(**x, **{**options, "scale": right * factor(x)}))

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


def _padding_counted(e: Any) -> Outputs | None:
    """The zero logits of a last tile of 16 keys, padded, are counted in the row sums."""
    padding = -e.k.shape[-2] % 16
    if not padding:
        return None
    lse = np.logaddexp(e.lse, np.log(padding))
    return {"out": e.out * np.exp(e.lse - lse)[..., None], "lse": lse}


def _no_max(e: Any) -> Outputs:
    """exp of the logits themselves, in float32."""
    exps = np.exp(e.scores.astype(np.float32))
    total = exps.sum(-1, keepdims=True)
    return {"out": np.where(total > 0, exps / total @ e.v, 0), "lse": np.log(total[..., 0])}


def _softmax_over_queries(e: Any) -> Outputs:
    exps = np.exp(e.scores - e.scores.max(-2, keepdims=True, initial=-np.inf))
    return {"out": np.nan_to_num(exps / exps.sum(-2, keepdims=True)) @ e.v}


def _prefix(e: Any) -> Outputs | None:
    """Only the first half of the keys is read."""
    half = e.k.shape[-2] // 2
    exps = np.exp(e.scores - np.where(np.isneginf(e.lse), 0, e.lse)[..., None])[..., :half]
    return {"out": exps @ e.v[..., :half, :] / exps.sum(-1, keepdims=True)} if half else None


def _copy_of_values(e: Any) -> Outputs | None:
    return {"out": e.v} if e.v.shape == e.out.shape else None


def _causal_shift(by: int) -> Any:
    def model(reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        if "causal" not in options:
            return None
        tq, tk = x["q"].shape[-2], x["k"].shape[-2]
        offset = by + (tk - tq if options["causal"] == "bottom-right" else 0)
        mask = np.arange(tk) <= np.arange(tq)[:, None] + offset
        rest = {n: value for n, value in options.items() if n != "causal"}
        return _outputs(reference(**x, **{**rest, "mask": mask & rest.get("mask", True)}))

    return model


_OTHER = {"top-left": "bottom-right", "bottom-right": "top-left"}

ATTENTION_MUTANTS: tuple[Mutant, ...] = (
    Mutant("zeros", "returns zeros", _result(lambda e: {"out": 0 * e.out, "lse": 0 * e.out[..., 0]})),
    Mutant("mean-of-values", "returns the mean of V: flat inputs accept it", _result(_mean_of_values)),
    Mutant("copy-of-values", "returns V itself", _result(_copy_of_values)),
    Mutant("prefix", "reads the first half of the keys only", _result(_prefix)),
    Mutant("scale-missing", "does not scale the logits", _scale(lambda x: x["q"].shape[-1] ** 0.5)),
    Mutant("scale-from-dv", "scales by 1/sqrt(dv) instead of 1/sqrt(d)", _scale(lambda x: (x["q"].shape[-1] / x["v"].shape[-1]) ** 0.5)),
    Mutant("scale-off-1-percent", "scale is 1 percent off", _scale(lambda x: 1.01)),
    Mutant("scale-off-0.1-percent", "scale is 0.1 percent off", _scale(lambda x: 1.001)),
    Mutant("scale-ignored", "an explicit scale is ignored", _with(scale=None)),
    Mutant("scale-zero-is-default", "an explicit scale of 0 is taken for none", _with(scale=lambda s: s or None)),
    Mutant("scale-absolute", "the sign of scale is lost", _with(scale=abs)),
    Mutant("mask-inverted", "mask True is read as: may not attend", _with(mask=np.logical_not)),
    Mutant("mask-ignored", "mask is ignored", _with(mask=None)),
    Mutant("mask-of-first-batch", "every batch uses the mask of the first", _with(mask=lambda m: m[:1])),
    Mutant("mask-of-first-head", "every head uses the mask of the first", _with(mask=lambda m: m[:, :1])),
    Mutant("mask-finite", "a finite number stands for -inf: empty rows give mean(V)", _result(_finite_mask_value)),
    Mutant("causal-ignored", "causal is ignored", _with(causal=None)),
    Mutant("causal-other-corner", "causal is aligned to the other corner", _with(causal=_OTHER.get)),
    Mutant("causal-sees-next", "causal is off by one: j <= i + 1", _causal_shift(1)),
    Mutant("causal-misses-diagonal", "causal is off by one: j < i", _causal_shift(-1)),
    Mutant("last-key-dropped", "the last key is not read", _inputs(lambda x: {n: x[n][..., :-1, :] for n in "kv"})),
    Mutant("first-key-dropped", "the first key is not read", _inputs(lambda x: {n: x[n][..., 1:, :] for n in "kv"})),
    Mutant("padding-counted", "the padding of the last tile is counted in the row sum", _result(_padding_counted)),
    Mutant("heads-rotated", "each head reads the values of its neighbour", _inputs(lambda x: {"v": np.roll(x["v"], 1, axis=1)})),
    Mutant("no-max-subtraction", "the row maximum is not subtracted before exp", _result(_no_max)),
    Mutant("softmax-over-queries", "softmax runs over the queries", _result(_softmax_over_queries)),
    Mutant("lse-in-log2", "lse is a base-2 logarithm", _result(lambda e: {"lse": e.lse / np.log(2)})),
    Mutant("lse-without-max", "lse lacks the row maximum", _result(lambda e: {"lse": e.lse - e.scores.max(-1, initial=-np.inf)})),
    Mutant("nan-hidden", "NaN is replaced by zero", _result(lambda e: {"out": np.nan_to_num(e.out), "lse": np.nan_to_num(e.lse, neginf=-np.inf)})),
    Mutant("dropout-ignored", "the keep-mask of dropout is ignored", _with(keep=None)),
    Mutant("dropout-not-rescaled", "kept weights are not divided by 1 - rate", _with(keep=lambda k: (k[0], 0.0))),
)
