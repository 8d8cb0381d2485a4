"""Clauses that all matrix multiplications share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from kernelproof.spec.contracts.costs import growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.contracts.matmul.properties import MATMUL_PROPERTIES
from kernelproof.spec.language import Clause, Growth, Metric

CLASSICAL = (
    "out differs from the exact product by no more than gamma_k |a| |b| and the declared "
    "roundings, in every element."
)


def matmul_clauses(
    accuracy: str = CLASSICAL,
    *,
    without: Sequence[str] = (),
    options: str = "default",
    own: Sequence[str] = (),
    outputs: float = inf,
) -> tuple[Clause, ...]:
    """The clauses about values, with the sentence of the accuracy clause.

    without: anchors of clauses that do not hold, less their ``matmul.``.
    options: those of their cases, as in ids.
    own: options of this algorithm, with any of which the properties hold.
    outputs: the most elements of out in a case, where each costs an interpreter a program.
    """
    anchors = {f"matmul.{name}" for name in without}
    every = (*_CLAUSES, *MATMUL_PROPERTIES)
    if unknown := anchors - {c.anchor for c in every}:
        raise ValueError(f"without {', '.join(sorted(unknown))}: no clause has that anchor")

    def changed(point: str) -> str:
        return _smaller(point.replace("/default/", f"/{options}/"), outputs)

    kept = [_with_cases(c, changed, own) for c in every if c.anchor not in anchors]
    return (Clause("matmul.accuracy", accuracy, "accuracy"), *kept)


def _smaller(point: str, outputs: float) -> str:
    """The case with m and n halved, and rounded up, until out has few enough elements."""
    sizes, _, rest = point.partition("/")
    m, k, n = (int(size[1:]) for size in sizes.split("."))
    while m * n > outputs:
        m, n = -(-m // 2), -(-n // 2)
    return f"m{m}.k{k}.n{n}/{rest}"


def growth_clauses(
    *metrics: Metric,
    sizes: Sequence[int],
    exponent: float = 3,
    gap: float = 1,
    options: str = "default",
    where: str = "",
) -> tuple[Clause, ...]:
    """How each metric grows where m = k = n; where: what is fixed, in words."""
    growth, last = Growth(exponent, ("m", "k", "n"), tuple(sizes), gap), sizes[-1]
    at = f"m{last}.k{last}.n{last}/{options}/normal"
    return tuple(
        growth_clause(f"matmul.complexity.{metric}", metric, growth, at=at, where=where)
        for metric in metrics
    )


def _with_cases(clause: Clause, changed: Callable[[str], str], own: Sequence[str]) -> Clause:
    smoke, core = (tuple(map(changed, points)) for points in (clause.smoke, clause.core))
    relation = clause.relation and replace(clause.relation, options=tuple(own))
    return replace(clause, smoke=smoke, core=core, relation=relation)


_CLAUSES: tuple[Clause, ...] = (
    Clause(
        "matmul.shape.ragged",
        "Sizes of 1, below a tile and not a multiple of one are right.",
        "semantics",
        smoke=(
            "m1.k1.n1/default/normal",
            "m7.k129.n33/default/normal",
            "m65.k17.n1/default/normal",
        ),
        core=(
            "m129.k65.n127/default/normal",
            "m1.k1000.n1/default/normal",
            "m16.k15.n17/default/normal",
            "m8.k4500.n8/default/normal",
            "m8.k8300.n8/default/normal",
            "m2100.k9.n8/default/normal",
            "m8.k9.n1100/default/normal",
        ),
    ),
    Clause(
        "matmul.shape.empty",
        "k = 0 gives zeros; m = 0 or n = 0 give an empty tensor.",
        "semantics",
        smoke=("m5.k0.n7/default/normal",),
        core=("m0.k5.n7/default/normal", "m5.k7.n0/default/normal", "m0.k0.n0/default/normal"),
        exact=True,
    ),
    Clause(
        "matmul.nonfinite",
        "NaN and infinities propagate as IEEE 754 says, to their row and column and no "
        "further; infinity times zero is NaN and is never skipped.",
        "semantics",
        smoke=("m33.k40.n35/default/nonfinite",),
        core=("m5.k16.n5/default/nonfinite", "m130.k130.n130/default/nonfinite"),
    ),
    Clause(
        "matmul.exact",
        "Matrices of zeros and ones multiply without error.",
        "semantics",
        smoke=("m33.k129.n35/default/bits",),
        core=("m64.k250.n64/default/bits", "m64.k64.n64/default/identity"),
        exact=True,
    ),
    layout_clause(
        "matmul",
        "m33.k65.n40/default/normal",
        ("transposed", "sliced", "offset", "expanded", "mixed"),
        core=("m130.k257.n70/default/normal/transposed", "m130.k257.n70/default/normal/sliced"),
    ),
    repeat_clause("matmul", "m65.k257.n65/default/normal"),
)
