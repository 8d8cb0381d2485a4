"""Orthogonal random features: Gaussian rows, made orthogonal block by block."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.approximate.features import features
from kernelproof.spec.contracts.features.bound import ORTHOGONAL
from kernelproof.spec.contracts.features.clauses import FEATURES_CLAUSES
from kernelproof.spec.contracts.features.costs import FEATURES_COSTS
from kernelproof.spec.contracts.features.families import FAMILIES
from kernelproof.spec.contracts.features.mutants import FEATURES_MUTANTS
from kernelproof.spec.domain import REPEATING, Domain, Scalar
from kernelproof.spec.language import Call, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if x["d"] < 1:
        raise ValueError("features have at least one coordinate: d is 0")


spec = Spec(
    name="approximate.features",
    title="Orthogonal random features",
    source="Choromanski et al. 2021, section 2.4; bound: Higham 2002, section 19.3",
    call=Call("gaussians: r d, norms: r", outputs="features: r d"),
    reference=features,
    accuracy=ORTHOGONAL,
    domain=Domain(
        sizes={"r": (1, 130), "d": (1, 64)},
        families=FAMILIES,
        options={},
        smoke=(
            "d16.r40/default/normal",
            "d32.r32/default/equal-norms",
            "d64.r20/default/normal",
            "d6.r27/default/ill-conditioned",
        ),
        core=("d64.r130/default/normal", "d128.r128/default/equal-norms"),
        constrain=_check,
        coherent=lambda options: True,  # judged by the worst case alone
        # of equal rows nothing is orthogonal
        layouts=tuple(layout for layout in Domain.layouts if layout not in REPEATING),
    ),
    costs=FEATURES_COSTS,
    clauses=FEATURES_CLAUSES,
    mutants=FEATURES_MUTANTS,
)
