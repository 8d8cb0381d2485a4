"""Edits of Flash-Decoding in torch, operator by operator.

An implementation by operators may move and hold about twice what this one does: a single copy of
the keys is no bug.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_WHOLE = "return (shares[..., None] * out).sum(1), whole"
_MERGED = "whole = torch.logsumexp(lse, 1)"
_STRIDE = "queries = queries.reshape("
_LSE = "lse = torch.logsumexp(scores, -1)"
_SCORES = "q[:, None] @ k.mT"

VALUES = wrong_values(
    {
        "merged-without-weights": (
            "the result is the plain mean of those of the splits",
            (_WHOLE, "return out.mean(1), whole"),
        ),
        "lse-of-largest-split": (
            "lse is the largest of the splits, not that of all",
            (_WHOLE, _WHOLE.replace("whole", "lse.amax(1) if lse.numel() else whole")),
        ),
        "last-split-dropped": (
            "the last split is not merged",
            (_MERGED, f"out, lse = out[:, :-1], lse[:, :-1]\n    {_MERGED}"),
        ),
        "filling-counted": (
            "what fills up the last split is counted",
            ("    scores[:, -1:, :, size - (parts * size - n) :] = -math.inf\n", ""),
        ),
        "lengths-ignored": (
            "every key is read, whatever the lengths",
            ("if lengths is None else lengths.tolist()", ""),
        ),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "converted-per-sequence": (
                "the keys of all sequences are copied for each",
                ("x[sequence, :, :n].to(wide)", "x.to(wide, copy=True)[sequence, :, :n]"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (_SCORES, f"({_SCORES} + {_SCORES}) / 2"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_LSE, f"{_LSE}\n    scores.exp()"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "k and v per query head, eight times, are allocated and never read",
                (_STRIDE, f"torch.empty(8, b, hq, tk, d + dv)\n    {_STRIDE}"),
            ),
        },
    ),
)

EDITED = Edited("torch-flash-decoding", "flash_decoding", (*VALUES, *COSTS))
