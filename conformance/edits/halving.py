"""Edits of the schedule that fast matrix products in torch and in Triton share."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import wrong_costs, wrong_values

_CROPPED = "return out if whole is out else on.fill(whole, out)"

VALUES = wrong_values(
    {
        "product-1-dropped": (
            "M1 is missing",
            ("mul(add(a11, a22, s), add(b11, b22, t), c11)", "c11.fill_(0)"),
        ),
        "product-7-dropped": (
            "M7 is missing",
            ("mul(sub(a12, a22, s), add(b21, b22, t), q)  # M7\n    add(c11, q, c11)", "pass"),
        ),
        "minus-1-is-plus": ("M3 has B12 + B22", ("sub(b12, b22, t)", "add(b12, b22, t)")),
        "minus-2-is-plus": ("M4 has B21 + B11", ("sub(b21, b11, t)", "add(b21, b11, t)")),
        "minus-6-is-plus": ("C22 has + M2", ("sub(c11, c21, c22)", "add(c11, c21, c22)")),
        "quarters-mixed": (
            "the upper right and the lower left quarter of everything change places",
            (
                "return x[:m, :n], x[:m, n:], x[m:, :n], x[m:, n:]",
                "return x[:m, :n], x[m:, :n], x[:m, n:], x[m:, n:]",
            ),
        ),
        "winograd-p5-too-late": (
            "C12 gets P5 when U3 has been added to it",
            (
                "add(c12, c22, c12)\n    add(c22, c21, c22)",
                "add(c22, c21, c22)\n    add(c12, c22, c12)",
            ),
        ),
        "odd-sides-dropped": (
            "sides are rounded down to multiples of 2^levels",
            ("-(-size >> levels) << levels for size", "size >> levels << levels for size"),
        ),
        "returned-whole": (
            "the filled-up result is returned",
            (_CROPPED, "return whole.to(out.dtype)"),
        ),
        "kept-in-bfloat16": (
            "blocks are kept in bfloat16",
            ("wide = torch.promote_types(x.dtype, torch.float32)", "wide = torch.bfloat16"),
        ),
    },
)

_LEAF = "if not levels:\n        return on.multiply(a, b, out)"
_BUFFERS = "made = []\n    for level in"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "factors-copied": (
                "the factors of every product are copied first",
                ("recurse(on, x, y, into,", "recurse(on, x.clone(), y.clone(), into,"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "leaf-twice": (
                "every leaf product is computed twice",
                (_LEAF, _LEAF.replace("return ", "on.multiply(a, b, out)\n        return ")),
            ),
            "level-too-few": (
                "blocks are halved once less",
                ("return levels\n", "return max(0, levels - 1)\n"),
            ),
            "power-of-two": (
                "sides are filled up to powers of two",
                ("-(-size >> levels) << levels for size", "1 << (size - 1).bit_length() for size"),
            ),
        },
    ),
    *wrong_costs(
        "additions",
        {
            "winograd-by-strassen": (
                "Winograd's variant makes the 18 additions of Strassen's",
                ('"winograd": winograd_step', '"winograd": strassen_step'),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "an m x n x k scratch is allocated and never read",
                (
                    _BUFFERS,
                    f"scratch = torch.empty(*a.shape, b.shape[1], device=a.device)\n    {_BUFFERS}",
                ),
            ),
        },
    ),
)
