"""Edits of multi-query attention in torch: of itself, and of the operators that it calls."""

from __future__ import annotations

from kernelproof.conformance.edits.attention import keys_copied_per_head
from kernelproof.conformance.edits.editing import Edited, wrong_costs
from kernelproof.conformance.edits.torch.attention.scaled_dot_product import COSTS

_CALL = "return eager(q, k, v, mask=mask, causal=causal, scale=scale)"

OWN = wrong_costs("traffic", keys_copied_per_head(_CALL))

EDITED = Edited(
    "torch-multi-query",
    "multi_query",
    OWN,
    kernels="torch.attention.scaled_dot_product",
    of_kernels=COSTS,
)
