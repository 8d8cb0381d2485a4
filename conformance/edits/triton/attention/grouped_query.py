"""Edits of grouped-query attention in Triton: of itself, and of the kernel that it calls."""

from __future__ import annotations

from kernelproof.conformance.edits.attention import keys_copied_per_head
from kernelproof.conformance.edits.editing import Edited, wrong_costs
from kernelproof.conformance.edits.triton.attention.flash import COSTS

_CALL = "return flash(q, k, v, causal=causal, scale=scale)"

OWN = wrong_costs(
    "traffic",
    {
        "keys-read-per-head": (
            "the keys of a group are read again for each of its heads",
            ("from torch import Tensor", "import torch\nfrom torch import Tensor"),
            (
                _CALL,
                "g = q.shape[1] // k.shape[1]\n"
                "    heads = [flash(q[:, i::g], k, v, causal=causal, scale=scale)"
                " for i in range(g)]\n"
                "    return tuple(torch.stack(parts, 2).flatten(1, 2)"
                " for parts in zip(*heads, strict=True))",
            ),
        ),
        **keys_copied_per_head(_CALL),
    },
)

EDITED = Edited(
    "triton-grouped-query",
    "grouped_query",
    OWN,
    kernels="triton.attention.flash",
    of_kernels=COSTS,
)
