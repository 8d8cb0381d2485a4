"""Scaled dot-product attention: softmax(scale q kᵀ + mask) v, with S and P materialised."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product
from kernelproof.spec.contracts.attention.bound import softmax_bound
from kernelproof.spec.contracts.attention.clauses import attention_clauses
from kernelproof.spec.contracts.attention.families import FAMILIES, KEEPS, MASKS
from kernelproof.spec.contracts.attention.mutants import ATTENTION_MUTANTS
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Clause, Costs, Spec


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if family == "captured":
        check_captured(x, max(x["tq"], x["tk"]))
    if family == "masked-huge" and "mask" not in options:
        raise ValueError("family masked-huge: wanted an option mask, as in mask-padding")
    if x["d"] == 0 or x["dv"] == 0:
        raise ValueError("head sizes d and dv are at least 1")


spec = Spec(
    name="attention.scaled_dot_product",
    title="Scaled dot-product attention",
    source="Vaswani et al. 2017, eq. 1",
    call=Call(
        "q: b h tq d, k: b h tk d, v: b h tk dv",
        outputs="out: b h tq dv, lse: b h tq float32",
        options="mask, causal, scale, keep",
        axis_defaults={"dv": "d"},
    ),
    reference=scaled_dot_product,
    accuracy=softmax_bound,
    domain=Domain(
        sizes={
            "b": (1, 2),
            "h": (1, 4),
            "tq": (1, 160),
            "tk": (1, 320),
            "d": (8, 128),
            "dv": (8, 128),
        },
        families=FAMILIES,
        options={
            "causal": ("top-left", "bottom-right"),
            "scale": (0.0, 1.0, -0.3, 0.05),
            "mask": MASKS,
            "keep": KEEPS,
        },
        smoke=(
            "b2.h2.tq64.tk64.d64/default/normal",
            "b1.h2.tq33.tk129.d32/causal-bottom-right/normal",
            "b1.h3.tq100.tk100.d64/causal-top-left/large-logit",
            "b1.h2.tq1.tk257.d64/default/heavy-tailed",
            "b2.h2.tq65.tk64.d128/mask-random/normal",
            "b1.h2.tq47.tk200.d64/default/rising",
            "b1.h2.tq40.tk100.d32/default/plateau",
            "b1.h2.tq40.tk100.d32/default/value-offset",
            "b1.h2.tq40.tk100.d32/default/one-hot",
            "b1.h2.tq33.tk50.d32/keep-0.5/normal",
            "b1.h4.tq128.tk128.d32/default/captured",
            "b1.h2.tq64.tk256.d64/causal-bottom-right/captured",
        ),
        core=(
            *(
                f"b1.h2.tq128.tk333.d64/default/{f}"
                for f in (
                    "normal",
                    "heavy-tailed",
                    "large-logit",
                    "huge",
                    "uniform",
                    "zero-query",
                    "unit-value",
                    "cancelling",
                    "rising",
                    "plateau",
                    "sink",
                    "one-hot",
                )
            ),
            *(
                f"b1.h2.tq96.tk160.d{d}/causal-{c}/normal"
                for d in (16, 80, 128)
                for c in ("top-left", "bottom-right")
            ),
            "b2.h2.tq64.tk64.d64/mask-random+keep-0.1/normal",
            "b3.h8.tq20.tk24.d16/default/normal",
            "b1.h1.tq4.tk2048.d16/default/faint",
            "b2.h4.tq140.tk600.d96/causal-bottom-right+mask-left-padding/normal",
            "b2.h4.tq150.tk300.d64/mask-per-head+keep-0.5/normal",
            "b2.h2.tq20.tk30.d22.dv41/causal-top-left+keep-0.1/normal",
            "b1.h1.tq512.tk512.d64/causal-bottom-right/normal",
            "b1.h1.tq256.tk1024.d64/default/normal",
            "b1.h4.tq256.tk256.d32/causal-bottom-right/captured",
            "b1.h2.tq256.tk256.d64/mask-padding/captured",
        ),
        full=(
            "b1.h1.tq2048.tk2048.d64/causal-bottom-right/normal",
            "b2.h4.tq512.tk1024.d128/default/heavy-tailed",
            "b4.h4.tq128.tk128.d64/causal-top-left+mask-random/large-logit",
        ),
        constrain=_constrain,
    ),
    costs=Costs(
        # S = q k^T and P V, dense: a mask hides scores, it saves no work here
        flops=lambda x: 2 * x.b * x.h * x.tq * x.tk * (x.d + x.dv),
        exps=lambda x: x.b * x.h * x.tq * x.tk,
        compulsory=lambda x: x.b * x.h * (x.tq + x.tk) * (x.d + x.dv),
        # S and P are each written and read once (FlashAttention, Alg. 0)
        traffic=lambda x: x.b * x.h * ((x.tq + x.tk) * (x.d + x.dv) + 4 * x.tq * x.tk),
        memory=lambda x: 2 * x.b * x.h * x.tq * x.tk,
    ),
    clauses=(
        *attention_clauses("h2"),
        Clause(
            "attention.dropout",
            "keep = (mask, rate): weights are zeroed where mask is False and divided by 1 - rate "
            "elsewhere, after the softmax; lse does not change.",
            "semantics",
            smoke=("b2.h2.tq17.tk33.d32/keep-0.1/normal",),
            core=(
                "b1.h2.tq64.tk64.d64/keep-0.5/unit-value",
                "b2.h2.tq33.tk40.d32/causal-bottom-right+keep-0.5/normal",
                "b2.h2.tq33.tk40.d32/scale-0.3+keep-0.5/normal",
                "b2.h2.tq33.tk40.d32/causal-top-left+scale-0.3+mask-random+keep-0.1/normal",
            ),
        ),
    ),
    mutants=ATTENTION_MUTANTS,
)
