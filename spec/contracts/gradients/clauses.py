"""Clauses of attention's backward pass with causal and scale, and heads that share keys."""

from __future__ import annotations

from collections.abc import Iterator

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.gradients.properties import gradient_properties
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.language import Clause, Growth


def backward_clauses(heads: str) -> tuple[Clause, ...]:
    """All clauses, with cases for ``heads`` (``hq4.hkv2``)."""
    return (*_clauses(heads), *gradient_properties(), *_cost_clauses(heads), *_growing())


def _cost_clauses(h: str) -> tuple[Clause, ...]:
    return cost_clauses(
        "attention",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            f"b2.{h}.tq50.tk130.d32.dv48/default/normal",
            # tiles beyond the diagonal
            f"b1.{h}.tq200.tk200.d16/causal-top-left/normal",
            # long enough for a tq x tk scratch to stand out from any workspace
            "b1.hq2.hkv1.tq450.tk450.d16/default/normal",
        ),
        core=(f"b1.{h}.tq130.tk100.d64/causal-bottom-right/normal",),
    )


def _growing() -> Iterator[Clause]:
    for metric in ("flops", "traffic"):
        yield growth_clause(
            f"attention.complexity.{metric}",
            metric,
            Growth(2, ("tq", "tk"), sizes=(128, 256, 384, 512, 640)),
            at="b1.hq1.hkv1.tq640.tk640.d16/default/normal",
        )


def _clauses(h: str) -> tuple[Clause, ...]:
    return (
        Clause(
            "attention.backward.accuracy",
            "dq, dk and dv differ from the exact gradients by no more than the worst case of the "
            "declared roundings, the stored out and lse included, in every element.",
            "accuracy",
        ),
        Clause(
            "attention.backward.scale",
            "scale multiplies the recomputed scores, dq and dk; it defaults to 1/sqrt(d), and an "
            "explicit one is obeyed, also 0, 1 and a negative one.",
            "semantics",
            smoke=[
                f"b1.{h}.tq17.tk33.d24.dv40/default/normal",
                *(f"b1.{h}.tq17.tk33.d32/scale-{s}/normal" for s in (0.0, 1.0, -0.3)),
            ],
            core=[f"b1.{h}.tq17.tk33.d64/causal-top-left+scale--0.3/normal"],
        ),
        Clause(
            "attention.backward.causal.top-left",
            "causal top-left lets query i attend to keys j <= i.",
            "semantics",
            smoke=_causal("top-left", f"b1.{h}", ((33, 33), (17, 40))),
            core=_causal("top-left", "b1.hq2.hkv1", ((1, 9), (70, 40), (130, 200))),
        ),
        Clause(
            "attention.backward.causal.bottom-right",
            "causal bottom-right lets query i attend to keys j <= i + tk - tq.",
            "semantics",
            smoke=_causal("bottom-right", f"b1.{h}", ((33, 33), (17, 40))),
            core=_causal("bottom-right", "b1.hq2.hkv1", ((1, 9), (130, 200), (4, 300))),
        ),
        Clause(
            "attention.backward.empty-rows",
            "A row that sees no key has dq = 0 and adds nothing to dk and dv; a key that no query "
            "sees has dk = dv = 0: exactly.",
            "semantics",
            smoke=[
                f"b1.{h}.tq40.tk17.d32/causal-bottom-right/normal",
                f"b1.{h}.tq17.tk40.d32/causal-top-left/large-logit",
            ],
            core=[f"b1.{h}.tq200.tk70.d16/causal-bottom-right/normal"],
        ),
        Clause(
            "attention.backward.groups",
            "dk and dv of a key/value head are sums over its g = hq / hkv query heads, for any "
            "number of groups.",
            "semantics",
            smoke=["b2.hq6.hkv3.tq17.tk33.d32/default/normal"],
            core=[
                "b1.hq4.hkv4.tq33.tk65.d32/default/normal",
                "b1.hq8.hkv1.tq33.tk65.d32/causal-top-left/normal",
                "b1.hq10.hkv2.tq9.tk33.d16/causal-bottom-right/normal",
            ],
        ),
        Clause(
            "attention.backward.shape.empty",
            "tk = 0 gives dq = 0 and tq = 0 gives dk = dv = 0; b = 0 gives empty tensors.",
            "semantics",
            smoke=[f"b1.{h}.tq5.tk0.d32/default/normal", f"b1.{h}.tq0.tk9.d32/default/normal"],
            core=[f"b0.{h}.tq5.tk9.d32/default/normal"],
        ),
        Clause(
            "attention.backward.shape.ragged",
            "Lengths of 1, below a tile and not a multiple of one are right, and so is every head "
            "size.",
            "semantics",
            smoke=[
                f"b1.{h}.tq1.tk1.d32/default/normal",
                f"b1.{h}.tq7.tk129.d16.dv80/default/normal",
            ],
            core=[
                *(f"b1.{h}.tq65.tk15.d{d}/default/normal" for d in (16, 72, 128, 256)),
                f"b1.{h}.tq1.tk257.d64/default/normal",
                f"b1.{h}.tq129.tk63.d33.dv20/causal-top-left/normal",
            ],
        ),
        layout_clause(
            "attention.backward",
            f"b2.{h}.tq17.tk33.d32/causal-bottom-right/normal",
            ("transposed", "sliced", "expanded", "mixed"),
            core=[
                f"b2.{h}.tq33.tk65.d32/default/normal/{layout}"
                for layout in ("columns", "offset", "repeated")
            ],
        ),
        repeat_clause("attention.backward", "b2.hq2.hkv1.tq65.tk70.d32/causal-bottom-right/normal"),
    )


def _causal(kind: str, prefix: str, lengths: tuple[tuple[int, int], ...]) -> list[str]:
    return [f"{prefix}.tq{tq}.tk{tk}.d32/causal-{kind}/normal" for tq, tk in lengths]
