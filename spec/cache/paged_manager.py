"""A paged key/value cache: sequences grow by pages of a pool, forks share them until they write."""

from __future__ import annotations

from kernelproof.reference.cache.paged_manager import PagedManager
from kernelproof.spec.contracts.decoding.bound import MERGED_SOFTMAX
from kernelproof.spec.contracts.paged_manager.clauses import CLAUSES
from kernelproof.spec.contracts.paged_manager.costs import ATTEND, UPDATES
from kernelproof.spec.contracts.paged_manager.mutants import PAGED_MUTANTS
from kernelproof.spec.contracts.paged_manager.program import PROGRAM, paged_domain
from kernelproof.spec.language import Spec

spec = Spec(
    name="cache.paged_manager",
    title="Paged key/value cache",
    source="Kwon et al. 2023 (PagedAttention), sections 4.3 to 4.5",
    call=PROGRAM,
    reference=PagedManager,
    accuracy=MERGED_SOFTMAX,  # a kernel may split the keys of a sequence
    domain=paged_domain(
        smoke=(
            "hq8.hkv2.d64.pages9.page16/"
            "steps-allocate@0.append5@0.attend@0.append30@0.fork@0@1.append60@1.attend@0@1/normal",
            "hq1.hkv1.d32.pages6.page8/"
            "steps-allocate@0.append33@0.attend@0.append7@0.attend@0/large-logit",
            "hq8.hkv2.d32.pages9.page16/steps-allocate@0.append127@0.decode3@0/heavy-tailed",
            "hq1.hkv1.d16.pages282.page16/steps-allocate@0.append4500@0.attend@0/stagnant",
            "hq2.hkv2.d64.pages13.page16/steps-allocate@0.append200@0.decode4@0/captured",
        ),
        core=(
            *(
                "hq4.hkv2.d64.pages20.page16/steps-allocate@0.allocate@1.append250@0.append30@1."
                f"attend@0@1.decode3@0/{family}"
                for family in ("normal", "heavy-tailed", "large-logit", "rising")
            ),
            "hq8.hkv4.d32.pages40.page4/steps-allocate@0.append128@0.decode3@0/captured",
        ),
        timed=("hq8.hkv2.d64.pages65.page16/steps-allocate@0.append1024@0.decode16@0/normal",),
        full=("hq4.hkv2.d128.pages70.page16/steps-allocate@0.append1000@0.decode32@0/normal",),
    ),
    costs=ATTEND,
    updates=UPDATES,
    clauses=CLAUSES,
    mutants=PAGED_MUTANTS,
)
