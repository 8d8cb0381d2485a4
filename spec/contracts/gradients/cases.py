"""Cases of attention's backward pass, and how d_out is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kernelproof.spec.contracts.attention.cases import attention_domain
from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.domain import Arrays, Domain, Family, families, with_inputs

SMOKE = (
    "b2.hq4.hkv2.tq64.tk64.d32/default/normal",
    "b1.hq2.hkv1.tq33.tk129.d32.dv48/causal-bottom-right/normal",
    "b1.hq3.hkv1.tq100.tk70.d32/causal-top-left/large-logit",
    "b1.hq2.hkv2.tq40.tk100.d64/default/heavy-tailed",
    "b1.hq2.hkv1.tq51.tk51.d32/default/balanced",
    "b1.hq2.hkv1.tq51.tk51.d32/causal-top-left/balanced",
    # one sum of more than 4096 equal terms each: over the keys, over the queries
    "b1.hq1.hkv1.tq2.tk5400.d16/default/stagnant",
    "b1.hq1.hkv1.tq5400.tk2.d16/default/stagnant",
)

CORE = (
    *(
        f"b1.hq2.hkv1.tq96.tk160.d64/default/{family}"
        for family in ("huge", "value-offset", "cancelling", "rising", "plateau", "tiny-value")
    ),
    "b1.hq2.hkv1.tq96.tk160.d64/causal-top-left/captured",
    "b1.hq3.hkv1.tq70.tk50.d128/causal-bottom-right+scale-0.3/normal",
    "b1.hq1.hkv1.tq300.tk300.d64/causal-bottom-right/sink",
)


def _stagnant(
    rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]
) -> Arrays:
    """Logits of 0, and every term of a gradient's sum is the same: v, dP and the first coordinate
    of k change sign together from key to key, and q has the second coordinate alone."""
    drawn = {name: np.zeros(shape) for name, shape in shapes.items()}
    sign = np.where(np.arange(drawn["k"].shape[-2]) % 2, -1.0, 1.0)
    drawn["q"][..., 1:2] = 2.0**-6
    drawn["k"][..., 0] = 32 * sign
    drawn["v"] += 16 * sign[:, None]
    drawn["d_out"] += 16
    return drawn


def _balanced(
    rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]
) -> Arrays:
    """Keys all alike, and whole numbers as values that add up to 0 in threes; d_out grows with the
    number of keys that a query sees under causal, and changes sign."""
    drawn = {name: np.zeros(shape) for name, shape in shapes.items()}
    drawn["q"] += 2.0**-6 * rng.standard_normal(drawn["q"].shape)
    drawn["k"] += 1
    threes = drawn["v"].shape[-2] // 3
    v = rng.integers(-60, 60, (*drawn["v"].shape[:-2], threes, 3, drawn["v"].shape[-1]))
    v[..., 2, :] = -v[..., 0, :] - v[..., 1, :]
    drawn["v"][..., : 3 * threes, :] = v.reshape(*v.shape[:-3], 3 * threes, v.shape[-1])
    rows = np.arange(drawn["d_out"].shape[-2])[:, None]
    drawn["d_out"] += (rows + 1) * np.where(rows % 2, -1.0, 1.0)
    return drawn


def _gradient_families() -> Mapping[str, Family]:
    """The families of attention that are used here, with d_out: b hq tq dv, normal."""
    used = {case.split("/")[2] for case in (*SMOKE, *CORE)}
    shared = {
        name: with_inputs(family, {"d_out": lambda rng, shape, family: rng.standard_normal(shape)})
        for name, family in FAMILIES.items()
        if name in used
    }
    own = {
        "stagnant": ("gradients of equal terms: narrow sums stop growing, or overflow", _stagnant),
        "balanced": ("gradients whose terms cancel: what each is rounded to shows", _balanced),
    }
    return {**shared, **families(generic={}, coherent=own)}


def gradient_domain(options: str) -> Domain:
    """The domain of backward passes with these options, with key/value heads of their own."""
    shared = attention_domain(lambda h: f"hq{h}.hkv{h}", {"hq": (1, 8), "hkv": (1, 4)}, options)
    return replace(shared, families=_gradient_families(), smoke=SMOKE, core=CORE, full=())
