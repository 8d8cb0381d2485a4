"""Edits of dot-product self-attention in torch.

It may move about twice what it does, and hold twice: a single copy of S is no bug, more are.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SCORES = "wide @ wide.mT"
_WEIGHTS = f"weights = torch.softmax({_SCORES}, -1)"
_OUT = "(weights @ wide)"

VALUES = wrong_values(
    {
        "scaled": ("scales the logits by 1/sqrt(d)", (_SCORES, f"{_SCORES} / x.shape[-1] ** 0.5")),
        "softmax-over-queries": (
            "softmax runs over the queries",
            (f"{_SCORES}, -1", f"{_SCORES}, -2"),
        ),
        "over-coordinates": (
            "softmax(xᵀ x) mixes coordinates",
            (_WEIGHTS, "weights = torch.softmax(wide.mT @ wide, -1)"),
            (_OUT, "(wide @ weights.mT)"),
        ),
        "future-masked": (
            "a token does not attend to later ones",
            (
                _SCORES,
                "(wide @ wide.mT).masked_fill("
                "torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1), -torch.inf)",
            ),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            (
                _WEIGHTS,
                f"exps = ({_SCORES}).exp()\n    weights = exps / exps.sum(-1, keepdim=True)",
            ),
        ),
    }
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "scores-copied-often": (
                "S is copied three times",
                (_SCORES, f"({_SCORES}).clone().clone().clone()"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": ("S is computed twice", (_SCORES, f"({_SCORES} + {_SCORES}) / 2")),
            "product-twice": ("P x is computed twice", (_OUT, f"(({_OUT} + {_OUT}) / 2)")),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_WEIGHTS, f"torch.exp({_SCORES})\n    {_WEIGHTS}"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of 4 t x t is allocated and never read",
                (
                    _WEIGHTS,
                    f"scratch = torch.empty(4, len(x), x.shape[1], x.shape[1])\n    {_WEIGHTS}",
                ),
            ),
        },
    ),
)

EDITED = Edited("torch-dot-product", "dot_product", (*VALUES, *COSTS))
