"""Edits of paged attention in Triton: of how pages are found, and of the work that takes.

The merge is Flash-Decoding's, and its edits are there.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_ENTRY = "tl.load(table + (key // PAGE).to(tl.int64) * stride_tn, mask=there, other=0)"
_PLACE = "page, slot = page.to(tl.int64), (key % PAGE).to(tl.int64)"
_OUT = "out = torch.empty(b, hq, 1, d, dtype=q.dtype, device=q.device)"
_END = "tl.minimum((split + 1) * held, length)"
_LENGTH = "length = tl.load(lengths + batch * stride_lengths)"
_VALUES = "v_head + (page * stride_vp + slot * stride_vs)[:, None]"
_SCORES = 'tl.dot(queries, k_tile, input_precision="ieee")'
_WEIGHTS = "tl.exp2(scores - new[:, None])"

VALUES = wrong_values(
    {
        "stale-page": (
            "for the newest page of a sequence the one before it is read",
            (
                "(key // PAGE).to(tl.int64)",
                "tl.minimum(key // PAGE, tl.maximum((length - 1) // PAGE - 1, 0)).to(tl.int64)",
            ),
        ),
        "row-of-neighbour": (
            "each sequence has the row of the table of its neighbour",
            (_OUT, f"page_table = page_table.roll(1, 0)\n    {_OUT}"),
        ),
        "last-page-whole": (
            "the last page of a sequence is read to its end",
            (_OUT, f"lengths = -(-lengths // page) * page\n    {_OUT}"),
        ),
        "lengths-one-less": (
            "the last token of each sequence is not read",
            (_OUT, f"lengths = (lengths - 1).clamp(min=0)\n    {_OUT}"),
        ),
        "length-of-neighbour": (
            "each sequence has the length of its neighbour",
            (_OUT, f"lengths = lengths.roll(1)\n    {_OUT}"),
        ),
        "table-ignored": (
            "pages are taken in the order in which they lie in the pool",
            (_ENTRY, "(batch * stride_tb + key // PAGE) + tl.zeros_like(key)"),
        ),
        "slot-ignored": (
            "every token of a page is taken from its first slot",
            (_PLACE, "page, slot = page.to(tl.int64), (0 * key).to(tl.int64)"),
        ),
        "values-of-page-before": (
            "values are taken from the page before that of their keys",
            (_VALUES, _VALUES.replace("page *", "tl.maximum(page - 1, 0) *")),
        ),
        "offsets-of-32-bits": (
            "the offset of a page is computed in 32 bits",
            (_PLACE, "slot = (key % PAGE).to(tl.int64)"),
        ),
        "splits-overlap": (
            "a split visits the first tile of the next one, too",
            ("there = key < end", "there = key < length"),
            (_END, "tl.minimum((split + 1) * held + 1, length)"),
        ),
        "padding-counted": (
            "the padding of the last tile is counted in the row sum",
            ('tl.where(there[None, :], scores, float("-inf"))', "scores"),
        ),
        "split-not-rescaled": (
            "within a split the accumulated output is not rescaled when the maximum grows",
            ("        sums *= rescale[:, None]\n", ""),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            ("key_head * GROUP + row", "key_head + row * hkv"),
        ),
    },
    harmless={
        "offsets-of-32-bits": {"float32": "pages of 4-byte numbers are never laid that far apart"},
    },
)

_LOOP = "    for first in range(begin, end, BLOCK_N):\n"
_BEYOND = (
    "    for first in range(end, n * PAGE, BLOCK_N):\n"
    "        entry = (first + lanes) // PAGE\n"
    "        page = tl.load(table + entry.to(tl.int64) * stride_tn, mask=entry < n, other=0)\n"
    "        page, slot = tl.maximum(page, 0).to(tl.int64), (first + lanes) % PAGE\n"
    "        place = (page * stride_kp + slot * stride_ks)[None, :]\n"
    "        tl.load(k_head + place, mask=in_d[:, None], other=0.0)\n"
)
_V = (
    "tl.load(\n"
    f"            {_VALUES},\n"
    "            mask=there[:, None] & in_d[None, :], other=0.0,\n"
    "        )"
)
_HEAD = "tl.program_id(0) // SPLITS % (hkv * GROUP)"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "whole-row-visited": (
                "pages are visited to the end of the row of the table, whatever the length",
                ("PAGE: tl.constexpr, GROUP", "n, PAGE: tl.constexpr, GROUP"),
                ("PAGE=page, GROUP=hq", "n=page_table.shape[1], PAGE=page, GROUP=hq"),
                (_LOOP, _BEYOND + _LOOP),
            ),
            "pool-copied": (
                "the pool is copied into another layout before it is read",
                (
                    _OUT,
                    "k_pages, v_pages = (x.transpose(1, 2).contiguous().transpose(1, 2)"
                    f" for x in (k_pages, v_pages))\n    {_OUT}",
                ),
            ),
            "keys-read-per-head": (
                "a program holds one query head: those of a group read its keys one by one",
                ("_attend_split[(b * hkv * splits,)]", "_attend_split[(b * hq * splits,)]"),
                ("// SPLITS // hkv)", "// SPLITS // (hkv * GROUP))"),
                ("(tl.program_id(0) // SPLITS % hkv)", f"({_HEAD} // GROUP)"),
                (
                    "row < GROUP, dims < d, key_head * GROUP + row",
                    f"row < 1, dims < d, {_HEAD} + row",
                ),
            ),
            "v-read-twice": ("v is read twice", (_V, f"tl.maximum({_V}, {_V})")),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (f"{_SCORES} * (scale", f"({_SCORES} + {_SCORES}) * (0.5 * scale"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_WEIGHTS, f"tl.maximum({_WEIGHTS}, {_WEIGHTS})"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "pages-gathered": (
                "the pages of every row of the table are gathered into a copy, which is never read",
                (_OUT, f"torch.empty(2, 4, *k_pages.shape, device=q.device)\n    {_OUT}"),
            ),
        },
    ),
)

EDITED = Edited("triton-paged", "paged_attention", (*VALUES, *COSTS))
