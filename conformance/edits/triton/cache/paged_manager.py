"""Edits of the paged cache in Triton: of what it hands to the kernel, and of that kernel."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_values
from kernelproof.conformance.edits.triton.cache.paged import VALUES

_OWN = "staticmethod(paged_attention)"


def _handed(words: str) -> tuple[str, str]:
    return _OWN, f"staticmethod(lambda q, k, v, table, n: paged_attention({words}))"


OWN = wrong_values(
    {
        "query-doubled": ("logits are twice as large", _handed("q + q, k, v, table, n")),
        "keys-for-values": ("values are read from the keys", _handed("q, k, k, table, n")),
        "newest-token-lost": (
            "the newest token of each sequence is not read",
            _handed("q, k, v, table, (n - 1).clamp(min=0)"),
        ),
        "table-of-first": (
            "every sequence has the pages of the first",
            _handed("q, k, v, table[:1].expand_as(table).clamp(min=0), n"),
        ),
    }
)

_KERNEL = ("row-of-neighbour", "last-page-whole", "table-ignored")

EDITED = Edited(
    "triton-paged-manager",
    "PagedCache",
    OWN,
    kernels="triton.cache.paged",
    # all of them are run beside the kernel
    of_kernels=tuple(edit for edit in VALUES if edit.name in _KERNEL),
)
