"""Cases of decoding attention: lengths of sequences, numbers of splits, and what lies beyond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.cases import OPTIONS, check_point
from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.domain import Arrays, Domain, Family, Scalar

Array = npt.NDArray[Any]
Sizes = Mapping[str, int]
Rng = np.random.Generator


def _full(rng: Rng, x: Sizes) -> Array:
    return np.full(x["b"], x["tk"], np.int32)


def _ragged(rng: Rng, x: Sizes) -> Array:
    return rng.integers(min(1, x["tk"]), x["tk"] + 1, x["b"], np.int32)


def _some_empty(rng: Rng, x: Sizes) -> Array:
    """Every other sequence, from a random one on, has no key."""
    return _ragged(rng, x) * ((np.arange(x["b"]) + rng.integers(2)) % 2).astype(np.int32)


def _one(rng: Rng, x: Sizes) -> Array:
    return np.full(x["b"], min(1, x["tk"]), np.int32)


def _empty(rng: Rng, x: Sizes) -> Array:
    return np.zeros(x["b"], np.int32)


LENGTHS = {
    "full": _full,
    "ragged": _ragged,
    "some-empty": _some_empty,
    "one": _one,
    "empty": _empty,
}
"""How many keys of each sequence exist: b int32, 0 to tk."""


def poisoned(family: Family) -> Family:
    """A family with NaN in the keys and values beyond the lengths."""

    def draw(rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Arrays:
        drawn = family.draw(rng, shapes, options)
        if "lengths" in options:
            for x in (drawn["k"], drawn["v"]):
                beyond = np.arange(x.shape[2]) >= options["lengths"][:, None]
                x[np.broadcast_to(beyond[:, None], x.shape[:3])] = np.nan
        return drawn

    return replace(family, draw=draw)


HEADS = "hq4.hkv2"
"""Groups of two query heads, in the cases of clauses."""

SMOKE = (
    "b3.hq8.hkv2.tk200.d64/lengths-ragged+splits-2/normal",
    "b1.hq4.hkv2.tk257.d64/default/normal",
    "b1.hq6.hkv3.tk200.d64.dv32/splits-3/heavy-tailed",
    "b4.hq4.hkv2.tk80.d32/lengths-some-empty+splits-8/large-logit",
    "b1.hq16.hkv2.tk200.d64/splits-8/rising",
    "b1.hq16.hkv1.tk4500.d16/splits-3/stagnant",
    "b1.hq4.hkv2.tk100.d32/splits-2/plateau",
    "b2.hq32.hkv2.tk512.d64/splits-2/positive-value",
    "b1.hq4.hkv2.tk100.d32/splits-2/value-offset",
    "b1.hq4.hkv2.tk100.d32/splits-2/tiny-value",
    "b1.hq4.hkv2.tk100.d32/splits-2/one-hot",
    "b1.hq4.hkv2.tk256.d64/splits-3/captured",
)

CORE = (
    *(
        f"b2.hq4.hkv2.tk130.d64/lengths-ragged+splits-2/{family}"
        for family in (
            *("normal", "heavy-tailed", "large-logit", "huge", "uniform", "zero-query"),
            *("unit-value", "cancelling", "sink", "one-hot"),
        )
    ),
    "b1.hq4.hkv1.tk2048.d16/splits-8/faint",
    "b4.hq16.hkv1.tk300.d128/lengths-ragged+splits-2/normal",
    "b1.hq2.hkv1.tk1024.d80/splits-400/normal",
    "b3.hq8.hkv4.tk256.d32/lengths-ragged+splits-3/captured",
)

FULL = (
    "b1.hq8.hkv1.tk20000.d128/splits-64/normal",
    "b4.hq32.hkv8.tk2048.d128/lengths-ragged/heavy-tailed",
)

# what only longer queries show: hidden keys under a mask
DECODED = {name: poisoned(family) for name, family in FAMILIES.items() if name != "masked-huge"}


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    check_point({**x, "tq": 1}, options, family)
    if int(options.get("splits", 1)) < 1:
        raise ValueError(f"splits-{options['splits']}: keys are dealt to at least 1 split")


DECODING = Domain(
    sizes={"b": (1, 4), "hq": (1, 8), "hkv": (1, 4), "tk": (1, 320), "d": (8, 128), "dv": (8, 128)},
    families=DECODED,
    options={"lengths": LENGTHS, "splits": (1, 2, 3, 8, 400), "scale": OPTIONS["scale"]},
    smoke=SMOKE,
    core=CORE,
    full=FULL,
    timed=("b2.hq32.hkv8.tk2048.d64/splits-8/normal",),
    constrain=_constrain,
    # nearly equal weights
    coherent=lambda options: abs(float(options.get("scale", 1))) < 0.01,
)
"""The domain of one query per sequence over keys of given lengths."""
