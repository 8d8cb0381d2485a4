"""Planted bugs of attention's gradients, whoever makes them: changes of the exact computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.gradients import Gradients, summed_over_groups
from kernelproof.spec.contracts.attention.mutants import with_these_options
from kernelproof.spec.language import Model, Mutant, Outputs, mutants, rounding_mutants

Array: TypeAlias = npt.NDArray[Any]
Options: TypeAlias = Mapping[str, Any]


def changed_gradients(change: Callable[[Gradients, Options], Outputs | None]) -> Model:
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


def gradients_from(
    e: Gradients, weights: Array, d_scores: Array, rows: slice = slice(None)
) -> dict[str, Array]:
    """All gradients from P and dS: b hq tq tk; those of keys and values from these rows alone."""
    x, turned = e.forward, [each.swapaxes(-1, -2)[..., rows] for each in (weights, d_scores)]
    per_head = {
        "dk": x.scale * (turned[1] @ x.q[..., rows, :]),
        "dv": turned[0] @ e.d_out[..., rows, :],
    }
    summed = {n: summed_over_groups(each, e.dk.shape[1]) for n, each in per_head.items()}
    return {"dq": x.scale * (d_scores @ x.k), **summed}


def _delta_omitted(e: Gradients, options: Options) -> Outputs:
    return gradients_from(e, e.forward.weights, e.forward.probs * e.d_probs)


def _dropout_forgotten(e: Gradients, options: Options) -> Outputs | None:
    """dP without the keep-mask."""
    if "keep" not in options:
        return None
    d_probs = e.d_out @ e.forward.v.swapaxes(-1, -2)
    return gradients_from(e, e.forward.weights, e.forward.probs * (d_probs - e.delta))


def _dropout_not_in_values(e: Gradients, options: Options) -> Outputs | None:
    if "keep" not in options:
        return None
    dv = e.forward.probs.swapaxes(-1, -2) @ e.d_out
    return {"dv": summed_over_groups(dv, e.dk.shape[1])}


def _of_first_head(e: Gradients, options: Options) -> Outputs | None:
    hkv = e.dk.shape[1]
    group = e.dq.shape[1] // max(hkv, 1)
    first = np.arange(e.dq.shape[1]) % group == 0 if group else np.zeros(0, bool)
    if first.all():
        return None
    kept = first[:, None, None]
    wrong = gradients_from(e, e.forward.weights * kept, e.d_scores * kept)
    return {name: wrong[name] for name in ("dk", "dv")}


def _group_mean(e: Gradients, options: Options) -> Outputs:
    group = e.dq.shape[1] // max(e.dk.shape[1], 1)
    return {"dk": e.dk / max(group, 1), "dv": e.dv / max(group, 1)}


def _neighbour(e: Gradients, options: Options) -> Outputs:
    d_out = np.roll(e.d_out, 1, axis=1)
    dv = e.forward.weights.swapaxes(-1, -2) @ d_out
    return {"dv": summed_over_groups(dv, e.dk.shape[1])}


def _empty_row_nan(e: Gradients, options: Options) -> Outputs | None:
    """exp(-inf - -inf): NaN in a row of P without a key is NaN in every sum that it enters."""
    empty = np.isneginf(e.forward.lse)[..., None]
    if not empty.any():
        return None
    weights = np.where(empty, np.nan, e.forward.weights)
    return gradients_from(e, weights, np.where(empty, np.nan, e.d_scores))


_EXACT = mutants(
    {
        "zeros": (
            "returns zeros",
            changed_gradients(lambda e, o: {"dq": 0 * e.dq, "dk": 0 * e.dk, "dv": 0 * e.dv}),
        ),
        "delta-omitted": ("dS lacks rowsum(dO O): it is P dP", changed_gradients(_delta_omitted)),
        "scale-missing-in-dq": (
            "dq is not scaled",
            changed_gradients(lambda e, o: {"dq": e.d_scores @ e.forward.k}),
        ),
        "scale-missing-in-dk": (
            "dk is not scaled",
            changed_gradients(
                lambda e, o: {
                    "dk": summed_over_groups(
                        e.d_scores.swapaxes(-1, -2) @ e.forward.q, e.dk.shape[1]
                    )
                }
            ),
        ),
        "heads-rotated": (
            "dv of each head is made with the d_out of its neighbour",
            changed_gradients(_neighbour),
        ),
        "empty-row-nan": (
            "a row without any key is NaN: exp(-inf - -inf)",
            changed_gradients(_empty_row_nan),
        ),
        "dropout-forgotten": (
            "what dropout zeroed has a gradient: dP lacks the keep-mask",
            changed_gradients(_dropout_forgotten),
        ),
        "dropout-not-in-values": (
            "dv is made of P as it was before dropout",
            changed_gradients(_dropout_not_in_values),
        ),
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


def gradient_mutants(options: str) -> tuple[Mutant, ...]:
    """The bugs of any gradients of attention with these options."""
    return with_these_options((*_EXACT, *_ROUNDING), options)


GROUP_GRADIENT_MUTANTS = mutants(
    {
        "group-first": (
            "dk and dv are those of the first query head of a group, not the sum",
            changed_gradients(_of_first_head),
        ),
        "group-mean": (
            "dk and dv are the mean over the query heads of a group, not the sum",
            changed_gradients(_group_mean),
        ),
    }
)
"""Those where query heads share keys."""
