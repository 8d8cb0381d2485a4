"""Planted bugs of an attention layer: around its projections, and of the attention inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.multi_head import MultiHead, join_heads
from kernelproof.spec.contracts.attention.mutants import GROUP_MUTANTS, attention_mutants
from kernelproof.spec.language import Model, Mutant, Outputs, mutants, rounding_mutants

Array = npt.NDArray[Any]
Reference = Callable[..., Any]

INSIDE = ("mask", "causal", "scale")
"""Options of the attention between the projections."""


def _after(change: Callable[[MultiHead], Array | None]) -> Model:
    """The bug between attention and w_o; ``change`` gives what is multiplied by w_o: b tq hq*dv."""

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        exact = reference(**x, **options)
        joined = change(exact)
        return None if joined is None else {"out": _layer_output(exact, joined)}

    return model


def _layer_output(exact: MultiHead, joined: Array) -> Array:
    out: Array = joined @ exact.weights[3] + (exact.biases[3] if exact.biases else 0)
    return out


def _inside(mutant: Mutant) -> Mutant:
    """A bug of the attention between the projections."""
    bug = mutant.model
    assert bug is not None

    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        exact = reference(**x, **options)
        inner = {name: options[name] for name in INSIDE if name in options}
        wrong = bug(grouped_query, {"q": exact.q, "k": exact.k, "v": exact.v}, inner)
        return {"out": _layer_output(exact, join_heads(wrong["out"]))} if wrong else None

    hidden = mutant.name in _UNSEEN_BEHIND_16_BITS
    return replace(mutant, model=model, undeclared_in="strict32" if hidden else None)


def _along_the_sequence(e: MultiHead) -> Array:
    """b heads tq dv is read as b tq heads*dv, not transposed before."""
    b, heads, tq, dv = e.attention.out.shape
    return e.attention.out.reshape(b, tq, heads * dv)


def _rotated(e: MultiHead) -> Array:
    return join_heads(np.roll(e.attention.out, 1, axis=1))


def _unprojected(
    reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
) -> Outputs | None:
    joined = join_heads(reference(**x, **options).attention.out)
    return {"out": joined} if joined.shape == x["x_q"].shape else None


def _keys_of_queries(
    reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
) -> Outputs | None:
    """k = x_q w_k, beside v = x_kv w_v."""
    if x["x_q"].shape != x["x_kv"].shape:
        return None
    exact, other = reference(**x, **options), reference(**{**x, "x_kv": x["x_q"]}, **options)
    inner = {name: options[name] for name in INSIDE if name in options}
    wrong = grouped_query(exact.q, other.k, exact.v, **inner)
    return {"out": _layer_output(exact, join_heads(wrong.out))}


def _heads_first(
    reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
) -> Outputs | None:
    """Of a list of scores (heads, batch), number h b + i, the mask is taken of (batch, heads)."""
    if "mask" not in options:
        return None
    b, heads, tq, tk = len(x["x_q"]), options["heads"], x["x_q"].shape[1], x["x_kv"].shape[1]
    mask = np.broadcast_to(options["mask"], (b, heads, tq, tk)).reshape(b * heads, tq, tk)
    wrong = mask.reshape(heads, b, tq, tk).swapaxes(0, 1)
    return {"out": reference(**x, **{**options, "mask": wrong}).out}


def _scale_from_width(
    reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
) -> Outputs | None:
    if "scale" in options:
        return None
    return {"out": reference(**x, **options, scale=x["x_q"].shape[-1] ** -0.5).out}


def _without_bias(number: int) -> Model:
    def model(
        reference: Reference, x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        if "biases" not in options:
            return None
        biases = list(options["biases"])
        biases[number] = np.zeros_like(biases[number])
        return {"out": reference(**x, **{**options, "biases": tuple(biases)}).out}

    return model


_OWN = mutants(
    {
        "mask-of-heads-first": (
            "scores are a list (heads, batch), while the mask is one of (batch, heads)",
            _heads_first,
        ),
        "heads-along-the-sequence": (
            "heads are joined without moving them behind the sequence",
            _after(_along_the_sequence),
        ),
        "heads-in-another-order": ("heads are joined in another order", _after(_rotated)),
        "output-projection-missing": ("the joined heads are returned", _unprojected),
        "keys-from-queries": ("keys are projected from x_q instead of x_kv", _keys_of_queries),
        "scale-from-width": ("scales by 1/sqrt(e) instead of 1/sqrt(d)", _scale_from_width),
        # a bias of keys adds the same to all logits of a query: nothing shows whether it is there
        "query-bias-ignored": ("b_q is not added", _without_bias(0)),
        "value-bias-ignored": ("b_v is not added", _without_bias(2)),
        "output-bias-ignored": ("b_o is not added", _without_bias(3)),
    }
)

_OF_ATTENTION = (
    *("zeros", "uniform", "scale-missing", "scale-from-dv", "scale-off-1-percent"),
    *("scale-ignored", "scale-zero-is-default", "scale-absolute"),
    *("mask-inverted", "mask-ignored", "mask-of-first-batch", "mask-of-first-head", "mask-finite"),
    *("empty-row-nan", "causal-ignored", "causal-other-corner", "causal-sees-next"),
    *("causal-misses-diagonal", "last-key-dropped", "heads-rotated"),
    *("softmax-over-queries", "nan-hidden", "group-modulo", "group-first"),
)

_UNSEEN_BEHIND_16_BITS = ("scale-off-1-percent",)
"""What is less than 16-bit intermediates may be off by: noticed where those are not declared."""

_INNER = {m.name: m for m in (*attention_mutants(", ".join(INSIDE)), *GROUP_MUTANTS)}

_ROUNDINGS = (
    *rounding_mutants(
        {
            "intermediates-in-bfloat16": (
                "q, k, v and the joined heads are stored in bfloat16, undeclared",
                {"intermediates": "bfloat16"},
            ),
            "projections-accumulated-in-bfloat16": (
                "the sums of x w are accumulated in bfloat16",
                {"projections": "bfloat16"},
            ),
            "weights-in-bfloat16": (
                "P is rounded to bfloat16 before it multiplies V, undeclared",
                {"weights": "bfloat16"},
            ),
            "accumulator-in-bfloat16": (
                "the sum of P V is accumulated in bfloat16",
                {"accumulator": "bfloat16"},
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

LAYER_MUTANTS = (*_OWN, *(_inside(_INNER[name]) for name in _OF_ATTENTION), *_ROUNDINGS)
"""The bugs of an attention layer."""
