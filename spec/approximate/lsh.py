"""LSH attention: tokens attend to those of their bucket, in a few rounds of random rotations."""

from __future__ import annotations

from kernelproof.reference.approximate.lsh import lsh
from kernelproof.spec.contracts.lsh.bound import LSH
from kernelproof.spec.contracts.lsh.cases import DOMAIN
from kernelproof.spec.contracts.lsh.clauses import LSH_CLAUSES
from kernelproof.spec.contracts.lsh.costs import LSH as COSTS
from kernelproof.spec.contracts.lsh.mutants import LSH_MUTANTS
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="approximate.lsh",
    title="LSH attention of the Reformer",
    source="Kitaev, Kaiser & Levskaya 2020, section 2 and appendix A",
    call=Call(
        "qk: b h t d, v: b h t dv, rotations: rounds d half",
        outputs="out: b h t dv, lse: b h t float32",
        options="causal, duplicates",
        axis_defaults={"dv": "d"},
    ),
    reference=lsh,
    accuracy=LSH,
    domain=DOMAIN,
    costs=COSTS,
    clauses=LSH_CLAUSES,
    mutants=LSH_MUTANTS,
)
