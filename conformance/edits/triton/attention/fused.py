"""Edits of fused attention in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_DOT = 'scores = tl.dot(q_tile, tl.trans(k_tile), scores, input_precision="ieee")'
_SUMS = 'sums = tl.dot(weights.to(v_tile.dtype), v_tile, input_precision="ieee")'
_CAUSAL = "(key[None, :] <= row[:, None] + offset)"
_SHIFT = 'tl.where(top == float("-inf"), 0.0, top)[:, None]'
_ONLY_FLOAT32 = "TF32 holds every number of this dtype"

VALUES = wrong_values(
    {
        "last-rows-unwritten": (
            "the last, ragged block of rows is not computed",
            ("(triton.cdiv(tq, rows) * b * h,)", "(max(tq // rows, 1) * b * h,)"),
            ("blocks = tl.cdiv(tq, BLOCK_M)", "blocks = tl.maximum(tq // BLOCK_M, 1)"),
        ),
        "causal-from-block": (
            "causal counts positions from the first row of a block",
            (_CAUSAL, "(key[None, :] <= row[:, None] % BLOCK_M + offset)"),
        ),
        "first-rows-again": (
            "every block of rows takes the queries of the first",
            ("+ row.to(tl.int64) * stride_qt", "+ (row % BLOCK_M).to(tl.int64) * stride_qt"),
        ),
        "last-key-dropped": (
            "the last key is masked",
            ("allowed = (key < seen)[None, :]", "allowed = (key < seen - 1)[None, :]"),
        ),
        "padding-counted": (
            "the padding of a row of scores is counted in its sum",
            ("allowed = (key < seen)[None, :]", "allowed = (key >= 0)[None, :]"),
        ),
        "keys-unmasked": (
            "the last tile reads on beyond the keys",
            ("v_mask = (key < seen)[:, None]", "v_mask = (key >= 0)[:, None]"),
        ),
        "causal-sees-next": ("causal is off by one: j <= i + 1", (_CAUSAL, f"{_CAUSAL[:-1]} + 1)")),
        "causal-other-corner": (
            "causal is aligned to the other corner",
            ('tk - tq if causal == "bottom-right"', 'tk - tq if causal == "top-left"'),
        ),
        "empty-row-nan": (
            "a row without any key is NaN: 0/0",
            ("sums / tl.where(total == 0.0, 1.0, total)[:, None]", "sums / total[:, None]"),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            ("top = tl.max(scores, 1)", "top = tl.zeros_like(tl.max(scores, 1))"),
        ),
        "lse-without-max": (
            "lse lacks the row maximum",
            ("(top + tl.log2(total)) * LN_2", "tl.log2(total) * LN_2"),
        ),
        "head-padding-read": (
            "the last step of a head reads on beyond it",
            (
                "k_mask = (key < seen)[:, None] & (dim < d)[None, :]",
                "k_mask = (key < seen)[:, None] & (dim >= 0)[None, :]",
            ),
            (
                "q_mask = inside[:, None] & (dim < d)[None, :]",
                "q_mask = inside[:, None] & (dim >= 0)[None, :]",
            ),
        ),
        "first-step-only": (
            "of a wide head the first elements alone are multiplied",
            ("for first in range(0, d, BLOCK_D)", "for first in range(0, BLOCK_D, BLOCK_D)"),
        ),
        "unit-stride-assumed": (
            "the elements of a key are taken to be neighbours",
            ("k_rows[:, None] + dim[None, :] * stride_kd", "k_rows[:, None] + dim[None, :]"),
        ),
        "heads-rotated": (
            "each head reads the values of its neighbour",
            ("+ head * stride_vh", "+ (head + h - 1) % h * stride_vh"),
        ),
        "scale-off-0.1-percent": (
            "scale is 0.1 percent off",
            ("1 / math.sqrt(d) if scale is None", "1.001 / math.sqrt(d) if scale is None"),
        ),
        "operands-in-tf32": ("q and k are rounded to TF32", (_DOT, _DOT.replace("ieee", "tf32"))),
        "accumulator-in-bfloat16": (
            "the sum of P V is rounded to bfloat16",
            (_SUMS, f"{_SUMS}.to(tl.bfloat16).to(tl.float32)"),
        ),
    },
    harmless={"operands-in-tf32": {"float16": _ONLY_FLOAT32, "bfloat16": _ONLY_FLOAT32}},
)

_OUT = "out = torch.empty(b, h, tq, dv, dtype=q.dtype, device=q.device)"
_SCRATCH = "torch.empty(b, h, tq, tk, dtype=torch.float32, device=q.device)"
_K = "tl.load(k_rows[:, None] + dim[None, :] * stride_kd, mask=k_mask, other=0.0)"
_V = "tl.load(v_rows[:, None] + dim[None, :] * stride_vd, mask=v_mask, other=0.0)"
_EXPS = f"tl.exp2(scores - {_SHIFT})"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "k-read-twice": (
                "k is read twice",
                (f"k_tile = {_K}", f"k_tile = tl.maximum({_K}, {_K})"),
            ),
            "v-read-twice": (
                "v is read twice",
                (f"v_tile = {_V}", f"v_tile = tl.maximum({_V}, {_V})"),
            ),
            "scores-in-memory": (
                "S is written to memory and read back",
                (_OUT, f"{_OUT}\n    scratch = {_SCRATCH}"),
                ("q, k, v, out, lse,\n    scale,", "q, k, v, out, lse, scratch,\n    scale,"),
                (
                    "q, k, v, out, lse,\n            1 /",
                    "q, k, v, out, lse, scratch,\n            1 /",
                ),
                (
                    "    allowed = (key < seen)[None, :]",
                    "    there = inside[:, None] & (key < tk)[None, :]\n"
                    "    place = ((batch * h + head) * tq + row)[:, None] * tk + key[None, :]\n"
                    "    tl.store(scratch + place, scores, mask=there)\n"
                    "    scores = tl.load(scratch + place, mask=there, other=0.0)\n"
                    "    allowed = (key < seen)[None, :]",
                ),
            ),
            "future-read": (
                "under causal, keys beyond the diagonal are read and masked",
                ("seen = tl.maximum(tl.minimum(last + 1 + offset, tk), 0)", "seen = tk"),
            ),
            "fewest-rows": (
                "blocks have 16 rows, however many would fit",
                ("rows = min(16 * KEYS // padded, padded_q, 128)", "rows = 16"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (_DOT, f"{_DOT}\n        {_DOT}"),
                ("scores * (scale * LOG2_E)", "scores * (scale / 2 * LOG2_E)"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (f"weights = {_EXPS}", f"weights = tl.maximum({_EXPS}, {_EXPS})"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a tq x tk scratch is allocated and never read",
                (_OUT, f"{_OUT}\n    {_SCRATCH}"),
            ),
        },
    ),
)

EDITED = Edited("triton-fused", "fused", (*VALUES, *COSTS))
