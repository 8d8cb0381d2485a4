"""Uptraining: the key and value heads of a group become one, their mean."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.attention.uptrain import uptrain
from kernelproof.spec.contracts.captured import HEAD_SIZE, HEADS, WIDTH
from kernelproof.spec.contracts.uptrain.bound import POOLED
from kernelproof.spec.contracts.uptrain.clauses import UPTRAIN_CLAUSES
from kernelproof.spec.contracts.uptrain.costs import UPTRAIN_COSTS
from kernelproof.spec.contracts.uptrain.families import FAMILIES
from kernelproof.spec.contracts.uptrain.mutants import UPTRAIN_MUTANTS
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if min(x["hq"], x["hkv"]) < 1 or x["hq"] % x["hkv"]:
        raise ValueError(f"hq{x['hq']}.hkv{x['hkv']}: wanted groups that divide the heads")
    captured = x["hq"] <= HEADS and x["d"] == HEAD_SIZE and x["e"] <= WIDTH
    if family.startswith("captured") and not captured:
        raise ValueError(f"family {family}: wanted at most hq{HEADS}, d{HEAD_SIZE}, e{WIDTH}")


spec = Spec(
    name="attention.uptrain",
    title="Uptraining: mean-pooled key and value heads",
    source="Ainslie et al. 2023, section 2.1",
    call=Call("w: e hq*d", outputs="out: e hkv*d", given={"heads": "hq", "kv_heads": "hkv"}),
    reference=uptrain,
    accuracy=POOLED,
    domain=Domain(
        sizes={"hq": (1, 24), "hkv": (1, 8), "d": (1, 80), "e": (1, 200)},
        families=FAMILIES,
        options={},
        smoke=(
            "hq8.hkv2.d16.e48/default/normal",
            "hq9.hkv3.d20.e33/default/cancelling",
            "hq64.hkv1.d8.e24/default/normal",
            "hq4.hkv1.d32.e384/default/captured-k",
            "hq4.hkv2.d32.e384/default/captured-v",
        ),
        core=("hq64.hkv1.d16.e40/default/cancelling", "hq32.hkv8.d128.e256/default/normal"),
        constrain=_check,
        coherent=lambda options: True,  # judged by the worst case alone
    ),
    costs=UPTRAIN_COSTS,
    clauses=UPTRAIN_CLAUSES,
    mutants=UPTRAIN_MUTANTS,
)
