"""Edits of additive attention in torch: of its values, and of what it computes, moves and holds."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_KEYS = "key.to(wide) @ w_key.to(wide)"
_UNITS = "(queries[:, rows, None] + keys[:, None]).tanh_()"
_SOFTMAX = "weights = torch.softmax(scores, -1)"
_SCORED = f"scores[:, rows] = {_UNITS} @ w\n"

VALUES = wrong_values(
    {
        "bias-missing": ("the bias is not added", (" + bias.to(wide)", "")),
        "bias-twice": (
            "the bias is added to both projections",
            (f"{_KEYS}, w_score", f"{_KEYS} + bias.to(wide), w_score"),
        ),
        "scaled": (
            "scores are divided by sqrt(h)",
            (_SOFTMAX, "weights = torch.softmax(scores / math.sqrt(len(bias)), -1)"),
        ),
        "tanh-missing": ("scores are linear: no tanh", (".tanh_()", "")),
        "relu": ("max(0, a) stands for tanh(a)", (".tanh_()", ".relu_()")),
        "tanh-in-bfloat16": (
            "tanh is rounded to bfloat16, undeclared",
            (".tanh_()", ".tanh_().bfloat16().to(wide)"),
        ),
        "last-unit-dropped": (
            "the last hidden unit is not summed",
            (f"{_UNITS} @ w", f"{_UNITS}[..., :-1] @ w[:-1]"),
        ),
        "softmax-over-queries": (
            "softmax runs over the queries",
            (_SOFTMAX, "weights = torch.softmax(scores, 1)"),
        ),
        "last-rows-stale": (
            "the last, ragged block of queries is not computed",
            ("range(0, query.shape[1], ROWS)", "range(0, query.shape[1] // ROWS * ROWS, ROWS)"),
            ("scores = queries.new_empty(", "scores = queries.new_zeros("),
        ),
        "mask-inverted": (
            "mask True is read as: may not attend",
            ("scores.masked_fill_(~mask & mask.any(-1, keepdim=True)", "scores.masked_fill_(mask"),
            ("weights.masked_fill(~mask", "weights.masked_fill(mask"),
        ),
        "mask-finite": (
            "a finite number stands for -inf: empty rows give the mean of the values",
            ("~mask & mask.any(-1, keepdim=True), -math.inf", "~mask, -1e9"),
            ("weights = weights.masked_fill(~mask, 0.0)", "pass"),
        ),
        "empty-row-nan": (
            "a row without any key is NaN: 0/0",
            ("~mask & mask.any(-1, keepdim=True), -math.inf", "~mask, -math.inf"),
            ("weights = weights.masked_fill(~mask, 0.0)", "pass"),
        ),
        "query-first": ("a decoder gets [query; out]", ("[out, query], -1", "[query, out], -1")),
        "weights-not-normalised": (
            "weights are returned before their division by the row sum",
            (
                "return out, weights.to(query.dtype)",
                "return out, (weights / weights.amax(-1, keepdim=True)).to(query.dtype)",
            ),
        ),
    }
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "units-copied": (
                "hidden units are copied three times over",
                (f"{_UNITS} @ w", f"{_UNITS}.clone().clone().clone() @ w"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "keys-projected-per-block": (
                "the keys are projected again for every block of queries",
                (_SCORED, f"keys = {_KEYS}\n        {_SCORED}"),
            ),
            "scores-twice": (
                "scores are computed twice",
                (_SCORED, f"{_SCORED}        {_SCORED}"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "tanh-twice": (
                "tanh is computed twice",
                (_SCORED, f"{_UNITS}\n        {_SCORED}"),
            ),
            "softmax-twice": (
                "the softmax is computed twice",
                (_SOFTMAX, f"torch.softmax(scores, -1)\n    {_SOFTMAX}"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "all-units-held": (
                "the hidden units of all queries are held together",
                ("\nROWS = 16\n", "\nROWS = 1 << 20\n"),
            ),
        },
    ),
)

EDITED = Edited("torch-additive", "additive", (*VALUES, *COSTS))
