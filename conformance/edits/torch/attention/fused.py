"""Edits of fused attention in torch, one block of rows at a time."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SCORES = "scores = q @ k.mT"
_WEIGHTS = "weights = scores.sub_(top).exp_()"
_OUT = "out = torch.empty(b, h, tq, dv, dtype=q.dtype, device=q.device)"

VALUES = wrong_values(
    {
        "last-rows-unwritten": (
            "the last, ragged block of rows is not computed",
            ("range(0, tq, ROWS)", "range(0, tq // ROWS * ROWS, ROWS)"),
        ),
        "causal-from-block": (
            "causal counts positions from the first row of a block",
            ("triu_(first + offset + 1)", "triu_(offset + 1)"),
        ),
        "first-rows-again": (
            "every block of rows takes the queries of the first",
            ("queries = q[..., rows, :]", "queries = q[..., : rows.stop - first, :]"),
        ),
        "causal-sees-next": (
            "causal is off by one: j <= i + 1",
            ("triu_(first + offset + 1)", "triu_(first + offset + 2)"),
            ("max(rows.stop + offset, 0)", "max(rows.stop + offset + 1, 0)"),
        ),
        "mask-inverted": (
            "mask True is read as: may not attend",
            ("hidden.append(~mask", "hidden.append(mask"),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            (_WEIGHTS, "top.zero_()\n    weights = scores.exp_()"),
            ("total.clamp(min=1)", "total.masked_fill(total == 0, 1.0)"),
        ),
        "empty-row-nan": (
            "a row without any key is NaN",
            ("total.clamp(min=1)", "total"),
        ),
    }
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "scores-copied-often": (
                "the scores of a block are copied six times",
                (_SCORES, f"{_SCORES}\n    for _ in range(6):\n        scores = scores.clone()"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (_SCORES, "scores = (q @ k.mT + q @ k.mT) / 2"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_WEIGHTS, f"torch.exp(scores - top)\n    {_WEIGHTS}"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a tq x tk scratch is allocated and never read",
                (_OUT, f"{_OUT}\n    scratch = torch.empty(b, h, tq, tk, device=q.device)"),
            ),
            "all-rows-at-once": ("one block holds all rows", ("ROWS = 64", "ROWS = 1 << 20")),
        },
    ),
)

EDITED = Edited("torch-fused", "fused", (*VALUES, *COSTS))
