"""Dot-product self-attention: softmax(x xᵀ) x, no scale and no parameters."""

from __future__ import annotations

from kernelproof.reference.attention.dot_product import dot_product
from kernelproof.spec.contracts.dot_product.accuracy import DOT_PRODUCT
from kernelproof.spec.contracts.dot_product.cases import DOMAIN
from kernelproof.spec.contracts.dot_product.clauses import DOT_PRODUCT_CLAUSES
from kernelproof.spec.contracts.dot_product.costs import DOT_PRODUCT as COSTS
from kernelproof.spec.contracts.dot_product.gradients import BACKWARD, GRADIENT_CLAUSES
from kernelproof.spec.contracts.dot_product.mutants import MUTANTS
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="attention.dot_product",
    title="Dot-product self-attention",
    source="Vaswani et al. 2017, eq. 1, of x alone and without a scale",
    call=Call("x: b t d", outputs="out: b t d"),
    reference=dot_product,
    accuracy=DOT_PRODUCT,
    domain=DOMAIN,
    costs=COSTS,
    clauses=(*DOT_PRODUCT_CLAUSES, *GRADIENT_CLAUSES),
    mutants=MUTANTS,
    backward=BACKWARD,
)
