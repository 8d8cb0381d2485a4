"""Safe softmax: maximum, sum and scaling in three passes over each row."""

from __future__ import annotations

from kernelproof.reference.softmax.safe import safe
from kernelproof.spec.contracts.softmax import costs
from kernelproof.spec.contracts.softmax.cases import DOMAIN
from kernelproof.spec.contracts.softmax.clauses import SAFE_CLAUSES
from kernelproof.spec.contracts.softmax.mutants import SAFE_MUTANTS
from kernelproof.spec.contracts.softmax.spread import SAFE
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="softmax.safe",
    title="Safe softmax",
    source="Milakov & Gimelshein 2018, Alg. 2; bound: Blanchard, Higham & Higham 2021",
    call=Call("x: r n", outputs="out: r n"),
    reference=safe,
    accuracy=SAFE,
    domain=DOMAIN,
    costs=costs.SAFE,
    clauses=SAFE_CLAUSES,
    mutants=SAFE_MUTANTS,
)
