"""Performer: attention through random features, in time and memory that are linear in t."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.approximate.performer import performer
from kernelproof.spec.contracts.performer.bound import FEATURE_ATTENTION
from kernelproof.spec.contracts.performer.clauses import PERFORMER_CLAUSES
from kernelproof.spec.contracts.performer.costs import PERFORMER_COSTS
from kernelproof.spec.contracts.performer.families import FAMILIES
from kernelproof.spec.contracts.performer.mutants import PERFORMER_MUTANTS
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if min(x["d"], x["r"]) < 1:
        raise ValueError(f"d{x['d']}.r{x['r']}: wanted at least one coordinate and one feature")
    if options.get("kind") == "trig" and family != "small":
        # weights of either sign: where they cancel, no bound holds
        raise ValueError(f"kind-trig with family {family}: wanted small, whose weights are near 1")


spec = Spec(
    name="approximate.performer",
    title="Performer (FAVOR+)",
    source="Choromanski et al. 2021, section 2 and lemma 1",
    call=Call(
        "q: b h t d, k: b h t d, v: b h t dv, features: r d",
        outputs="out: b h t dv",
        options="kind, causal",
        axis_defaults={"dv": "d"},
    ),
    reference=performer,
    accuracy=FEATURE_ATTENTION,
    domain=Domain(
        sizes={"b": (1, 2), "h": (1, 3), "t": (1, 140), "d": (4, 64), "dv": (4, 64), "r": (4, 150)},
        families=FAMILIES,
        options={
            "kind": ("positive", "hyperbolic", "trig", "relu"),
            "causal": ("top-left",),  # as many queries as keys: both corners are the same
        },
        smoke=(
            "b2.h2.t64.d32.r64/default/normal",
            "b1.h2.t70.d32.dv24.r40/causal-top-left/normal",
            "b1.h1.t140.d32.r48/default/value-offset",
            "b1.h2.t130.d16.r24/kind-hyperbolic+causal-top-left/large",
            "b1.h1.t130.d16.r80/causal-top-left/growing",
            "b1.h2.t64.d16.r64/kind-trig/small",
            "b1.h2.t64.d16.r64/kind-relu/normal",
        ),
        core=(
            "b1.h1.t200.d64.r96/default/normal",
            "b1.h1.t200.d64.r64/kind-trig+causal-top-left/small",
        ),
        constrain=_check,
        coherent=lambda options: True,  # judged by the worst case alone
    ),
    costs=PERFORMER_COSTS,
    clauses=PERFORMER_CLAUSES,
    mutants=PERFORMER_MUTANTS,
)
