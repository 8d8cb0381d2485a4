"""Edits of Flash-Decoding in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SCORES = 'tl.dot(queries, k_tile, input_precision="ieee")'
_STRIDE = "stride_lengths = 0 if lengths is None else lengths.stride(0)"
_PARTS = "tl.cdiv(length, tl.maximum(keys_per_split(length, SPLITS, BLOCK_N), 1))"

VALUES = wrong_values(
    {
        "merged-without-weights": (
            "the result is the plain mean of those of the splits",
            ("sums * rescale + part_out * weight", "sums + part_out"),
            ("tl.where(total == 0.0, 1.0, total)", "tl.maximum(parts, 1)"),
        ),
        "lse-of-largest-split": (
            "lse is the largest of the splits, not that of all",
            ("(top + tl.log2(total)) * LN_2", "top * LN_2"),
        ),
        "last-split-dropped": (
            "the last split is not merged",
            (f"parts = {_PARTS}", f"parts = {_PARTS} - 1"),
        ),
        "splits-without-keys-merged": (
            "every split is merged, though some have left nothing",
            (f"parts = {_PARTS}", "parts = tl.where(length > 0, SPLITS, 0)"),
        ),
        "merge-not-rescaled": (
            "what was merged before is not rescaled when a larger lse comes",
            ("sums * rescale + part_out * weight", "sums + part_out * weight"),
        ),
        "partial-not-divided": (
            "a split leaves the sum of its weighted values, not their mean",
            ("        sums / total[:, None],", "        sums,"),
        ),
        "empty-row-nan": (
            "a sequence without any key is NaN: 0/0",
            ("sums / tl.where(total == 0.0, 1.0, total)", "sums / total"),
        ),
        "lengths-ignored": (
            "every key is read, whatever the lengths",
            ("    if RAGGED:\n        return tl.load(lengths + batch * stride)\n", ""),
        ),
        "lengths-one-less": (
            "the last key of each sequence is not read",
            (
                _STRIDE,
                f"lengths = None if lengths is None else (lengths - 1).clamp(min=0)\n    {_STRIDE}",
            ),
        ),
        "lengths-of-neighbour": (
            "each sequence has the length of its neighbour",
            (_STRIDE, f"lengths = None if lengths is None else lengths.roll(1)\n    {_STRIDE}"),
        ),
        "splits-overlap": (
            "a split visits the first tile of the next one, too",
            ("there = key < end", "there = key < length"),
            (
                "tl.minimum((split + 1) * held, length)",
                "tl.minimum((split + 1) * held + 1, length)",
            ),
        ),
        "padding-counted": (
            "the padding of the last tile is counted in the row sum",
            ('tl.where(there[None, :], scores, float("-inf"))', "scores"),
        ),
        "split-not-rescaled": (
            "within a split the accumulated output is not rescaled when the maximum grows",
            ("        sums *= rescale[:, None]\n", ""),
        ),
        "scale-off-0.1-percent": (
            "scale is 0.1 percent off",
            ("(scale * LOG2_E)", "(1.001 * scale * LOG2_E)"),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            ("key_head * GROUP + row", "key_head + row * hkv"),
        ),
    },
)

_LOOP = "    for first in range(begin, end, BLOCK_N):\n"
_BEYOND = (
    "    for first in range(end, tk, BLOCK_N):\n"
    "        key = (first + lanes).to(tl.int64)\n"
    "        there = (key < tk)[None, :] & in_d[:, None]\n"
    "        tl.load(k_head + key[None, :] * stride_kt, mask=there, other=0.0)\n"
)
_V = (
    "tl.load(\n"
    "            v_head + key[:, None] * stride_vt, mask=there[:, None] & in_dv[None, :], "
    "other=0.0\n"
    "        )"
)
_WEIGHTS = "tl.exp2(scores - new[:, None])"
_OUT = "out = torch.empty(b, hq, 1, dv, dtype=q.dtype, device=q.device)"
_HEAD = "tl.program_id(0) // SPLITS % (hkv * GROUP)"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "read-beyond-lengths": ("keys are read up to tk", (_LOOP, _BEYOND + _LOOP)),
            "keys-read-per-head": (
                "a program holds one query head: those of a group read its keys one by one",
                ("_attend_split[(b * hkv * splits,)]", "_attend_split[(b * hq * splits,)]"),
                ("// SPLITS // hkv)", "// SPLITS // (hkv * GROUP))"),
                ("(tl.program_id(0) // SPLITS % hkv)", f"({_HEAD} // GROUP)"),
                ("row < GROUP, key_head * GROUP + row", f"row < 1, {_HEAD} + row"),
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
            "unused-scratch": (
                "k and v per query head, in float32, are allocated and never read",
                (_OUT, f"{_OUT}\n    torch.empty(b, hq, tk, d + dv, device=q.device)"),
            ),
        },
    ),
)

EDITED = Edited("triton-flash-decoding", "flash_decoding", (*VALUES, *COSTS))
