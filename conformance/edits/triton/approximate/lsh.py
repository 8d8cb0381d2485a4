"""Edits of LSH attention in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_BUCKET = "tl.where(-smallest > largest, half + of_smallest, of_largest)"
_SEEN = "seen = (behind == 0) | (behind == 1)"
_SCORES = 'tl.dot(queries, keys, input_precision="ieee")'
_WEIGHTS = "tl.exp2(scores - shift[:, None])"
_SORT = "order = buckets.argsort(dim=-1, stable=True)"
_V = (
    "tl.load(\n"
    "            v_head + j[:, None] * stride_vt + dims_v[None, :] * stride_vd,\n"
    "            mask=there[:, None] & in_dv[None, :], other=0.0,\n"
    "        )"
)
_OUT = "out = torch.empty(b, h, t, dv, dtype=qk.dtype, device=qk.device)"

VALUES = wrong_values(
    {
        "hash-of-one-round": (
            "every round has the buckets of the first",
            ("rotations + turn * stride_rr + dims", "rotations + 0 * stride_rr + dims"),
        ),
        "hash-without-signs": (
            "argmax is of x R alone: half of the buckets",
            (_BUCKET, "of_largest"),
        ),
        "sort-unstable": (
            "within a bucket tokens are not sorted by position",
            (
                _SORT,
                "order = buckets.shape[-1] - 1 - buckets.flip(-1).argsort(dim=-1, stable=True)",
            ),
        ),
        "no-look-back": ("a chunk sees itself alone", (_SEEN, "seen = behind == 0")),
        "bucket-ignored": (
            "a chunk attends to all that it sees, whatever their buckets",
            ("(buckets * (chunks + 1))", "(buckets * 0)"),
        ),
        "self-allowed": (
            "every token attends to itself, too",
            ("j[None, :] < i[:, None]", "j[None, :] <= i[:, None]"),
            ("j[None, :] != i[:, None]", "j[None, :] != i[:, None] + t"),
        ),
        "self-forbidden": (
            "a token that is alone attends to nothing",
            ("alone = total == 0.0", "alone = total < 0.0"),
            ("tl.where(alone, 1.0, total)[:, None]", "tl.where(total == 0.0, 1.0, total)[:, None]"),
        ),
        "log-n-missing": (
            "a pair counts in every round that allows it, though it should once",
            ('counted = duplicates == "counted"\n', "counted = True\n"),
            ("math.log(rounds) if counted", 'math.log(rounds) if duplicates == "counted"'),
        ),
        "keys-not-normalised": (
            "keys are the tokens, not of length 1",
            ("LOG2_E / tl.where(there, length, 1.0)", "LOG2_E + 0.0 * length"),
        ),
        "scale-off-0.1-percent": (
            "scale is 0.1 percent off",
            (
                "triton.cdiv(t, half), 1 / math.sqrt(d)",
                "triton.cdiv(t, half), 1.001 / math.sqrt(d)",
            ),
        ),
        "merge-not-rescaled": (
            "what was merged before is not rescaled when a larger lse comes",
            ("sums * rescale[:, None] + part", "sums + part"),
        ),
    },
)

COSTS = (
    *wrong_costs("traffic", {"v-read-twice": ("v is read twice", (_V, f"tl.maximum({_V}, {_V})"))}),
    *wrong_costs(
        "flops",
        {
            "scores-twice": (
                "S is computed twice",
                (f"{_SCORES} * factor", f"({_SCORES} + {_SCORES}) * 0.5 * factor"),
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
            "dense-scores": (
                "scores of all t x t tokens are allocated for each round and never read",
                (_OUT, f"{_OUT}\n    torch.empty(rounds, b * h, t, t, device=qk.device)"),
            ),
        },
    ),
)

EDITED = Edited("triton-lsh", "lsh", (*VALUES, *COSTS))
