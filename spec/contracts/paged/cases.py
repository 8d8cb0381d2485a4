"""Cases of paged attention: lengths of sequences, tables, sizes of pages, numbers of splits."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.spec.contracts.attention.cases import OPTIONS, check_point
from kernelproof.spec.contracts.paged.families import LENGTHS, PAGED, TABLES, pages_wanted
from kernelproof.spec.domain import LAYOUTS, Domain, Scalar

SMOKE = (
    "b3.hq8.hkv2.d64.pages40.page16.n13/lengths-ragged+tables-shared+splits-2/normal",
    "b1.hq4.hkv2.d64.pages30.page16.n17/lengths-ragged/normal",
    "b2.hq6.hkv3.d80.pages9.page64.n3/lengths-ragged+splits-3/heavy-tailed",
    "b4.hq4.hkv2.d32.pages24.page16.n5/lengths-some-empty+splits-8/large-logit",
    "b1.hq16.hkv2.d64.pages20.page16.n13/splits-8/rising",
    "b1.hq16.hkv1.d16.pages40.page128.n36/splits-3/stagnant",
    "b1.hq4.hkv2.d32.pages9.page16.n7/splits-2/plateau",
    "b2.hq32.hkv2.d64.pages18.page64.n8/splits-2/positive-value",
    "b1.hq4.hkv2.d32.pages9.page16.n7/splits-2/value-offset",
    "b1.hq4.hkv2.d32.pages9.page16.n7/splits-2/tiny-value",
    "b1.hq4.hkv2.d32.pages9.page16.n7/splits-2/one-hot",
    "b1.hq4.hkv2.d64.pages20.page16.n16/splits-3/captured",
)

CORE = (
    *(
        f"b2.hq4.hkv2.d64.pages30.page32.n5/lengths-ragged+tables-shared+splits-2/{family}"
        for family in (
            *("normal", "heavy-tailed", "large-logit", "huge", "uniform", "zero-query"),
            *("unit-value", "cancelling", "sink"),
        )
    ),
    "b1.hq4.hkv1.d16.pages20.page128.n16/splits-8/faint",
    "b4.hq16.hkv1.d128.pages90.page16.n19/lengths-ragged+splits-2/normal",
    "b3.hq8.hkv4.d32.pages40.page32.n8/lengths-ragged+tables-shared+splits-3/captured",
)

FULL = (
    "b1.hq8.hkv1.d128.pages1300.page16.n1250/splits-64/normal",
    "b4.hq32.hkv8.d128.pages600.page16.n128/lengths-ragged/heavy-tailed",
)


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    check_point({**x, "tq": 1, "tk": x["n"] * x["page"], "dv": x["d"]}, options, family)
    if x["page"] < 1:
        raise ValueError("page0: a page has at least 1 slot")
    wanted = pages_wanted(str(options.get("tables", "permuted")), x["b"], x["n"])
    if x["pages"] < wanted:
        many = f"{x['b']} sequences of {x['n']} pages"
        raise ValueError(f"pages{x['pages']}: {many} want a pool of {wanted}")
    if int(options.get("splits", 1)) < 1:
        raise ValueError(f"splits-{options['splits']}: keys are dealt to at least 1 split")


DOMAIN = Domain(
    sizes={
        "b": (1, 4),
        "hq": (1, 8),
        "hkv": (1, 4),
        "d": (8, 128),
        "pages": (1, 40),
        "page": (1, 128),
        "n": (1, 8),
    },
    families=PAGED,
    options={
        "lengths": LENGTHS,
        "tables": tuple(TABLES),
        "splits": (1, 2, 3, 8, 400),
        "scale": OPTIONS["scale"],
    },
    smoke=SMOKE,
    core=CORE,
    full=FULL,
    timed=("b2.hq32.hkv8.d64.pages260.page16.n128/splits-8/normal",),
    constrain=_constrain,
    layouts=tuple(LAYOUTS),
    # nearly equal weights
    coherent=lambda options: abs(float(options.get("scale", 1))) < 0.01,
)
"""The domain of one query per sequence over tokens that lie in pages."""
