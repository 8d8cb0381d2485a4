"""Input families of LSH attention: how tokens, values and rotations are drawn.

In every family tokens keep a margin: they are drawn again until no rounding changes their bucket.
A token has a logit of |x_i| / sqrt(d) times a cosine with another: of standard normal numbers at
most 1, and 1/sqrt(d) usually, so that ordinary tokens weigh all of their bucket nearly alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.captured import TOKENS, captured_windows
from kernelproof.spec.contracts.lsh.margin import LARGEST_UNIT, ambiguous, shortened
from kernelproof.spec.domain import Arrays, Draw, families

Array = npt.NDArray[Any]
Rng = np.random.Generator
Numbers: TypeAlias = Callable[[Rng, tuple[int, ...]], Array]
"""Draws tokens or values: b h t d."""

ATTEMPTS = 100
"""To find tokens with a margin: a rotation of one coordinate may leave none."""


def _normal(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _rotations(rng: Rng, shape: tuple[int, ...]) -> Array:
    return shortened(rng.standard_normal(shape))


def with_margin(
    tokens: Numbers, values: Numbers, rotations: Numbers = _rotations, together: int = 1
) -> Draw:
    """A family of these, whose tokens no rounding puts into another bucket; so many of them that
    follow each other are drawn again together."""

    def draw(rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Arrays:
        turned, x = rotations(rng, shapes["rotations"]), shortened(tokens(rng, shapes["qk"]))
        for _ in range(ATTEMPTS):
            unsure = ambiguous(x, turned, LARGEST_UNIT)
            if not unsure.any():
                break
            if together > 1:
                groups = unsure.reshape(*unsure.shape[:-1], -1, together)
                unsure = groups.any(-1).repeat(together, -1)
            x[unsure] = shortened(tokens(rng, shapes["qk"]))[unsure]
        return {"qk": x, "v": values(rng, shapes["v"]), "rotations": turned}

    return draw


def _large(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 64 * rng.standard_normal(shape)


def _heavy_tailed(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * np.exp(rng.standard_normal((*shape[:-1], 1)))


def _heavy_tailed_values(rng: Rng, shape: tuple[int, ...]) -> Array:
    drawn = rng.standard_normal(shape) / np.sqrt(rng.gamma(1.0, size=shape) + 1e-3)
    return np.asarray(np.clip(drawn, -200, 200))


def _clustered(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Cosines of about 0.8 within a cluster, and logits of 6."""
    centers = rng.standard_normal((*shape[:2], 4, shape[-1]))
    nearest = rng.integers(0, 4, (*shape[:-1], 1))
    near = np.take_along_axis(centers, nearest, axis=-2)
    return np.asarray(8 * (near + 0.5 * rng.standard_normal(shape)))


def _huge(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 128 * _clustered(rng, shape)


def _faint(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * 2.0**-9


def _repeated(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Token i is that of number i mod 3: its bucket holds a third of all tokens, at least."""
    return np.asarray(rng.standard_normal((*shape[:2], 3, shape[-1])))[
        ..., np.arange(shape[-2]) % 3, :
    ]


def _positive_values(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 0.5 + rng.random(shape)


def _values_near_100(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 0.1 * rng.standard_normal(shape) + 100


def _tiny_values(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * 2.0**-20


def _stagnant_values(rng: Rng, shape: tuple[int, ...]) -> Array:
    """512 to 1024, alike in all tokens of a head: the sum of 128 is beyond float16."""
    one = 512 + 512 * rng.random((*shape[:2], 1, shape[-1]))
    return np.asarray(np.broadcast_to(one, shape).copy())


def _captured(role: str) -> Numbers:
    def draw(rng: Rng, shape: tuple[int, ...]) -> Array:
        b, h, t, d = shape
        return captured_windows(role, h, t, d, rng.integers(t, TOKENS + 1, size=b))

    return draw


NEAR, FAR = (24.0, 7.0), (15.0, 20.0)
"""Partners of a token (25, 0): cosines of 24/25 and 3/5, without a rounding."""


def _pairs(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Tokens 2p and 2p + 1 of a head share two coordinates, which no others have: their rotation is
    their own. Even pairs are near, odd ones far; which way each is turned is random."""
    tokens = np.zeros((int(np.prod(shape[:-1])), shape[-1]))
    row = np.arange(0, len(tokens), 2)
    flipped = rng.integers(0, 2, row.size)
    signs = rng.choice([-25.0, 25.0], row.size), *rng.choice([-1.0, 1.0], (2, row.size))
    near = (np.arange(row.size) % (shape[-2] // 2) % 2 == 0)[:, None]
    partner = np.where(near, NEAR, FAR)
    tokens[row, row + flipped] = signs[0]
    tokens[row + 1, row + flipped] = np.sign(signs[0]) * partner[:, 0]
    tokens[row + 1, row + 1 - flipped] = signs[1] * partner[:, 1]
    return tokens.reshape(shape)


def _one_per_pair(rng: Rng, shape: tuple[int, ...]) -> Array:
    """The first token of pair p has coordinate p alone; the second has none."""
    values, pair = np.zeros(shape), np.arange(shape[-2] // 2)
    values[..., 2 * pair, pair] = 1.0
    return values


def _fine_rotations(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, np.float32).astype(np.float64)


FAMILIES = families(
    generic={
        "normal": (
            "standard normal numbers: all of a bucket weigh about alike",
            with_margin(_normal, _normal),
        ),
        "heavy-tailed": (
            "tokens of very different lengths, values with a few large entries",
            with_margin(_heavy_tailed, _heavy_tailed_values),
        ),
        "large-logit": (
            "tokens of length 64 sqrt(d): softmax nearly picks",
            with_margin(_large, _normal),
        ),
        "clustered": (
            "four clusters, which share buckets longer than a chunk",
            with_margin(_clustered, _normal),
        ),
        "positive-value": (
            "values of 0.5 to 1.5: errors of sums weigh most",
            with_margin(_normal, _positive_values),
        ),
    },
    coherent={
        "huge": (
            "four clusters with logits of 700, beyond any exponential",
            with_margin(_huge, _normal),
        ),
        "faint": (
            "tokens of length sqrt(d) / 512, which are as long as any once they are keys",
            with_margin(_faint, _normal),
        ),
        "repeated": (
            "three tokens, again and again: their positions alone order them",
            with_margin(_repeated, _normal),
        ),
        "stagnant": (
            "values of 512 to 1024, all alike: narrow sums stop growing",
            with_margin(_normal, _stagnant_values),
        ),
        "value-offset": (
            "values near 100: errors of the row sum show",
            with_margin(_normal, _values_near_100),
        ),
        "tiny-value": (
            "values near 2^-20: out of float16's normal range",
            with_margin(_normal, _tiny_values),
        ),
        "captured": (
            "queries of a sentence encoder on a licence text, as tokens",
            with_margin(_captured("q"), _captured("v")),
        ),
        "pairs": (
            "pairs of tokens of a known angle, hashed independently; float32 and finer",
            with_margin(_pairs, _one_per_pair, _fine_rotations, together=2),
        ),
    },
)
