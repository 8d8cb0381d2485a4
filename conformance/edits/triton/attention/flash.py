"""Edits of FlashAttention in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SCORES = 'tl.dot(q, tl.trans(k), input_precision="ieee")'
_SUMS = 'out = tl.dot(weights.to(v.dtype), v, out * rescale[:, None], input_precision="ieee")'
_ONLY_FLOAT32 = "TF32 holds every number of this dtype"

VALUES = wrong_values(
    {
        "out-not-rescaled": (
            "the accumulated output is not rescaled when the maximum grows",
            ("out * rescale[:, None]", "out"),
        ),
        "sum-not-rescaled": (
            "the running sum is not rescaled when the maximum grows",
            ("total = total * rescale + ", "total = total + "),
        ),
        "last-tile-skipped": (
            "the tile at the edge of the keys is not visited",
            ("step_k, step_v, whole, end,", "step_k, step_v, whole, whole,"),
        ),
        "first-tile-skipped": (
            "the first tile of keys is not visited",
            (
                "k_tile, v_tile, step_k, step_v, 0,",
                "k_tile + step_k, v_tile + step_v, step_k, step_v, BLOCK_N,",
            ),
        ),
        "last-key-dropped": (
            "the last key is masked",
            ("seen = (keys < tk)[None, :]", "seen = (keys < tk - 1)[None, :]"),
        ),
        "padding-counted": (
            "the padding of the last tile is counted in the row sum",
            ("seen = (keys < tk)[None, :]", "seen = (keys >= 0)[None, :]"),
        ),
        "keys-unmasked": (
            "the last tile reads on beyond the keys",
            (
                "_load(k_tile, keys < tk, d_in, EDGE, PADDED)",
                "_load(k_tile, keys < tk, d_in, False, PADDED)",
            ),
        ),
        "causal-sees-next": (
            "causal is off by one: j <= i + 1",
            ("(keys[None, :] <= last_key[:, None])", "(keys[None, :] <= last_key[:, None] + 1)"),
        ),
        "causal-misses-diagonal": (
            "causal is off by one: j < i",
            ("(keys[None, :] <= last_key[:, None])", "(keys[None, :] < last_key[:, None])"),
        ),
        "causal-other-corner": (
            "causal is aligned to the other corner",
            ('tk - tq if causal == "bottom-right"', 'tk - tq if causal == "top-left"'),
        ),
        "mask-finite": (
            "a finite number stands for -inf: empty rows give a mean of V",
            ('tl.where(seen, scores, float("-inf"))', "tl.where(seen, scores, -1e9)"),
        ),
        "empty-row-nan": (
            "a row without any key is NaN: 0/0",
            ("sums / tl.where(total == 0.0, 1.0, total)[:, None]", "sums / total[:, None]"),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            ("new = tl.maximum(top, tl.max(scores, 1))", "new = tl.zeros_like(top)"),
        ),
        "lse-in-log2": ("lse is a base-2 logarithm", ("tl.log2(total)) * LN_2", "tl.log2(total))")),
        "lse-without-max": (
            "lse lacks the row maximum",
            ("(top + tl.log2(total)) * LN_2", "tl.log2(total) * LN_2"),
        ),
        "scale-off-1-percent": (
            "scale is 1 percent off",
            (
                "scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, False,",
                "1.01 * scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, False,",
            ),
            (
                "scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, True,",
                "1.01 * scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, True,",
            ),
        ),
        "scale-off-0.1-percent": (
            "scale is 0.1 percent off",
            ("1 / math.sqrt(d) if scale is None", "1.001 / math.sqrt(d) if scale is None"),
        ),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            ("1 / math.sqrt(d) if scale is None else scale", "scale or 1 / math.sqrt(d)"),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            ("head = key_head * GROUP + row % GROUP", "head = key_head + row % GROUP * hkv"),
        ),
        "group-first": (
            "every query head reads key/value head 0",
            ("+ key_head * stride_kh", ""),
            ("+ key_head * stride_vh", ""),
        ),
        "heads-rotated": (
            "each head reads the values of its neighbour",
            ("+ key_head * stride_vh", "+ (key_head + hkv - 1) % hkv * stride_vh"),
        ),
        "unit-stride-assumed": (
            "the elements of a key are taken to be neighbours",
            ("dims.to(tl.int64)[None, :] * stride_kd", "dims.to(tl.int64)[None, :]"),
        ),
        "scores-in-tf32": (
            "q and k are rounded to TF32",
            (_SCORES, _SCORES.replace("ieee", "tf32")),
        ),
        "weights-in-bfloat16": (
            "P is rounded to bfloat16",
            ("weights.to(v.dtype)", "weights.to(tl.bfloat16).to(v.dtype)"),
        ),
        "out-in-bfloat16": (
            "the output is accumulated in bfloat16",
            (_SUMS, f"{_SUMS}.to(tl.bfloat16).to(tl.float32)"),
        ),
        "out-in-float16": (
            "the output is accumulated in float16",
            (_SUMS, f"{_SUMS}.to(tl.float16).to(tl.float32)"),
        ),
        "sum-in-bfloat16": (
            "the running sum is kept in bfloat16",
            (
                "total = total * rescale + tl.sum(weights, 1)",
                "total = (total * rescale + tl.sum(weights, 1)).to(tl.bfloat16).to(tl.float32)",
            ),
        ),
        "rounded-twice": (
            "out is rounded to bfloat16 before it is rounded to its dtype",
            ("result.to(out.dtype.element_ty)", "result.to(tl.bfloat16).to(out.dtype.element_ty)"),
        ),
    },
    harmless={
        "scores-in-tf32": {"float16": _ONLY_FLOAT32, "bfloat16": _ONLY_FLOAT32},
        "weights-in-bfloat16": {"bfloat16": "it declares P in the dtype of its inputs"},
        "rounded-twice": {"bfloat16": "the second rounding changes nothing"},
    },
)

_V = "_load(v_tile, keys < tk, dv_in, EDGE, PADDED_V)"
_K = "k = _load(k_tile, keys < tk, d_in, EDGE, PADDED)"
_WEIGHTS = "tl.exp2(scores - shift[:, None])"
_OUT = "out = torch.empty(b, hq, tq, dv, dtype=q.dtype, device=q.device)"
_SCRATCH = "torch.empty(b, hq, tq, tk, dtype=torch.float32, device=q.device)"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "v-read-twice": ("v is read twice", (f"v = {_V}", f"v = tl.maximum({_V}, {_V})")),
            "scores-in-memory": (
                "S is written to memory and read back",
                (_OUT, f"{_OUT}\n    scratch = {_SCRATCH}"),
                ("q, k, v, out, lse,\n    scale,", "q, k, v, out, lse, scratch,\n    scale,"),
                (
                    "q, k, v, out, lse,\n            1 /",
                    "q, k, v, out, lse, scratch,\n            1 /",
                ),
                (
                    "    queries = _load(",
                    "    place = (batch * hkv * GROUP + head) * tq + position\n"
                    "    scratch += place[:, None] * tk + lanes[None, :]\n"
                    "    queries = _load(",
                ),
                ("0, whole, tk,", "0, whole, scratch, inside, tk,"),
                ("whole, end, tk,", "whole, end, scratch, inside, tk,"),
                ("begin, end, tk,", "begin, end, scratch, inside, tk,"),
                (
                    "        if EDGE:\n            seen",
                    "        there = inside[:, None] & (keys < tk)[None, :]\n"
                    "        tl.store(scratch + first, scores, mask=there)\n"
                    "        scores = tl.load(scratch + first, mask=there, other=0.0)\n"
                    "        if EDGE:\n            seen",
                ),
            ),
            "q-read-per-tile": (
                "q is read again for every tile of keys",
                ("    queries = _load(q_tile, inside, dims < d, True, PADDED)\n", ""),
                (
                    "top, queries, k_tile, v_tile, step_k, step_v, 0,",
                    "top, q_tile, inside, k_tile, v_tile, step_k, step_v, 0,",
                ),
                (
                    "top, queries, k_tile, v_tile, step_k, step_v, whole,",
                    "top, q_tile, inside, k_tile, v_tile, step_k, step_v, whole,",
                ),
                ("top, q, k_tile", "top, q_tile, inside, k_tile"),
                (_K, f"q = _load(q_tile, inside, d_in, True, PADDED)\n        {_K}"),
            ),
            "future-visited": (
                "under causal, tiles beyond the diagonal are visited and masked",
                ("end = tl.maximum(tl.minimum(last + 1 + offset, tk), 0)", "end = tk"),
            ),
            "keys-copied": (
                "k and v are copied before they are read",
                (_OUT, f"{_OUT}\n    k, v = k.clone(), v.clone()"),
            ),
            "smallest-tiles": (
                "of the tiles that fit the lowest are taken",
                ('(-c.kwargs["BLOCK_M"], ', '(c.kwargs["BLOCK_M"], '),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (f"scores = {_SCORES} * scale", f"scores = ({_SCORES} + {_SCORES}) * (scale / 2)"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (f"weights = {_WEIGHTS}", f"weights = tl.maximum({_WEIGHTS}, {_WEIGHTS})"),
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

EDITED = Edited("triton-flash", "flash", (*VALUES, *COSTS))
