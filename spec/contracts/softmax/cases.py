"""Accuracy cases that all softmax algorithms share."""

from __future__ import annotations

from kernelproof.spec.contracts.softmax.families import FAMILIES, check_family
from kernelproof.spec.domain import Domain

DOMAIN = Domain(
    sizes={"r": (1, 48), "n": (1, 2400)},
    families=FAMILIES,
    options={},
    smoke=(
        "r64.n64/default/normal",
        "r256.n256/default/uniform",
        "r40.n1000/default/normal",
        "r9.n200/default/levels",
        "r33.n60/default/levels",
        "r33.n300/default/large-logit",
        "r17.n257/default/heavy-tailed",
        "r24.n1500/default/rising",
        "r9.n100/default/plateau",
        "r8.n1500/default/stagnant",
        "r20.n130/default/one-hot",
        "r32.n200/default/padded",
        "r128.n200/default/captured",
    ),
    timed=("r2048.n1024/default/normal",),
    core=(
        *(
            f"r48.n333/default/{family}"
            for family in (
                *("normal", "uniform", "heavy-tailed", "large-logit", "huge", "rising"),
                *("plateau", "one-hot", "levels", "padded"),
            )
        ),
        "r256.n256/default/captured",
        "r1000.n40/default/normal",
        "r1500.n7/default/normal",
        "r7.n5000/default/normal",
        "r4.n8300/default/normal",
        "r3.n8300/default/stagnant",
        "r16.n2048/default/heavy-tailed",
    ),
    full=("r64.n30000/default/normal", "r4096.n256/default/large-logit"),
    constrain=check_family,
)
