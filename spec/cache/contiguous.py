"""A contiguous key/value cache: incremental decoding of one token at a time."""

from __future__ import annotations

from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.cache.clauses import cache_clauses, cache_costs
from kernelproof.spec.contracts.cache.costs import APPEND, ATTEND
from kernelproof.spec.contracts.cache.mutants import CACHE_MUTANTS
from kernelproof.spec.contracts.cache.programs import cache_domain, cache_program
from kernelproof.spec.language import Clause, Spec

program = cache_program("capacity", refusal="the tokens do not fit the capacity")

spec = Spec(
    name="cache.contiguous",
    title="Contiguous key/value cache",
    source="incremental decoding; Shazeer 2019, section 2.3",
    call=program,
    reference=Contiguous,
    accuracy=SOFTMAX,
    domain=cache_domain(
        program,
        smoke=(
            "b2.hq4.hkv2.d64.capacity64/steps-append5.attend.decode7/normal",
            "b1.hq1.hkv1.d32.capacity40/steps-append33.attend.append7.attend/large-logit",
            "b1.hq2.hkv2.d32.capacity130/steps-append127.decode3/heavy-tailed",
            "b1.hq1.hkv1.d16.capacity4500/steps-append4500.attend/stagnant",
            "b1.hq2.hkv2.d64.capacity256/steps-append200.decode4/captured",
        ),
        core=(
            *(
                f"b2.hq4.hkv2.d64.capacity300/steps-append256.decode8/{family}"
                for family in ("normal", "heavy-tailed", "large-logit", "rising", "sink", "one-hot")
            ),
            "b1.hq8.hkv4.d32.capacity256/steps-append128.decode16/captured",
        ),
        timed=("b2.hq8.hkv2.d64.capacity1040/steps-append1024.decode16/normal",),
        full=("b1.hq4.hkv2.d128.capacity1100/steps-append1000.decode64/normal",),
    ),
    costs=ATTEND,
    updates={"append": APPEND},
    clauses=(
        *cache_clauses("capacity"),
        Clause(
            "cache.full",
            "A cache filled to its capacity is right, to the last slot.",
            "semantics",
            smoke=("b2.hq4.hkv2.d32.capacity33/steps-append32.decode1/normal",),
            core=("b1.hq1.hkv1.d16.capacity1/steps-decode1/normal",),
        ),
        Clause(
            "cache.overflow",
            "An append beyond the capacity raises an exception and leaves the cache as it was.",
            "semantics",
            smoke=(
                "b2.hq4.hkv2.d32.capacity8/"
                "steps-append6.append3.attend.append2.attend.append1.attend/normal",
                "b1.hq2.hkv1.d32.capacity4/steps-append5.attend/normal",
            ),
            core=("b1.hq2.hkv2.d64.capacity16/steps-append16.append1.decode1.attend/normal",),
        ),
        *cache_costs("capacity"),
    ),
    mutants=CACHE_MUTANTS,
)
