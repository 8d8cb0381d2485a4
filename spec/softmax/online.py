"""Online softmax: maximum and sum in one pass over each row, scaling in a second."""

from __future__ import annotations

from kernelproof.reference.softmax.online import online
from kernelproof.spec.contracts.softmax import costs
from kernelproof.spec.contracts.softmax.cases import DOMAIN
from kernelproof.spec.contracts.softmax.clauses import ONLINE_CLAUSES
from kernelproof.spec.contracts.softmax.mutants import ONLINE_MUTANTS
from kernelproof.spec.contracts.softmax.spread import ONLINE
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="softmax.online",
    title="Online softmax",
    source="Milakov & Gimelshein 2018, Alg. 3",
    call=Call("x: r n", outputs="out: r n, lse: r float32"),
    reference=online,
    accuracy=ONLINE,
    domain=DOMAIN,
    costs=costs.ONLINE,
    clauses=ONLINE_CLAUSES,
    mutants=ONLINE_MUTANTS,
)
