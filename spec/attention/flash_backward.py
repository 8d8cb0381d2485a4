"""FlashAttention's backward pass: gradients by recomputation, without P or S in memory."""

from __future__ import annotations

from kernelproof.reference.attention.flash import flash
from kernelproof.reference.attention.flash_backward import flash_backward
from kernelproof.spec.contracts.gradients.backward import backward_mutants
from kernelproof.spec.contracts.gradients.cases import gradient_domain
from kernelproof.spec.contracts.gradients.clauses import backward_clauses
from kernelproof.spec.contracts.gradients.costs import BACKWARD
from kernelproof.spec.contracts.gradients.spread import GRADIENTS
from kernelproof.spec.language import Call, Earlier, Spec

OPTIONS = "causal, scale"

spec = Spec(
    name="attention.flash_backward",
    title="FlashAttention, backward",
    source="Dao et al. 2022, Alg. 4; Dao 2023, Alg. 2",
    call=Call(
        "q: b hq tq d, k: b hkv tk d, v: b hkv tk dv, out: b hq tq dv, lse: b hq tq float32, "
        "d_out: b hq tq dv",
        outputs="dq: b hq tq d, dk: b hkv tk d, dv: b hkv tk dv",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    earlier=Earlier(flash, given=("q", "k", "v"), left=("out", "lse")),
    reference=flash_backward,
    accuracy=GRADIENTS,
    domain=gradient_domain(OPTIONS),
    costs=BACKWARD,
    clauses=backward_clauses("hq4.hkv2"),
    mutants=backward_mutants(OPTIONS),
)
