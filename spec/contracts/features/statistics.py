"""What orthogonal features are for: estimates of exp(x . y).

They are unbiased, in every direction, and spread less than those of independent features
(:mod:`.variance`).

Blocks of rows are independent of each other; each makes one draw of an estimate, whose expectation
and variance are known. All is measured at |x| = |y|, and where |z|^2 is 1/2: the bias of signs that
are left to chance grows with |z|, and what chance does with exp(|z|^2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.features.variance import orthogonal_error
from kernelproof.spec.statistics import Ceiling, Mean

Array = npt.NDArray[Any]

SQUARE = 0.5
"""|z|^2."""

SPREADS = {"positive": 0.07, "hyperbolic": 0.8, "trig": 0.5}
"""Relative variances of the square errors of blocks of 16, over all axes: measured."""


def estimate_errors(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> list[Mean | Ceiling]:
    """Of features that are whole blocks: the mean estimate along some directions, and the mean
    square error of each kind over all axes."""
    d = outputs["features"].shape[1]
    blocks = outputs["features"].reshape(-1, d, d)
    wanted, variance = softmax("positive"), error("positive", d)
    means = [
        Mean(
            f"estimates along {words}",
            estimates("positive", blocks, z[:, None])[:, 0],
            wanted,
            variance,
        )
        for words, z in directions(d)
    ]
    return [*means, *(_square_error(kind, blocks) for kind in SPREADS)]


def _square_error(kind: str, blocks: Array) -> Ceiling:
    d = blocks.shape[-1]
    off = estimates(kind, blocks, np.eye(d)) - softmax(kind)
    name = f"mean square error of {kind} estimates"
    return Ceiling(name, (off**2).mean(1), error(kind, d), SPREADS[kind])


def estimates(kind: str, blocks: Array, along: Array) -> Array:
    """The estimate that every block (n m d) makes for z along each of some directions (d c): n c.

    x is z / 2, and y as well; for trig, whose z is x - y, it is -z / 2.
    """
    of = {"positive": np.exp, "hyperbolic": np.cosh, "trig": np.cos}[kind]
    found: Array = of(np.sqrt(SQUARE) * (blocks @ along)).mean(1) / softmax(kind)
    return found


def softmax(kind: str) -> float:
    """exp(x . y), which is 1 / L where |x| = |y|; of trig both are the other way round."""
    return float(np.exp(SQUARE / (-4 if kind == "trig" else 4)))


def error(kind: str, d: int) -> float:
    """The mean square error of d orthogonal features, in whatever direction."""
    x = np.sqrt(SQUARE) / 2 * np.eye(d)[0]
    return orthogonal_error(kind, x, -x if kind == "trig" else x, d)


def directions(d: int) -> Iterator[tuple[str, Array]]:
    """Vectors of length 1, d each: coordinates are no directions like any other to a factorisation,
    and signs that it leaves to chance are biased along coherent ones."""
    axes = np.eye(d)
    random = np.random.default_rng(0).standard_normal(d)
    for words, z in (
        ("all ones", np.ones(d)),
        ("an axis", axes[0]),
        ("the sum of two axes", axes[0] + axes[1]),
        ("a random direction", random),
    ):
        yield words, z / np.linalg.norm(z)
