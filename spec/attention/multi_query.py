"""Multi-query attention: all query heads share one key/value head."""

from __future__ import annotations

from kernelproof.reference.attention.multi_query import multi_query
from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.clauses import attention_clauses
from kernelproof.spec.contracts.attention.costs import group, shared_costs
from kernelproof.spec.contracts.attention.mutants import attention_mutants
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.gradients.backward import attention_backward, gradient_clauses
from kernelproof.spec.language import Call, Spec

OPTIONS = "mask, causal, scale"

spec = Spec(
    name="attention.multi_query",
    title="Multi-query attention",
    source="Shazeer 2019, section 3",
    call=Call(
        "q: b hq tq d, k: b 1 tk d, v: b 1 tk dv",
        outputs="out: b hq tq dv, lse: b hq tq float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=multi_query,
    accuracy=SOFTMAX,
    domain=attention_domain(lambda h: f"hq{h + 1}", {"hq": (1, 6)}, OPTIONS),
    costs=shared_costs(group),
    clauses=(*attention_clauses("hq3", OPTIONS), *gradient_clauses("hq3", OPTIONS)),
    # there is one key/value head: no neighbour to mistake it for
    mutants=attention_mutants(OPTIONS, without=("heads-rotated",)),
    backward=attention_backward(OPTIONS, without=("group-modulo",)),
)
