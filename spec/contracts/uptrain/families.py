"""Input families of uptraining: how the weights of heads are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernelproof.spec.contracts.captured import LAYERS, load_captured
from kernelproof.spec.domain import Arrays, Draw, Family, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {"w": rng.standard_normal(shapes["w"])}


def _identical(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    e, width = shapes["w"]
    hq, hkv = options["heads"], options["kv_heads"]
    one = rng.integers(-64, 65, (e, hkv, 1, width // hq)) / 16  # few bits: sums are exact
    return {"w": one.repeat(hq // hkv, axis=2).reshape(e, width)}


def _cancelling(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """Heads of one sign and of the other, whose mean is a hundred times smaller."""
    e, width = shapes["w"]
    hq = options["heads"]
    common = 1 + rng.random((e, 1, width // hq))
    signs = np.where(np.arange(hq) % 2, -1.0, 1.0)[:, None]
    noise = 0.01 * rng.standard_normal((e, hq, width // hq))
    return {"w": (signs * common + noise).reshape(e, width)}


def _captured(role: str) -> Draw:
    """The weights of a layer: its columns are the heads, its rows the width."""

    def draw(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
        e, width = shapes["w"]
        layer = LAYERS[int(rng.integers(len(LAYERS)))]
        return {"w": load_captured()[f"{layer}.w_{role}"][:e, :width]}

    return draw


FAMILIES: Mapping[str, Family] = families(
    generic={"normal": ("independent standard normal numbers", _normal)},
    coherent={
        "identical": ("the heads of a group are the same, of few bits", _identical),
        "cancelling": ("heads cancel to a hundredth of their size", _cancelling),
        "captured-k": ("key weights of a sentence encoder", _captured("k")),
        "captured-v": ("value weights of a sentence encoder", _captured("v")),
    },
)
