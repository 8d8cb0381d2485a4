"""Linformer: attention over r mixtures of keys and of values, in time that is linear in t."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.approximate.linformer import linformer
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.contracts.linformer.bound import PROJECTED
from kernelproof.spec.contracts.linformer.clauses import LINFORMER_CLAUSES
from kernelproof.spec.contracts.linformer.costs import LINFORMER_COSTS
from kernelproof.spec.contracts.linformer.families import FAMILIES
from kernelproof.spec.contracts.linformer.mutants import LINFORMER_MUTANTS
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if min(x["d"], x["t"], x["r"]) < 1:
        raise ValueError(f"t{x['t']}.d{x['d']}.r{x['r']}: wanted at least one of each")
    if family == "captured":
        check_captured(x, x["t"])


spec = Spec(
    name="approximate.linformer",
    title="Linformer",
    source="Wang et al. 2020, eq. 7",
    call=Call(
        "q: b h t d, k: b h t d, v: b h t dv, proj_k: r t, proj_v: r t",
        outputs="out: b h t dv",
        options="scale",
        axis_defaults={"dv": "d"},
    ),
    reference=linformer,
    accuracy=PROJECTED,
    domain=Domain(
        sizes={
            "b": (1, 3),
            "h": (1, 5),
            "t": (1, 160),
            "d": (8, 96),
            "dv": (8, 96),
            "r": (1, 130),
        },
        families=FAMILIES,
        options={"scale": (0.0, 1.0, -0.3, 0.05)},
        smoke=(
            "b2.h2.t64.d32.r16/default/normal",
            "b1.h2.t150.d64.dv32.r40/default/large-logit",
            "b1.h2.t100.d32.r24/default/value-offset",
            "b1.h2.t90.d32.r16/default/pooling",
            "b1.h4.t128.d32.r32/default/captured",
        ),
        core=("b1.h2.t300.d64.r64/default/normal", "b1.h2.t256.d64.r100/default/captured"),
        constrain=_check,
        coherent=lambda options: True,  # judged by the worst case alone
    ),
    costs=LINFORMER_COSTS,
    clauses=LINFORMER_CLAUSES,
    mutants=LINFORMER_MUTANTS,
)
