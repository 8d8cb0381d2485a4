"""FlashAttention: tiles of keys with an online softmax; neither S nor P is ever stored."""

from __future__ import annotations

from kernelproof.reference.attention.flash import flash
from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.clauses import GROUPS, WIDTH, attention_clauses
from kernelproof.spec.contracts.attention.costs import tiled_costs
from kernelproof.spec.contracts.attention.mutants import (
    GROUP_MUTANTS,
    TILE_MUTANTS,
    attention_mutants,
)
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.gradients.backward import (
    GRADIENTS_OF_GROUPS,
    attention_backward,
    gradient_clauses,
)
from kernelproof.spec.language import Call, Spec

OPTIONS = "causal, scale"

spec = Spec(
    name="attention.flash",
    title="FlashAttention, forward",
    source="Dao et al. 2022, Alg. 1; Dao 2023, Alg. 1",
    call=Call(
        "q: b hq tq d, k: b hkv tk d, v: b hkv tk dv",
        outputs="out: b hq tq dv, lse: b hq tq float32",
        options=OPTIONS,
        axis_defaults={"dv": "d"},
    ),
    reference=flash,
    accuracy=SOFTMAX,
    domain=attention_domain(
        lambda h: f"hq{2 * h}.hkv{h}" if h % 2 else f"hq{h}.hkv{h}",
        {"hq": (1, 8), "hkv": (1, 4)},
        OPTIONS,
    ),
    costs=tiled_costs(lambda x: x.tile("pack", 1)),
    clauses=(
        *attention_clauses("hq4.hkv2", OPTIONS),
        GROUPS,
        WIDTH,
        *gradient_clauses("hq4.hkv2", OPTIONS),
        GRADIENTS_OF_GROUPS,
    ),
    mutants=(*attention_mutants(OPTIONS), *GROUP_MUTANTS, *TILE_MUTANTS),
    backward=attention_backward(OPTIONS),
)
