"""Scaled dot-product attention: softmax(scale q kᵀ + mask) v, with S and P materialised."""

from __future__ import annotations

from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product
from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.clauses import DROPOUT, attention_clauses
from kernelproof.spec.contracts.attention.costs import STANDARD
from kernelproof.spec.contracts.attention.mutants import attention_mutants
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.gradients.backward import (
    ONE_TO_ONE,
    attention_backward,
    gradient_clauses,
)
from kernelproof.spec.language import Call, Spec

OPTIONS = "mask, causal, scale, keep"

spec = Spec(
    name="attention.scaled_dot_product",
    title="Scaled dot-product attention",
    source="Vaswani et al. 2017, eq. 1",
    call=Call(
        "q: b h tq d, k: b h tk d, v: b h tk dv",
        outputs="out: b h tq dv, lse: b h tq float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=scaled_dot_product,
    accuracy=SOFTMAX,
    domain=attention_domain(lambda h: f"h{h}", {"h": (1, 4)}, OPTIONS),
    costs=STANDARD,
    clauses=(*attention_clauses("h2"), DROPOUT, *gradient_clauses("h2", OPTIONS)),
    mutants=attention_mutants(OPTIONS),
    backward=attention_backward(OPTIONS, without=ONE_TO_ONE),
)
