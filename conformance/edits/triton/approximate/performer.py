"""Edits of attention through random features in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SCALE = "along = d**-0.25"
_HALF = "d**-0.5 / 2 * LOG2_E"
_QUOTIENT = "(sums / total[:, None])"
_SEEN = "position[None, :] <= position[:, None]"
_BEFORE_SPAN = (
    "            tl.store(norms + place, norm, mask=in_m)\n"
    "            tl.store(state + cells, sums, mask=mask)\n"
    "        if KIND"
)
_HANDED_ON = "if first + CHUNK < end:"
_SUMS_OF = "sums_of = ((span if CAUSAL else 0) * heads + head) * width"
_KEYS_OF = "*factors, held, *sizes, *k.stride()"
_PRODUCT = '"ieee" if q.dtype == torch.float32 else "tf32"'
_DECLARED = "it is what the kernel declares for this dtype"

VALUES = wrong_values(
    {
        "scale-twice": (
            "q and k are scaled by d^-1/2 each",
            (_SCALE, _SCALE.replace("25", "5")),
            (_HALF, _HALF.replace("0.5", "1.0")),
        ),
        "norm-of-keys-missing": (
            "exp(-|k|^2 / 2) is missing, or its inverse of trig",
            (_HALF, f"0.0 * {_HALF}"),
        ),
        "normaliser-missing": ("sums are not divided by those of the weights", (_QUOTIENT, "sums")),
        "causal-without-itself": (
            "a query does not see its own key",
            (_SEEN, _SEEN.replace("<=", "<")),
            (_QUOTIENT, "(sums / tl.where(total == 0.0, 1.0, total)[:, None])"),
        ),
        "causal-sees-next": (
            "a query sees the key after its own, if that is in its chunk",
            (_SEEN, f"{_SEEN} + 1"),
        ),
        "chunk-not-added": (
            "under causal, a chunk does not see the one before it in its span",
            (_HANDED_ON, "if first + CHUNK < begin:"),
        ),
        "spans-apart": (
            "under causal, spans before a query's own are not seen",
            (
                _BEFORE_SPAN,
                _BEFORE_SPAN.replace("norm,", "0.0 * norm,").replace("sums,", "0.0 * sums,"),
            ),
        ),
        "span-counts-itself": (
            "under causal, the sums that a span begins with are those of its own keys, too",
            (
                _BEFORE_SPAN,
                _BEFORE_SPAN.replace("norm,", "norm + own_norm,").replace("sums,", "sums + own,"),
            ),
        ),
        "spans-not-rescaled": (
            "spans are added up, each with a largest exponent of its own",
            ("rescale = tl.exp2(top - tl.load(largest + head))", "rescale = tl.exp2(top - top)"),
        ),
        "sums-not-rescaled": (
            "within a span sums are not rescaled when a larger exponent comes",
            ("            sums *= rescale\n", ""),
        ),
        "query-not-rescaled": (
            "what a query has summed is not rescaled when a larger exponent comes",
            ("                sums *= rescale[:, None]\n", ""),
        ),
        "weights-not-rescaled": (
            "the weights of a chunk are not rescaled when a query has a larger exponent",
            ("                    weights *= rescale[:, None]\n", "                    pass\n"),
        ),
        "first-half-only": (
            "the second function, exp(-W x) or cos, is missing",
            ("tl.interleave(phi, falling)", "tl.interleave(phi, falling * 0.0)"),
            ("tl.cos(along) * row[:, None])", "tl.cos(along) * 0.0)"),
        ),
        "padding-counted": (
            "rows beyond the last key count as keys of 0",
            (
                'tl.exp2(tl.where(inside, along - row[:, None], float("-inf")))',
                "tl.exp2(along - row[:, None])",
            ),
            ("waves = tl", "phi = tl"),
            ("        phi = tl.where(tl.interleave(inside, inside), waves, 0.0)\n", ""),
        ),
        "last-key-dropped": (
            "the last key is not read",
            (_KEYS_OF, "*factors, held, h, t - 1, *sizes[2:], *k.stride()"),
        ),
        "first-features-again": (
            "every tile of features is the first",
            ("feature = start + tl.arange(0, BLOCK_R)", "feature = tl.arange(0, BLOCK_R)"),
        ),
        "sums-of-first-head": (
            "all heads get the sums of the first",
            (_SUMS_OF, _SUMS_OF.replace("+ head)", "+ (head if CAUSAL else head // h * h))")),
        ),
        "heads-rotated": (
            "each head sums the values of its neighbour",
            (
                "(head % h) * stride_vh\n    w = ",
                "((head + h - 1) % h) * stride_vh\n    w = ",
            ),
        ),
        "unit-stride-assumed": (
            "the elements of a row are taken to be neighbours",
            ("dims[None, :] * stride_d", "dims[None, :]"),
        ),
        "operands-in-tf32": ("phi, weights and sums are rounded to TF32", (_PRODUCT, '"tf32"')),
    },
    harmless={"operands-in-tf32": {"float16": _DECLARED, "bfloat16": _DECLARED}},
)

_V = (
    "        values = _rows(v_head, position, there, dims_v, in_dv, stride_vt, stride_vd)\n"
    "        norm +="
)
_PHI = "phi = _phi(along, top, inside, KIND)"
_PRODUCT_OF_QUERIES = 'along = tl.dot(queries, w, input_precision="ieee") * factor'
_OUT = "out = torch.empty(b, h, t, dv, dtype=q.dtype, device=q.device)"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "v-read-twice": (
                "v is read twice",
                (_V, _V.replace("        norm +=", _V)),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "last-chunk-added": (
                "the last chunk of a span is added to sums that nobody reads",
                (_HANDED_ON, "if first < end:"),
            ),
            "features-multiplied-twice": (
                "W q is computed twice",
                (_PRODUCT_OF_QUERIES, f"{_PRODUCT_OF_QUERIES}\n            {_PRODUCT_OF_QUERIES}"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {"exps-twice": ("phi of queries is made twice", (_PHI, f"{_PHI}\n            {_PHI}"))},
    ),
    *wrong_costs(
        "memory",
        {
            "dense-weights-held": (
                "weights of all pairs are allocated and never read",
                (_OUT, f"{_OUT}\n    torch.empty(b, h, t, t, device=q.device)"),
            ),
        },
    ),
)

EDITED = Edited("triton-performer", "performer", (*VALUES, *COSTS))
