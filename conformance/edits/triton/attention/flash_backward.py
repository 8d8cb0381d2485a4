"""Edits of FlashAttention's backward pass in Triton, two passes."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_DQ_SUM = 'dq_sum = tl.dot(d_scores.to(k_rows.dtype), k_rows, dq_sum, input_precision="ieee")'
_DK_SUM = 'dk_sum = tl.dot(tl.trans(d_scores), queries, dk_sum, input_precision="ieee")'
_SCORES = 'tl.dot(q, tl.trans(k), input_precision="ieee")'
_CAUSAL = "keys[None, :] <= (rows + offset)[:, None]"
_BY_KEYS = f"            if CAUSAL:\n                seen = seen & ({_CAUSAL})"
_BY_QUERIES = f"        if CAUSAL:\n            seen = seen & ({_CAUSAL})\n        k_rows"

VALUES = wrong_values(
    {
        "delta-omitted": (
            "dS lacks rowsum(dO O): it is P dP",
            ("probs * (d_probs - delta[:, None])", "probs * d_probs"),
        ),
        "last-query-tile-dropped": (
            "dk and dv lack the last tile of queries",
            ("range(begin, tq, BLOCK_M)", "range(begin, tq - BLOCK_M, BLOCK_M)"),
        ),
        "last-key-tile-dropped": (
            "dq lacks the last tile of keys",
            ("range(0, end, BLOCK_N)", "range(0, end - BLOCK_N, BLOCK_N)"),
        ),
        "group-first": (
            "dk and dv are those of the first query head of a group",
            ("for member in range(GROUP):", "for member in range(1):"),
        ),
        "group-modulo": (
            "query head h adds to key/value head h mod hkv instead of h // g",
            ("head = key_head * GROUP + member", "head = key_head + member * hkv"),
        ),
        "scale-missing-in-dk": (
            "dk is not scaled",
            ("(dk_sum * scale)", "dk_sum"),
        ),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            ("1 / math.sqrt(d) if scale is None else scale", "scale or 1 / math.sqrt(d)"),
        ),
        "lse-in-log2": (
            "lse is taken for a base-2 logarithm",
            ("(lse * LOG2_E)[:, None]", "lse[:, None]"),
        ),
        "empty-row-nan": (
            "scores that are not seen are -inf before lse = -inf is subtracted",
            (
                'tl.where(seen, scores - (lse * LOG2_E)[:, None], float("-inf"))',
                'tl.where(seen, scores, float("-inf")) - (lse * LOG2_E)[:, None]',
            ),
        ),
        "d-out-of-neighbour": (
            "dk and dv of each head are made with the d_out of its neighbour",
            (
                "d_out, batch, head, rows, dims_v, stride_gb, stride_gh, stride_gt, stride_gd)\n"
                "        lse_rows",
                "d_out, batch, (head + 1) % (hkv * GROUP), rows, dims_v, stride_gb, stride_gh, "
                "stride_gt, stride_gd)\n        lse_rows",
            ),
        ),
        "causal-sees-next": (
            "in dk and dv causal is off by one: j <= i + 1",
            (_BY_KEYS, _BY_KEYS.replace("rows + offset", "rows + offset + 1")),
        ),
        "causal-misses-diagonal": (
            "in dq causal is off by one: j < i",
            (_BY_QUERIES, _BY_QUERIES.replace("<=", "<")),
        ),
        "diagonal-tile-skipped": (
            "dk and dv lack the first tile of queries that sees their keys",
            (
                "(first_key - offset, 0) // BLOCK_M * BLOCK_M",
                "(first_key - offset + BLOCK_M - 1, 0) // BLOCK_M * BLOCK_M",
            ),
        ),
        "score-gradients-in-bfloat16": (
            "dS is rounded to bfloat16",
            ("d_scores.to(queries.dtype)", "d_scores.to(tl.bfloat16).to(queries.dtype)"),
        ),
        "dk-in-float16": (
            "dk is accumulated in float16",
            (_DK_SUM, f"{_DK_SUM}.to(tl.float16).to(tl.float32)"),
        ),
        "dq-in-float16": (
            "dq is accumulated in float16",
            (_DQ_SUM, f"{_DQ_SUM}.to(tl.float16).to(tl.float32)"),
        ),
    },
    harmless={
        "score-gradients-in-bfloat16": {"bfloat16": "it declares dS in the dtype of its inputs"},
    },
)

_PROBS = 'tl.exp2(tl.where(seen, scores - (lse * LOG2_E)[:, None], float("-inf")))'
_DELTA = "delta = torch.empty(b, hq, tq, dtype=torch.float32, device=q.device)"
_SCRATCH = "torch.empty(b, hq, tq, tk, dtype=torch.float32, device=q.device)"
_LOADED = (
    "queries, d_outs = _load(q_tile, rows_in, d_in), _load(g_tile, rows_in, dv_in)\n            "
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "queries-read-twice": (
                "q is read twice for each tile of keys",
                (
                    f"            {_LOADED}probs",
                    f"            {_LOADED}queries = tl.maximum(queries, "
                    "_load(q_tile, rows_in, d_in))\n            probs",
                ),
            ),
            "future-visited": (
                "under causal, tiles beyond the diagonal are visited and masked",
                ("begin = tl.maximum(first_key - offset, 0) // BLOCK_M * BLOCK_M", "begin = 0"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (f"scores = {_SCORES} *", f"scores = ({_SCORES} + {_SCORES}) / 2 *"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (f"probs = {_PROBS}", f"probs = tl.maximum({_PROBS}, {_PROBS})"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a tq x tk scratch is allocated and never read",
                (_DELTA, f"{_DELTA}\n    {_SCRATCH}"),
            ),
        },
    ),
)

EDITED = Edited("triton-flash-backward", "flash_backward", (*VALUES, *COSTS))
