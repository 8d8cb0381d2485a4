"""Where rounding errors cannot change a bucket: hashing is an argmax, which is not continuous.

Computed x R is off by at most E = gamma_n (|x||R|), n the products of a column that are not zero
(Higham, ASNA, section 3.1); x may have been divided by its length before, which scales all columns
alike but for the roundings of its coordinates. The largest of [x R; -x R] is then that of the exact
ones if it exceeds the second by more than 2 max E.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.rounding import Format, Rounding, compose, gamma

Array = npt.NDArray[Any]

SIGNIFICAND = 8
"""Bits of tokens and rotations of every family but one: all dtypes, and TF32, hold them exactly."""

LARGEST_UNIT = 2.0**-23
"""Of accumulators in float32 that truncate: no declaration allows more."""


def length_error(d: int, u: float) -> float:
    """Of 1 / |x|, relatively: d squares and their sum, of which the root takes half, the root and
    the reciprocal, each 2 u of a GPU's approximation, and a product."""
    return compose(gamma(d, u) / 2, 5 * u)


def margins(x: Array, rotations: Array) -> tuple[Array, Array]:
    """By how much the largest of [x R; -x R] exceeds the second, and max |x||R|: rounds b h t."""
    turned = x @ rotations[:, None, None]
    both = np.sort(np.concatenate([turned, -turned], -1), axis=-1)
    return both[..., -1] - both[..., -2], (abs(x) @ abs(rotations)[:, None, None]).max(-1)


def ambiguous(x: Array, rotations: Array, u: float, operand: float = 0.0) -> Array:
    """Whether some round may put a token in another bucket: b h t.

    u: unit of the accumulator; operand: of a cast of tokens and rotations that changes them.
    """
    margin, largest = margins(x, rotations)
    n = (x != 0).sum(-1)
    single = np.array([compose(gamma(k, u), length_error(k, u)) for k in range(x.shape[-1] + 1)])
    relative = compose(operand, operand) + (1 + operand) ** 2 * single[n]
    return np.asarray((margin <= 2 * relative * largest).any(0))


def certain_buckets(x: Array, rotations: Array, rounding: Rounding) -> Array:
    """Of which heads no token is ambiguous at these roundings: b h. One more token in a bucket may
    move all chunks behind it."""
    cast = rounding.operands
    changes = cast and not (_held(x, cast) and _held(rotations, cast))
    unsure = ambiguous(x, rotations, rounding.accumulate, cast.unit if cast and changes else 0.0)
    return np.asarray(~unsure.any(-1))


def _held(x: Array, format: Format) -> bool:
    """Whether a format of float32's range has these numbers."""
    scaled = np.ldexp(np.frexp(x)[0], format.significand)
    return bool((scaled == np.rint(scaled)).all())


def shortened(x: Array, significand: int = SIGNIFICAND) -> Array:
    """The same numbers with so many bits, in steps that are none too small for float16."""
    fraction, exponent = np.frexp(x)
    places = significand - np.maximum(exponent, -13)
    short: Array = np.ldexp(np.rint(np.ldexp(fraction, exponent + places)), -places)
    return short
