"""Edits of attention in torch, operator by operator.

A standard implementation may move and hold about twice what this one does: a single copy of S is
no bug, two are.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs

_VIEWED = "per_head = scores.view(b, hq, tq, tk)"
_SCORES = "queries.reshape(*rows, d) @ k.to(wide).transpose(-2, -1)"
_PRODUCT = "weights.view(*rows, tk) @ v.to(wide)"
_EXPS = "(per_head - shift[..., None]).exp_()"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "scores-copied-twice": (
                "S is copied, and the copy is copied",
                (_VIEWED, f"{_VIEWED}.clone().clone()"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (f"scores = {_SCORES}", f"scores = ({_SCORES} + {_SCORES}) / 2"),
            ),
            "product-twice": (
                "P V is computed twice",
                (f"out = {_PRODUCT}", f"out = ({_PRODUCT} + {_PRODUCT}) / 2"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (
                    f"weights = {_EXPS}",
                    f"torch.exp(per_head - shift[..., None])\n    weights = {_EXPS}",
                ),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of 4 tq x tk is allocated and never read",
                (_VIEWED, f"{_VIEWED}\n    scratch = torch.empty(4, *scores.shape)"),
            ),
        },
    ),
)

EDITED = Edited("torch-eager", "eager", COSTS)
