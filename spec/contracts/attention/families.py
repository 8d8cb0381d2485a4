"""Input families of attention: how q, k and v are drawn, and which mistake each one shows.

A family draws whichever of q: b hq tq d, k: b hkv tk d and v: b hkv tk dv it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.spec.contracts.captured import TOKENS, captured_windows
from kernelproof.spec.domain import Arrays, Draw, Family, changed, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


_changed = partial(changed, _normal)


def _scaled(q: float = 1.0, k: float = 1.0) -> Draw:
    def change(rng: Rng, x: Arrays, options: Options) -> None:
        x["q"] *= q
        x["k"] *= k

    return _changed(change)


def _heavy_tailed(rng: Rng, x: Arrays, options: Options) -> None:
    x["k"] = np.clip(x["k"] / np.sqrt(rng.gamma(1.0, size=x["k"].shape) + 1e-3), -50, 50)
    x["v"] = np.clip(x["v"] / np.sqrt(rng.gamma(1.0, size=x["v"].shape) + 1e-3), -200, 200)


def _positive(rng: Rng, x: Arrays, options: Options) -> None:
    x["v"][...] = 0.5 + rng.random(x["v"].shape)


def _tiny(rng: Rng, x: Arrays, options: Options) -> None:
    x["v"] *= 2.0**-20


def _rising(rng: Rng, x: Arrays, options: Options) -> None:
    x["q"] *= 0.2
    x["k"] *= 0.05
    x["q"][..., 0] = 8.0
    x["k"][..., 0] = np.linspace(-8, 8, x["k"].shape[-2])


def _plateau(rng: Rng, x: Arrays, options: Options) -> None:
    x["q"][...] = 0.0
    x["k"][...] = 0.0
    x["q"][..., 0] = 4.0
    x["k"][..., 0, 0] = 3.3
    x["v"] = abs(x["v"]) + 0.5


def _sink(rng: Rng, x: Arrays, options: Options) -> None:
    x["q"] += 0.7
    x["k"][..., 0, :] = 1.5


def _value_offset(rng: Rng, x: Arrays, options: Options) -> None:
    x["v"] = 0.1 * x["v"] + 100


def _cancelling(rng: Rng, x: Arrays, options: Options) -> None:
    half = x["k"].shape[-2] // 2
    x["k"][..., half : 2 * half, :] = x["k"][..., :half, :]
    x["v"][..., half : 2 * half, :] = -x["v"][..., :half, :]


def _faint(rng: Rng, x: Arrays, options: Options) -> None:
    """Weights of exp(-11.5): float16 keeps them relative to the largest, not to the row's sum."""
    d, half = x["q"].shape[-1], x["k"].shape[-2] // 2
    x["q"][...] = 0.0
    x["k"][...] = 0.0
    x["q"][..., 0] = 1.0
    x["k"][..., :half, 0] = -11.5 * np.sqrt(d)
    x["v"][..., :half, :] = 1.0
    x["v"][..., half:, :] = 0.0


def _stagnant(rng: Rng, x: Arrays, options: Options) -> None:
    """Every weight is 1 before normalisation, and every key has the values of the first: 16 to 32,
    so that the sum over 4,100 keys is beyond float16."""
    x["q"][...] = 0.0
    x["v"][...] = 16 + 16 * (abs(x["v"][..., :1, :]) % 1)


def _zero_query(rng: Rng, x: Arrays, options: Options) -> None:
    x["q"][...] = 0.0


def _unit_value(rng: Rng, x: Arrays, options: Options) -> None:
    x["v"][...] = 1.0


def _one_hot(rng: Rng, x: Arrays, options: Options) -> None:
    """Query i and key i mod d share a coordinate; its logit wins by exp(-100) at least."""
    d = x["q"].shape[-1]
    x["q"][...] = 0.0
    x["k"][...] = 0.0
    for name, size in (("q", 20.0), ("k", 5.0 * np.sqrt(d))):
        rows = np.arange(x[name].shape[-2])
        x[name][..., rows, rows % d] = size


def _beyond_float16(rng: Rng, x: Arrays, options: Options) -> None:
    """Logits near scale * d * 200^2: 160,000 at d = 16, and equal, so that all weights matter."""
    x["q"][...] = 200.0
    x["k"][...] = 200.0


def _nan_row(name: str) -> Draw:
    def change(rng: Rng, x: Arrays, options: Options) -> None:
        x[name][-1, -1, x[name].shape[-2] // 2] = np.nan

    return _changed(change)


def _masked_huge(rng: Rng, x: Arrays, options: Options) -> None:
    """Keys that no query may attend to hold the largest numbers that float16 can."""
    mask = np.broadcast_to(options["mask"], (*x["q"].shape[:-1], x["k"].shape[-2]))
    b, hkv, tk, _ = x["k"].shape
    hidden = ~mask.reshape(b, hkv, -1, tk).any(axis=2)  # of all queries of a key's group
    for name in ("k", "v"):
        x[name][hidden] = 6e4


def _captured(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """All roles of a batch end with the same token, so that k and v belong together.

    Keys and values of a group of query heads are the mean over the group's own heads.
    """
    hq = max(shape[1] for shape in shapes.values())
    longest = max(shape[2] for shape in shapes.values())
    ends = rng.integers(longest, TOKENS + 1, size=next(iter(shapes.values()))[0])
    drawn = {}
    for role, (b, h, t, d) in shapes.items():
        heads = captured_windows(role, hq, t, d, ends)
        drawn[role] = heads.reshape(b, h, hq // h, t, d).mean(axis=2)
    return drawn


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("independent standard normal numbers", _normal),
        "heavy-tailed": ("keys and values with a few large entries", _changed(_heavy_tailed)),
        "positive-value": ("values of 0.5 to 1.5: errors of sums weigh most", _changed(_positive)),
        "large-logit": ("logits of standard deviation 16: softmax nearly picks", _scaled(4, 4)),
        "huge": ("logits of standard deviation 400, far beyond 88", _scaled(20, 20)),
    },
    coherent={
        "uniform": ("zero keys: every allowed key weighs the same", _scaled(1, 0)),
        "zero-query": ("zero queries: out is the mean of the values", _changed(_zero_query)),
        "stagnant": ("equal weights, equal values: narrow sums stop growing", _changed(_stagnant)),
        "unit-value": ("values of one: out is 1 where any key is seen", _changed(_unit_value)),
        "value-offset": ("values near 100: errors of the row sum show", _changed(_value_offset)),
        "tiny-value": ("values near 2^-20: out of float16's normal range", _changed(_tiny)),
        "cancelling": ("values that cancel in pairs of equal weight", _changed(_cancelling)),
        "rising": ("logits that rise along the keys: blocks rescale", _changed(_rising)),
        "plateau": ("one winner, other weights equal: they round alike", _changed(_plateau)),
        "faint": ("all values sit on keys of weight exp(-11.5)", _changed(_faint)),
        "sink": ("the first key takes most of the weight", _changed(_sink)),
        "one-hot": ("saturated one-hot logits: out averages the matching rows", _changed(_one_hot)),
        "beyond-65504": ("equal logits beyond float16's range", _changed(_beyond_float16)),
        "masked-huge": ("keys that the mask hides hold 60000", _changed(_masked_huge)),
        "captured": ("activations of a sentence encoder on a licence text", _captured),
    },
    special={
        "nan-query": ("one query row of the last head is NaN", _nan_row("q")),
        "nan-key": ("one key row of the last head is NaN", _nan_row("k")),
        "nan-value": ("one value row of the last head is NaN", _nan_row("v")),
    },
)


def _scores(x: Mapping[str, int]) -> tuple[int, int, int, int]:
    """The shape that a mask broadcasts to."""
    return x["b"], x["hq"] if "hq" in x else x["h"], x["tq"], x["tk"]


def _random(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random(_scores(x)) < 0.7


def _padding(rng: Rng, x: Mapping[str, int]) -> Any:
    lengths = rng.integers(min(1, x["tk"]), max(x["tk"], 2), size=(x["b"], 1, 1, 1))
    return np.arange(x["tk"]) < lengths


def _left_padding(rng: Rng, x: Mapping[str, int]) -> Any:
    hidden = rng.integers(x["tk"] // 3, max(x["tk"], 1), size=(x["b"], 1, 1, 1))
    return np.arange(x["tk"]) >= hidden


def _matrix(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((x["tq"], x["tk"])) < 0.5


def _per_query(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((x["b"], 1, x["tq"], x["tk"])) < 0.5


def _shared(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((1, 1, x["tq"], x["tk"])) < 0.5


def _per_head(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((1, _scores(x)[1], 1, x["tk"])) < 0.6


def _rows(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((x["b"], 1, x["tq"], 1)) < 0.6


def _empty_rows(rng: Rng, x: Mapping[str, int]) -> Any:
    return _random(rng, x) & (rng.random((*_scores(x)[:3], 1)) < 0.6)


def _none(rng: Rng, x: Mapping[str, int]) -> Any:
    return np.zeros(_scores(x), bool)


MASKS = {
    "random": _random,
    "padding": _padding,
    "left-padding": _left_padding,
    "matrix": _matrix,
    "per-query": _per_query,
    "shared": _shared,
    "per-head": _per_head,
    "rows": _rows,
    "empty-rows": _empty_rows,
    "none": _none,
}
"""Boolean masks, True = may attend, of every shape that broadcasts to b h tq tk."""


def _dropout(rate: float) -> Callable[[Rng, Mapping[str, int]], Any]:
    def draw(rng: Rng, x: Mapping[str, int]) -> Any:
        return rng.random(_scores(x)) >= rate, rate

    return draw


KEEPS = {"0.1": _dropout(0.1), "0.5": _dropout(0.5)}
"""Dropout: the keep-mask b h tq tk (True = kept) and the rate."""
