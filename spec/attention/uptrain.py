"""Uptraining: the key and value heads of a group become one, their mean."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.attention.uptrain import uptrain
from kernelproof.spec.contracts.captured import HEAD_SIZE, HEADS, WIDTH
from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.uptrain.bound import POOLED
from kernelproof.spec.contracts.uptrain.costs import UPTRAIN_COSTS
from kernelproof.spec.contracts.uptrain.families import FAMILIES
from kernelproof.spec.contracts.uptrain.mutants import UPTRAIN_MUTANTS
from kernelproof.spec.contracts.uptrain.properties import UPTRAIN_PROPERTIES
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Clause, Growth, Spec


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
    clauses=(
        Clause(
            "attention.accuracy",
            "out is the mean of the heads of each group, off by no more than gamma_(g + 1) of the "
            "mean of their magnitudes and the declared roundings, in every element.",
            "accuracy",
        ),
        Clause(
            "attention.groups",
            "Head h belongs to group h // g with g = hq / hkv, for any number of groups.",
            "semantics",
            smoke=("hq6.hkv3.d16.e24/default/normal", "hq12.hkv2.d7.e5/default/normal"),
            core=("hq7.hkv1.d3.e9/default/normal", "hq20.hkv4.d33.e1/default/normal"),
        ),
        Clause(
            "attention.uptrain.one-each",
            "With as many key heads as heads every weight stays as it is.",
            "semantics",
            smoke=("hq4.hkv4.d16.e24/default/normal",),
            core=("hq1.hkv1.d16.e24/default/normal",),
            exact=True,
        ),
        Clause(
            "attention.uptrain.two-identical",
            "Two heads that are the same pool to themselves, exactly.",
            "semantics",
            smoke=("hq8.hkv4.d16.e24/default/identical",),
            exact=True,
        ),
        Clause(
            "attention.uptrain.identical",
            "A power of two of 16-bit heads that are the same pool to themselves, exactly: their "
            "sum fits float32.",
            "semantics",
            smoke=("hq16.hkv2.d16.e24/default/identical",),
            exact=True,
            dtypes=("float16", "bfloat16"),
        ),
        Clause(
            "attention.shape.empty",
            "Heads of size 0, or a width of 0, give an empty tensor.",
            "semantics",
            smoke=("hq4.hkv2.d16.e0/default/normal",),
            core=("hq4.hkv2.d0.e9/default/normal",),
        ),
        Clause(
            "attention.layout",
            "Weights may be transposed, sliced, expanded or at an offset in a larger storage.",
            "integrity",
            smoke=tuple(
                f"hq6.hkv2.d16.e24/default/normal/{layout}"
                for layout in ("transposed", "sliced", "offset", "expanded")
            ),
        ),
        Clause(
            "attention.deterministic",
            "The same call twice gives equal bits, unless the implementation declares atomics.",
            "integrity",
            smoke=("hq12.hkv2.d16.e65/default/normal",),
            repeat=True,
        ),
        *UPTRAIN_PROPERTIES,
        *cost_clauses(
            "attention",
            *("traffic", "footprint", "operations", "memory"),
            # large enough for a copy of the weights to stand out from any workspace
            smoke=("hq8.hkv2.d64.e600/default/normal", "hq6.hkv6.d20.e33/default/normal"),
            core=("hq32.hkv1.d16.e100/default/normal",),
        ),
        growth_clause(
            "attention.complexity.traffic",
            "traffic",
            Growth(1, ("e",), sizes=(32, 64, 128, 256, 512)),
            at="hq8.hkv2.d16.e512/default/normal",
        ),
    ),
    mutants=UPTRAIN_MUTANTS,
)
