"""Edits of grouped-query attention in torch: of itself, and of the operators that it calls."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs
from kernelproof.conformance.edits.torch.attention.scaled_dot_product import COSTS

_CALL = "return eager(q, k, v, mask=mask, causal=causal, scale=scale)"

OWN = wrong_costs(
    "traffic",
    {
        "keys-copied-per-head": (
            "k and v are copied for each head of a group",
            (
                _CALL,
                "g = q.shape[1] // k.shape[1]\n"
                "    k, v = k.repeat_interleave(g, 1), v.repeat_interleave(g, 1)\n"
                f"    {_CALL}",
            ),
        ),
    },
)

EDITED = Edited(
    "torch-grouped-query",
    "grouped_query",
    OWN,
    kernels="torch.attention.scaled_dot_product",
    of_kernels=COSTS,
)
