"""Edits of multi-query attention in Triton: of itself, and of the kernel that it calls."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs
from kernelproof.conformance.edits.triton.attention.flash import COSTS

_CALL = "return flash(q, k, v, causal=causal, scale=scale)"

OWN = wrong_costs(
    "traffic",
    {
        "keys-read-per-head": (
            "the keys are read again for each query head",
            (_CALL, f"k, v = (x.expand(-1, q.shape[1], -1, -1) for x in (k, v))\n    {_CALL}"),
        ),
        "keys-copied-per-head": (
            "k and v are copied for each query head",
            (_CALL, f"k, v = (x.repeat(1, q.shape[1], 1, 1) for x in (k, v))\n    {_CALL}"),
        ),
    },
)

# the gates are those of grouped-query attention, where all edits of the kernel are run
_ONE_PER_GATE = (
    "scores-in-memory",
    "scores-twice",
    "exponentials-twice",
    "unused-scratch",
)

EDITED = Edited(
    "triton-multi-query",
    "multi_query",
    OWN,
    kernels="triton.attention.flash",
    of_kernels=tuple(edit for edit in COSTS if edit.name in _ONE_PER_GATE),
)
