"""Edits of Strassen's product in torch: of its own operators, and of the schedule it runs."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values
from kernelproof.conformance.edits.halving import COSTS, VALUES

_EDITS = (
    *wrong_values(
        {
            "subtracts-never": (
                "blocks are added where they are to be subtracted",
                ("torch.sub(x, y, out=out)", "torch.add(x, y, out=out)"),
            ),
            "margin-unwritten": (
                "columns behind a copy are left as they were allocated",
                ("out[:m, n:].zero_()", "pass"),
            ),
        }
    ),
    *wrong_costs(
        "traffic",
        {
            "product-copied": (
                "every leaf product is made elsewhere and copied",
                ("torch.mm(*in_pairs(a, b), out=out)", "out.copy_(torch.mm(a, b).clone())"),
            ),
        },
    ),
)

EDITED = Edited(
    "torch-strassen", "strassen", _EDITS, kernels="halving", of_kernels=(*VALUES, *COSTS)
)
