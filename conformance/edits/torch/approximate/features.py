"""Edits of orthogonal features in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_SIGNS = "triangle.diagonal(dim1=-2, dim2=-1).sign()"
_SIGNED = f"{_SIGNS} * lengths.to(wide)"
_SCALED = "scaled: Tensor = q * signed[:, None, :]"
_NARROW = ("float16", "bfloat16")
_RETURNED = "return scaled.mT"
_FACTORED = "q, triangle = torch.linalg.qr(rows.to(wide).mT)"
_PARTS = "((slice(0, whole), d), (slice(whole, r), r - whole))"

VALUES = wrong_values(
    {
        "raw-qr": (
            "directions are those of a QR factorisation whose signs are left as they are",
            (_SIGNED, "lengths.to(wide)"),
        ),
        "one-sign-per-block": (
            "all directions of a block get the sign of the first",
            (_SIGNED, "triangle[:, :1, 0].sign() * lengths.to(wide)"),
        ),
        "transposed": (
            "the columns of a whole block stand in place of its rows",
            (
                _RETURNED,
                f"return scaled.mT if q.shape[1] > q.shape[2] else q * {_SIGNS}[:, None] "
                "* lengths[..., None]",
            ),
        ),
        "independent": (
            "rows are not made orthogonal",
            (_RETURNED, "return rows / rows.norm(dim=-1, keepdim=True) * lengths[..., None]"),
        ),
        "taken-once": (
            "Gram-Schmidt is taken once",
            (
                _FACTORED,
                "q = rows.to(wide).mT.clone()\n"
                "    for i in range(q.shape[2]):\n"
                "        x = q[..., i]\n"
                "        for j in range(i):\n"
                "            x -= (x * q[..., j]).sum(-1, keepdim=True) * q[..., j]\n"
                "        x /= x.norm(dim=-1, keepdim=True)",
            ),
            (_SIGNED, "lengths.to(wide)"),
        ),
        "constant-added": (
            "1e-6 is added to directions",
            (_SCALED, _SCALED.replace("q *", "(q + 1e-6) *")),
        ),
        "norms-ignored": ("all rows have length 1", (_SIGNED, _SIGNS)),
        "last-block-dropped": (
            "a last block that is shorter stays zero",
            ("torch.empty(", "torch.zeros("),
            (_PARTS, "((slice(0, whole), d),)"),
        ),
        "first-block-reused": (
            "all whole blocks have the directions of the first",
            (_FACTORED, _FACTORED.replace("rows", "rows[:1]")),
        ),
    },
    harmless={
        "taken-once": dict.fromkeys(_NARROW, "rows of 16 bits are orthogonal to 16 bits"),
        "constant-added": dict.fromkeys(_NARROW, "features are rounded to 16 bits"),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "factored-again": (
                "every block is factored five times",
                (_FACTORED, "\n    ".join(5 * [_FACTORED])),
            )
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of 16 times the size of the rows is allocated and never read",
                (
                    _FACTORED,
                    f"scratch = rows.new_empty(8, *rows.shape, dtype=wide)\n    {_FACTORED}",
                ),
            )
        },
    ),
)

EDITED = Edited("torch-features", "features", (*VALUES, *COSTS))
