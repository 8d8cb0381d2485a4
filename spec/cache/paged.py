"""Paged attention: one query per sequence; its tokens lie in pages, which a table finds."""

from __future__ import annotations

from kernelproof.reference.cache.paged import paged
from kernelproof.spec.contracts.decoding.bound import MERGED_SOFTMAX
from kernelproof.spec.contracts.paged.cases import DOMAIN
from kernelproof.spec.contracts.paged.clauses import PAGED_CLAUSES
from kernelproof.spec.contracts.paged.costs import PAGED
from kernelproof.spec.contracts.paged.mutants import PAGED_MUTANTS
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="cache.paged",
    title="Paged attention",
    source="Kwon et al. 2023 (PagedAttention); split as by Dao, Haziza, Massa & Sizov 2023",
    call=Call(
        "q: b hq 1 d, k_pages: pages page hkv d, v_pages: pages page hkv d, "
        "page_table: b n int32, lengths: b int32",
        outputs="out: b hq 1 d, lse: b hq 1 float32",
        options="splits, scale",
    ),
    reference=paged,
    accuracy=MERGED_SOFTMAX,
    domain=DOMAIN,
    costs=PAGED,
    clauses=PAGED_CLAUSES,
    mutants=PAGED_MUTANTS,
)
"""What paged attention is: K_j of sequence i is k_pages[page_table[i, j // page], j mod page]."""
