"""Flash-Decoding: one query per sequence; the keys are split, partial results merged by lse."""

from __future__ import annotations

from kernelproof.reference.attention.flash_decoding import flash_decoding
from kernelproof.spec.contracts.attention.mutants import (
    GROUP_MUTANTS,
    TILE_MUTANTS,
    attention_mutants,
)
from kernelproof.spec.contracts.decoding.bound import MERGED_SOFTMAX
from kernelproof.spec.contracts.decoding.cases import DECODING
from kernelproof.spec.contracts.decoding.clauses import DECODING_CLAUSES
from kernelproof.spec.contracts.decoding.costs import DECODING as COSTS
from kernelproof.spec.contracts.decoding.mutants import DECODING_MUTANTS
from kernelproof.spec.language import Call, Spec

OPTIONS = "lengths, splits, scale"

spec = Spec(
    name="attention.flash_decoding",
    title="Flash-Decoding",
    source="Dao, Haziza, Massa & Sizov 2023",
    call=Call(
        "q: b hq 1 d, k: b hkv tk d, v: b hkv tk dv",
        outputs="out: b hq 1 dv, lse: b hq 1 float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=flash_decoding,
    accuracy=MERGED_SOFTMAX,
    domain=DECODING,
    costs=COSTS,
    clauses=DECODING_CLAUSES,
    mutants=(
        # one query over one key copies its value, and is right; padding goes by the lengths
        *attention_mutants(OPTIONS, without=("copy-of-values", "padding-counted")),
        *GROUP_MUTANTS,
        *TILE_MUTANTS,
        *DECODING_MUTANTS,
    ),
)
