"""The domain of LSH attention: sizes, options and accuracy cases."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.contracts.lsh.families import FAMILIES
from kernelproof.spec.domain import Domain, Scalar


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if family == "captured":
        check_captured(x, x["t"])
    if min(x["d"], x["dv"], x["rounds"], x["half"]) == 0:
        raise ValueError("d, dv, rounds and half are at least 1")
    if family == "pairs" and (
        x["t"] % 2 or x["b"] * x["h"] * x["t"] > x["d"] or 2 * x["dv"] < x["t"]
    ):
        raise ValueError(
            "family pairs: wanted an even t, d from b h t on, and dv from t / 2 on: each pair has "
            "two coordinates and a value of its own"
        )


DOMAIN = Domain(
    sizes={
        "b": (1, 2),
        "h": (1, 3),
        "t": (1, 200),
        "d": (8, 128),
        "dv": (8, 128),
        "rounds": (1, 10),
        "half": (1, 80),
    },
    families=FAMILIES,
    options={"causal": ("top-left", "bottom-right"), "duplicates": ("once", "counted")},
    cuttable=False,  # hashes are told apart by a margin that a cut would undo
    smoke=(
        "b2.h1.t64.d32.rounds2.half4/default/normal",
        "b1.h2.t100.d64.dv40.rounds3.half5/causal-top-left/large-logit",
        "b1.h2.t96.d32.rounds2.half4/duplicates-counted/clustered",
        "b1.h2.t80.d64.rounds2.half2/default/heavy-tailed",
        "b2.h1.t60.d32.rounds2.half3/default/repeated",
        "b1.h1.t512.d16.rounds1.half2/default/positive-value",
        "b1.h1.t512.d16.rounds1.half1/default/stagnant",
        "b1.h1.t60.d32.rounds2.half3/default/value-offset",
        "b1.h1.t60.d32.rounds2.half3/default/tiny-value",
        "b1.h2.t128.d32.rounds2.half8/default/captured",
    ),
    core=(
        *(
            f"b1.h2.t150.d64.rounds3.half5/default/{f}"
            for f in ("normal", "heavy-tailed", "large-logit", "clustered")
        ),
        "b1.h1.t128.d64.rounds8.half8/duplicates-counted/normal",
        "b1.h4.t200.d32.rounds2.half8/causal-top-left/captured",
        "b2.h2.t70.d80.dv24.rounds3.half3/causal-bottom-right+duplicates-counted/large-logit",
    ),
    full=("b1.h2.t1024.d64.rounds4.half16/default/clustered",),
    constrain=_constrain,
)
