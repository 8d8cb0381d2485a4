"""Clauses about the work of an algorithm, the same for every spec."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.spec.language import Clause, Growth, Metric

_SENTENCES: dict[Metric, str] = {
    "traffic": "The bytes moved between slow memory and programs are at most 1.05 times the "
    "closed form of the implementation's tiles, and at most what the algorithm allows any.",
    "footprint": "Every element of an input that some output depends on is read: less means "
    "that work was skipped.",
    "flops": "Matrix products take at most 1.01 times the operations that the visited tiles hold.",
    "exps": "Exponentials are at most 1.01 times those that the visited tiles hold.",
    "operations": "Floating-point operations are at most 1.01 times those that the visited tiles "
    "hold.",
    "additions": "Additions of blocks, beside those in products, are at most 1.01 times the closed "
    "form.",
    "memory": "What is held at the peak beside inputs and outputs is at most what the algorithm "
    "needs.",
}


def cost_clauses(
    area: str, *metrics: Metric, smoke: Sequence[str], core: Sequence[str] = ()
) -> tuple[Clause, ...]:
    """One clause per metric, all with the same cases."""
    return tuple(
        Clause(f"{area}.cost.{metric}", _SENTENCES[metric], "costs", smoke, core, metric=metric)
        for metric in metrics
    )


_GROWING: dict[Metric, str] = {
    "traffic": "Bytes moved",
    "flops": "FLOPs of matrix products",
    "exps": "Exponentials",
    "operations": "Floating-point operations",
    "additions": "Additions of blocks",
}


def growth_clause(
    anchor: str, metric: Metric, growth: Growth, *, at: str, where: str = ""
) -> Clause:
    """That a metric grows as the algorithm's does, from the case ``at``; where: what is fixed."""
    axes, most = " = ".join(growth.axes), "at most " if metric == "traffic" else ""
    sentence = (
        f"{_GROWING[metric]} grow with {axes} to the power of {most}{growth.exponent:.4g}{where}, "
        "each size within its budget."
    )
    return Clause(anchor, sentence, "complexity", core=(at,), metric=metric, growth=growth)
