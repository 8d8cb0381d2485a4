"""Edits of FlashAttention's backward pass in Triton, one pass: of the kernel that it calls."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_PART = 'part = tl.dot(d_scores, k_tile, input_precision="ieee")'
_ADD = 'tl.atomic_add(dq_tile, part, mask=rows_in[:, None] & d_in[None, :], sem="relaxed")'
_HALF = _ADD.replace("part", "part / 2")
_ZEROS = "dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)"

VALUES = wrong_values(
    {
        "buffer-not-zeroed": (
            "parts of dq are added to whatever was allocated",
            (_ZEROS, _ZEROS.replace("zeros", "empty")),
        ),
        "stored-not-added": (
            "each part of dq overwrites the one before",
            (_ADD, "tl.store(dq_tile, part, mask=rows_in[:, None] & d_in[None, :])"),
        ),
        "scale-missing-in-dq": ("dq is not scaled", (f"{_PART} * scale", _PART)),
    },
)

_CALL = "return gradients((q, k, v, out, lse, d_out), causal, scale, passes=1)"

OWN = wrong_costs(
    "traffic",
    {
        "keys-copied": (
            "k and v are copied before they are read",
            (_CALL, f"k, v = k.clone(), v.clone()\n    {_CALL}"),
        ),
    },
)

COSTS = wrong_costs(
    "traffic",
    {
        "parts-added-twice": (
            "each part of dq is added in two halves",
            (_ADD, f"{_HALF}\n                {_HALF}"),
        ),
    },
)

EDITED = Edited(
    "triton-flash-backward-atomics",
    "flash_backward",
    OWN,
    kernels="triton.attention.flash_backward",
    of_kernels=(*VALUES, *COSTS),
)
