"""The domain of self-attention without a scale: how tokens are drawn, and accuracy cases.

A token x_i has the logit |x_i|^2 with itself, and x_i·x_j with others, which for independent
numbers of variance s^2 has the standard deviation s^2 sqrt(d) alone. Beside t - 1 others of mean 0
a token takes half of its own weight where |x_i|^2 = s^2 d is about log t: between 4 and 6 for 60 to
400 tokens. Standard normal numbers of d = 64 have 64 there, and attend to themselves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.captured import TOKENS, captured_windows, check_captured
from kernelproof.spec.domain import Arrays, Domain, Draw, Scalar, families

Array = npt.NDArray[Any]
Rng = np.random.Generator

SQUARED_NORM = 5.0
"""|x_i|^2 of ordinary tokens: the weight of a token for itself is that of 148 others of logit 0."""


def _drawn(tokens: Callable[[Rng, Array], Array]) -> Draw:
    """A family: ``tokens`` gets standard normal numbers, b t d."""

    def draw(rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Arrays:
        drawn = rng.standard_normal(shapes["x"])
        return {"x": tokens(rng, drawn) if drawn.size else drawn}

    return draw


def _scaled(x: Array, squared_norm: float) -> Array:
    """Numbers of a variance with which |x_i|^2 is about so much."""
    scaled: Array = x * np.sqrt(squared_norm / x.shape[-1])
    return scaled


def _normal(rng: Rng, x: Array) -> Array:
    return _scaled(x, SQUARED_NORM)


def _heavy_tailed(rng: Rng, x: Array) -> Array:
    return _scaled(x, SQUARED_NORM) * np.exp(0.5 * rng.standard_normal((*x.shape[:-1], 1)))


def _positive(rng: Rng, x: Array) -> Array:
    return 0.5 + rng.random(x.shape)


def _clustered(rng: Rng, x: Array) -> Array:
    """Logits of 10 to a token itself, 8 within its cluster, about 0 to others."""
    centers = _scaled(rng.standard_normal((len(x), 4, x.shape[-1])), 8)
    nearest = rng.integers(0, 4, (*x.shape[:-1], 1))
    clustered: Array = np.take_along_axis(centers, nearest, axis=1) + _scaled(x, 2)
    return clustered


def _large(rng: Rng, x: Array) -> Array:
    return x


def _huge(rng: Rng, x: Array) -> Array:
    return 20 * x


def _with_coordinate(x: Array, values: Array | float) -> Array:
    """Ordinary tokens with this for their coordinate 0."""
    changed = _scaled(x, SQUARED_NORM)
    changed[..., 0] = values
    return changed


def _level(rng: Rng, x: Array) -> Array:
    return _with_coordinate(x, 12.0)


def _rising(rng: Rng, x: Array) -> Array:
    return _with_coordinate(x, np.linspace(1, 9, x.shape[-2]))


def _tiny(rng: Rng, x: Array) -> Array:
    return x * 2.0**-20


def _equal(rng: Rng, x: Array) -> Array:
    return np.broadcast_to(_scaled(x[:, :1], SQUARED_NORM), x.shape).copy()


def _plateau(rng: Rng, x: Array) -> Array:
    """Logits of 3.3 with the first token, whose values differ, and of 1 with all others."""
    plateau = np.zeros_like(x)
    plateau[..., 0] = 1.0
    plateau[:, 0, 0] = 3.3
    return plateau


def _one_hot(rng: Rng, x: Array) -> Array:
    """Token i has coordinate i mod d alone; its logit wins by exp(-100) at least."""
    tokens = np.arange(x.shape[-2])
    hot = np.zeros_like(x)
    hot[:, tokens, tokens % x.shape[-1]] = 10.0
    return hot


def _beyond_float16(rng: Rng, x: Array) -> Array:
    return np.full_like(x, 200.0)


def _nan_token(rng: Rng, x: Array) -> Array:
    spoilt = _scaled(x, SQUARED_NORM)
    spoilt[-1, x.shape[-2] // 2] = np.nan
    return spoilt


def _captured(
    rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]
) -> Arrays:
    """Keys of one head, scaled on both sides as scaled attention scales logits."""
    b, t, d = shapes["x"]
    ends = rng.integers(t, TOKENS + 1, size=b)
    return {"x": captured_windows("k", 1, t, d, ends)[:, 0] / d**0.25}


FAMILIES = families(
    generic={
        "normal": (
            "normal numbers, |x|^2 about 5: half of the weight is a token's own",
            _drawn(_normal),
        ),
        "heavy-tailed": ("tokens of very different lengths", _drawn(_heavy_tailed)),
        "positive": ("numbers of 0.5 to 1.5: errors of sums weigh most", _drawn(_positive)),
        "clustered": ("four clusters of tokens that attend to each other", _drawn(_clustered)),
        "large-logit": ("standard normal numbers: a token attends to itself", _drawn(_large)),
        "huge": ("logits of 400 d, far beyond 88", _drawn(_huge)),
    },
    coherent={
        "level": ("coordinate 0 is 12: all logits are 144 larger", _drawn(_level)),
        "rising": ("coordinate 0, and with it logits, rise along the tokens", _drawn(_rising)),
        "tiny": ("numbers near 2^-20: out of float16's normal range", _drawn(_tiny)),
        "equal": ("all tokens equal the first: out is that token", _drawn(_equal)),
        "plateau": ("one token differs, the weights of the others are equal", _drawn(_plateau)),
        "one-hot": ("saturated one-hot logits: out averages equal tokens", _drawn(_one_hot)),
        "beyond-65504": ("equal logits beyond float16's range", _drawn(_beyond_float16)),
        "captured": ("keys of a sentence encoder on a licence text, as tokens", _captured),
    },
    special={
        "nan-token": ("one token of the last sequence is NaN", _drawn(_nan_token)),
    },
)


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if family == "captured":
        check_captured(x, x["t"])
    if x["d"] == 0:
        raise ValueError("tokens of no coordinates attend to nothing: d is at least 1")


DOMAIN = Domain(
    sizes={"b": (1, 3), "t": (1, 200), "d": (8, 128)},
    families=FAMILIES,
    options={},
    smoke=(
        "b2.t64.d64/default/normal",
        "b1.t129.d32/default/heavy-tailed",
        "b4.t200.d8/default/positive",  # many outputs: their mean error is known well
        "b2.t100.d32/default/clustered",
        "b1.t100.d64/default/large-logit",
        "b1.t40.d32/default/huge",
        "b1.t65.d32/default/level",
        "b1.t200.d32/default/rising",
        "b1.t40.d32/default/tiny",
        "b1.t100.d16/default/plateau",
        "b1.t40.d16/default/one-hot",
        "b1.t400.d8/default/beyond-65504",
        "b2.t128.d64/default/captured",
    ),
    core=(
        *(f"b1.t222.d32/default/{f}" for f in ("normal", "clustered", "positive", "equal")),
        *(f"b1.t96.d{d}/default/normal" for d in (16, 80, 128)),
        "b8.t20.d24/default/heavy-tailed",
        "b1.t256.d128/default/clustered",
        "b1.t256.d32/default/captured",
    ),
    constrain=_constrain,
)
