"""Input families of matrix multiplication: how a: m k and b: k n are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernelproof.spec.contracts.captured import TOKENS, load_captured
from kernelproof.spec.domain import Arrays, Family, Scalar, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def _positive(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {name: rng.random(shape) for name, shape in shapes.items()}


def _graded(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    x = _normal(rng, shapes, options)
    x["a"] *= 2.0 ** np.linspace(-6, 6, shapes["a"][0])[:, None]
    x["b"] *= 2.0 ** np.linspace(-4, 4, shapes["b"][1])
    return x


def _cancelling(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """Products that cancel in pairs, as far apart as k allows: sums in low precision lose all."""
    x = _normal(rng, shapes, options)
    half = shapes["a"][1] // 2
    x["a"][:, half : 2 * half] = x["a"][:, :half]
    x["b"][half : 2 * half] = -x["b"][:half]
    return x


def _stagnant(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """All products of a sum are equal, 4 to 7.84: 8,000 of them just fit float16."""
    (m, k), n = shapes["a"], shapes["b"][1]
    rows, columns = 2 + 0.8 * rng.random((m, 1)), 2 + 0.8 * rng.random((1, n))
    return {"a": np.repeat(rows, k, axis=1), "b": np.repeat(columns, k, axis=0)}


def _bits(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {name: rng.integers(0, 2, shape).astype(float) for name, shape in shapes.items()}


def _identity(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {**_bits(rng, shapes, options), "b": np.eye(shapes["b"][0], shapes["b"][1])}


def _nonfinite(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """NaN, both infinities, and infinity times zero, in rows and columns of their own."""
    x = _normal(rng, shapes, options)
    a, b = x["a"], x["b"]
    a[0, 0] = np.nan
    a[1, -1] = np.inf
    b[-1, 2] = -np.inf
    b[-1, 0] = 0.0
    return x


def _captured(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """Hidden states times the query projection of the same layer."""
    data, (m, k), n = load_captured(), shapes["a"], shapes["b"][1]
    start = int(rng.integers(TOKENS - m + 1))
    return {"a": data["layer0.x"][start : start + m, :k], "b": data["layer0.w_q"][:k, :n]}


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("independent standard normal numbers", _normal),
        "positive": ("uniform in (0, 1): errors of the sum do not cancel", _positive),
        "graded": ("rows and columns that differ in size by thousands", _graded),
    },
    coherent={
        "cancelling": ("products that cancel in pairs", _cancelling),
        "stagnant": ("equal products: narrow sums stop growing", _stagnant),
        "bits": ("zeros and ones: every product and sum is exact", _bits),
        "identity": ("a of zeros and ones, b the identity", _identity),
        "captured": ("hidden states of a sentence encoder times its weights", _captured),
    },
    special={
        "nonfinite": ("a NaN, infinities, infinity times zero", _nonfinite),
    },
)

FINITE: Mapping[str, Family] = {n: f for n, f in FAMILIES.items() if not f.special}
"""Those without NaN and infinities."""


def check_family(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    """Raise ValueError for sizes that a family cannot fill."""
    if family == "captured" and (x["m"] > 256 or x["k"] > 384 or x["n"] > 128):
        raise ValueError("family captured: wanted m up to 256, k up to 384, n up to 128")
    if family == "nonfinite" and (x["m"] < 3 or x["n"] < 4 or x["k"] < 2):
        raise ValueError("family nonfinite: wanted m from 3, k from 2, n from 4")
