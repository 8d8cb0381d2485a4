"""The gradient of self-attention: three gradients of attention, added up.

Its bound is theirs, in the arithmetic of :mod:`kernelproof.spec.computed`; whoever makes them one
by one may round each, and the sum of two, to the dtype of x, as autograd does where x is used
three times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kernelproof.reference.attention.dot_product_gradients import (
    TokenGradients,
    dot_product_gradients,
)
from kernelproof.spec.accuracy import Accuracy, Bounds
from kernelproof.spec.computed import Computed, cast, output_bound, plus
from kernelproof.spec.contracts.attention.bound import Array
from kernelproof.spec.contracts.gradients.bound import either, gradients_of, start_of
from kernelproof.spec.language import Backward, Clause, Model, Outputs, mutants
from kernelproof.spec.rounding import Rounding


def tokens_bound(exact: TokenGradients, rounding: Rounding) -> Bounds:
    """Worst-case error of dx (b t d) of any right implementation, forward pass included."""
    with np.errstate(invalid="ignore", over="ignore"):
        parts = gradients_of(start_of(exact.parts, rounding), 1, rounding)

        def added(names: str, how: Callable[[Computed], Computed]) -> Computed:
            first, second, third = (how(parts[name]) for name in names.split())
            return plus(how(plus(first, second, rounding)), third, rounding)

        orders = ("dq dk dv", "dq dv dk", "dk dv dq")
        stored = partial(cast, format=rounding.out)
        wide = added(orders[0], lambda x: x)
        whole = either(wide, *(added(names, stored) for names in orders))
        return {"dx": output_bound(whole, rounding)[:, 0]}


def _changed(change: Callable[[TokenGradients], Array]) -> Model:
    """The bug that makes another gradient of the record of tokens that there are."""

    def model(reference: Any, x: Any, options: Any) -> Outputs | None:
        exact = reference(**x)
        return {"dx": change(exact)} if exact.dx.size else None

    return model


def _delta_omitted(e: TokenGradients) -> Array:
    x, d_scores = e.parts.forward, e.parts.forward.probs * e.parts.d_probs
    return np.asarray((d_scores @ x.k + d_scores.swapaxes(-1, -2) @ x.q + e.parts.dv)[:, 0])


def _diagonal(e: TokenGradients) -> Array:
    """The softmax differentiated element by element: P (1 - P)."""
    x, p = e.parts.forward, e.parts.forward.probs
    d_scores = p * (1 - p) * e.parts.d_probs
    return np.asarray((d_scores @ x.k + d_scores.swapaxes(-1, -2) @ x.q + e.parts.dv)[:, 0])


def _scaled(e: TokenGradients) -> Array:
    x, scale = e.parts, e.dx.shape[-1] ** -0.5
    return np.asarray((scale * (x.dq + x.dk) + x.dv)[:, 0])


GRADIENT_MUTANTS = mutants(
    {
        "zeros": ("returns zeros", _changed(lambda e: 0 * e.dx)),
        "queries-alone": (
            "x as keys and values has no gradient",
            _changed(lambda e: e.parts.dq[:, 0]),
        ),
        "queries-forgotten": (
            "x as queries has no gradient",
            _changed(lambda e: e.dx - e.parts.dq[:, 0]),
        ),
        "keys-forgotten": (
            "x as keys has no gradient",
            _changed(lambda e: e.dx - e.parts.dk[:, 0]),
        ),
        "values-forgotten": (
            "x as values has no gradient",
            _changed(lambda e: e.dx - e.parts.dv[:, 0]),
        ),
        "delta-omitted": ("dS lacks rowsum(dO O): it is P dP", _changed(_delta_omitted)),
        "softmax-diagonal": (
            "the softmax is differentiated by elements: P (1 - P)",
            _changed(_diagonal),
        ),
        "scaled": ("dS is scaled by 1/sqrt(d), as elsewhere", _changed(_scaled)),
    }
)

BACKWARD = Backward(
    of="x",
    reference=dot_product_gradients,
    accuracy=Accuracy(tokens_bound),
    mutants=GRADIENT_MUTANTS,
)

GRADIENT_CLAUSES = (
    Clause(
        "attention.gradients",
        "dx of a given d_out is the sum of the gradients of x as queries, keys and values, and "
        "differs from the exact one by no more than the worst case of the declared roundings.",
        "gradients",
        smoke=("b2.t40.d16/default/normal", "b1.t33.d32/default/clustered"),
        core=("b1.t130.d64/default/normal", "b1.t65.d32/default/level"),
    ),
    Clause(
        "attention.gradients.shape",
        "One token has dx = d_out, exactly but for roundings, and none has an empty gradient.",
        "gradients",
        smoke=("b2.t1.d16/default/normal", "b2.t0.d16/default/normal"),
        core=("b2.t7.d33/default/normal", "b2.t20.d16/default/normal/sliced"),
    ),
)
