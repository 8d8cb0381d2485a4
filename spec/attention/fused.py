"""Fused attention: whole rows of scores, one block of rows at a time; S is never stored."""

from __future__ import annotations

from dataclasses import replace

from kernelproof.reference.attention.fused import fused
from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.clauses import attention_clauses, smoke_alone
from kernelproof.spec.contracts.attention.fused_costs import FUSED
from kernelproof.spec.contracts.attention.mutants import ROW_MUTANTS, attention_mutants
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.costs import growth_clause
from kernelproof.spec.contracts.gradients.backward import (
    ONE_TO_ONE,
    attention_backward,
    gradient_clauses,
)
from kernelproof.spec.language import Call, Growth, Spec

OPTIONS = "mask, causal, scale"

SMOKE = (
    "b2.h2.tq64.tk64.d64/default/normal",
    "b1.h2.tq33.tk129.d32/causal-bottom-right/normal",
    # several blocks of rows, however tall
    "b1.h1.tq150.tk150.d16/causal-top-left/normal",
    "b1.h3.tq100.tk100.d64/causal-top-left/large-logit",
    "b2.h2.tq65.tk64.d128/mask-random/normal",
    "b1.h2.tq40.tk100.d32/default/value-offset",
    "b1.h1.tq2.tk4500.d16/default/stagnant",
    "b1.h2.tq64.tk512.d64/default/positive-value",
    "b1.h2.tq40.tk100.d32/default/tiny-value",
    "b1.h4.tq128.tk128.d32/default/captured",
)
CORE = (
    *("b1.h2.tq47.tk200.d64/default/rising", "b1.h2.tq40.tk100.d32/default/plateau"),
    "b1.h2.tq128.tk333.d64/default/normal",
    "b1.h2.tq128.tk333.d64/default/huge",
    "b1.h2.tq96.tk160.d80/causal-bottom-right/normal",
    "b2.h4.tq140.tk600.d96/causal-bottom-right+mask-left-padding/normal",
    "b1.h1.tq256.tk1024.d64/default/normal",
    "b1.h4.tq256.tk256.d32/causal-bottom-right/captured",
)
POWERS_OF_TWO = (64, 128, 256, 512, 1024)

GROWTH = (
    growth_clause(
        "attention.complexity.flops",
        "flops",
        Growth(2, ("tq", "tk"), POWERS_OF_TWO),
        at="b1.h1.tq1024.tk1024.d16/default/normal",
    ),
    growth_clause(
        "attention.complexity.traffic",
        "traffic",
        Growth(1, ("tq",), (128, 256, 384, 512, 640)),
        at="b1.h1.tq640.tk256.d32/default/normal",
        where=" where rows of scores have one length",
    ),
    growth_clause(
        "attention.complexity.traffic-of-one-query",
        "traffic",
        Growth(1, ("tk",), POWERS_OF_TWO),
        at="b1.h1.tq1.tk1024.d32/default/normal",
        where=" where there is one query",
    ),
)

spec = Spec(
    name="attention.fused",
    title="Fused attention",
    source="Vaswani et al. 2017, eq. 1, with its softmax fused into P V",
    call=Call(
        "q: b h tq d, k: b h tk d, v: b h tk dv",
        outputs="out: b h tq dv, lse: b h tq float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=fused,
    accuracy=SOFTMAX,
    domain=replace(
        attention_domain(lambda h: f"h{h}", {"h": (1, 4)}, OPTIONS), smoke=SMOKE, core=CORE, full=()
    ),
    costs=FUSED,
    clauses=(
        *smoke_alone(attention_clauses("h2", OPTIONS)),
        *GROWTH,
        *gradient_clauses("h2", OPTIONS),
    ),
    mutants=(*attention_mutants(OPTIONS), *ROW_MUTANTS),
    backward=attention_backward(OPTIONS, without=ONE_TO_ONE),
)
