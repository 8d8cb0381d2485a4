"""Grouped-query attention: the g = hq / hkv query heads of a group share one key/value head."""

from __future__ import annotations

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.clauses import GROUPS, attention_clauses
from kernelproof.spec.contracts.attention.costs import group, shared_costs
from kernelproof.spec.contracts.attention.mutants import GROUP_MUTANTS, attention_mutants
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.gradients.backward import (
    GRADIENTS_OF_GROUPS,
    attention_backward,
    gradient_clauses,
)
from kernelproof.spec.language import Call, Spec

OPTIONS = "mask, causal, scale"

spec = Spec(
    name="attention.grouped_query",
    title="Grouped-query attention",
    source="Ainslie et al. 2023, section 2.2",
    call=Call(
        "q: b hq tq d, k: b hkv tk d, v: b hkv tk dv",
        outputs="out: b hq tq dv, lse: b hq tq float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=grouped_query,
    accuracy=SOFTMAX,
    domain=attention_domain(lambda h: f"hq{2 * h}.hkv{h}", {"hq": (1, 8), "hkv": (1, 4)}, OPTIONS),
    # the heads of a group share a program: no key is read once per head
    costs=shared_costs(group),
    clauses=(
        *attention_clauses("hq6.hkv2", OPTIONS),
        GROUPS,
        *gradient_clauses("hq6.hkv2", OPTIONS),
        GRADIENTS_OF_GROUPS,
    ),
    mutants=(*attention_mutants(OPTIONS), *GROUP_MUTANTS),
    backward=attention_backward(OPTIONS),
)
