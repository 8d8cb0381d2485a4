"""Edits of paged attention in torch: of how pages are gathered, and of the work that takes.

What happens to gathered keys is Flash-Decoding's, and its edits are there. An implementation by
operators may move and hold about twice what this one does: a single copy of the keys is no bug.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_HELD = "held = page_table[sequence, : -(-n // page)]"
_TAKEN = "pages[held]"
_STRIDE = "queries = queries.reshape("
_MERGED = "merged, total = merge(*attend(queries[sequence], keys, values, n))"
_LOOP = "in enumerate(lengths.tolist())"

VALUES = wrong_values(
    {
        "stale-page": (
            "for the newest page of a sequence the one before it is read",
            (_HELD, f"{_HELD}.clone()\n        held[1:][-1:] = held[:-1][-1:]"),
        ),
        "table-of-neighbour": (
            "each sequence has the row of the table of its neighbour",
            (_HELD, _HELD.replace("[sequence,", "[sequence - 1,")),
        ),
        "last-page-whole": (
            "the last page of a sequence is read to its end",
            (_LOOP, "in enumerate((-(-lengths // page) * page).tolist())"),
        ),
        "lengths-one-less": (
            "the last token of each sequence is not read",
            (_LOOP, "in enumerate((lengths - 1).clamp(min=0).tolist())"),
        ),
        "table-ignored": (
            "pages are taken in the order in which they lie in the pool",
            (
                _HELD,
                "held = sequence * page_table.shape[1] + torch.arange(-(-n // page), "
                "device=q.device)",
            ),
        ),
        "slot-ignored": (
            "every token of a page is taken from its first slot",
            (_TAKEN, f"{_TAKEN}[:, :1].expand(-1, pages.shape[1], -1, -1)"),
        ),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "pool-converted": (
                "the whole pool is converted for each sequence",
                (_TAKEN, "(2 * pages).div_(2)[held]"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "attended-twice": (
                "attention is computed twice",
                (_MERGED, f"{_MERGED}\n        {_MERGED}"),
            )
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-of-keys": (
                "exponentials of all gathered numbers are taken and thrown away",
                (_MERGED, f"keys.exp()\n        {_MERGED}"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "k and v of the whole pool, eight times, are allocated and never read",
                (_STRIDE, f"torch.empty(8, 2, *k_pages.shape)\n    {_STRIDE}"),
            ),
        },
    ),
)

EDITED = Edited("torch-paged", "paged_attention", (*VALUES, *COSTS))
