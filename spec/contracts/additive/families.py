"""Input families of additive attention, and which mistake each one shows.

Projections are drawn so that the argument of tanh is near 1, and w_score so that scores are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.spec.contracts.captured import TOKENS, WIDTH, load_captured
from kernelproof.spec.domain import Arrays, Draw, DrawOption, Family, changed, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    x = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    for weight in ("w_query", "w_key"):
        x[weight] /= np.sqrt(max(len(x[weight]), 1))
    x["bias"] *= 0.5
    x["w_score"] *= 2 / np.sqrt(max(x["w_score"].size, 1))
    return x


_changed = partial(changed, _normal)


def _scaled(**factors: float) -> Draw:
    def change(rng: Rng, x: Arrays, options: Options) -> None:
        for name, factor in factors.items():
            x[name] *= factor

    return _changed(change)


def _heavy_tailed(rng: Rng, x: Arrays, options: Options) -> None:
    for name, most in (("key", 50), ("value", 200)):
        heavy = x[name] / np.sqrt(rng.gamma(1.0, size=x[name].shape) + 1e-3)
        x[name] = np.clip(heavy, -most, most)


def _positive(rng: Rng, x: Arrays, options: Options) -> None:
    x["value"][...] = 0.5 + rng.random(x["value"].shape)


def _unit_value(rng: Rng, x: Arrays, options: Options) -> None:
    x["value"][...] = 1.0


def _bias_alone(rng: Rng, x: Arrays, options: Options) -> None:
    """Query 0 and all keys but the first are zero: there a bug of the bias is all that shows."""
    x["query"][:, 0] = 0.0
    x["key"][:, 1:] = 0.0
    x["bias"] *= 4


def _plateau(rng: Rng, x: Arrays, options: Options) -> None:
    """The first key wins by about 8; the others are the same."""
    x["key"][:, 1:] = 0.0
    x["key"][:, 0] = 4 * np.sign(x["w_key"] @ x["w_score"])
    x["w_score"] *= 4
    x["value"] = abs(x["value"]) + 0.5


def _stagnant(rng: Rng, x: Arrays, options: Options) -> None:
    """Equal weights, and every key has the values of the first: 16 to 32, so that the sum over
    4,100 keys is beyond float16."""
    x["key"][...] = 0.0
    x["value"][...] = 16 + 16 * (abs(x["value"][..., :1, :]) % 1)


def _one_hot(rng: Rng, x: Arrays, options: Options) -> None:
    """Query i and key i mod n switch on one hidden unit together, and none else does: 120 above."""
    n = min(len(x["w_query"]), *x["w_key"].shape)
    for name in ("query", "key"):
        x[name][...] = 0.0
        rows = np.arange(x[name].shape[1])
        x[name][:, rows, rows % n] = 8.0
    for name in ("w_query", "w_key"):
        x[name][...] = 0.0
        x[name][range(n), range(n)] = 2.0
    x["bias"][...] = -24.0
    x["w_score"][...] = 60.0


def _beyond_float16(rng: Rng, x: Arrays, options: Options) -> None:
    """Every unit is saturated and every score 4000 h, so that all weights matter."""
    x["bias"][...] = 60.0
    x["w_score"][...] = 4000.0


def _nan_row(name: str) -> Draw:
    def change(rng: Rng, x: Arrays, options: Options) -> None:
        x[name][-1, x[name].shape[1] // 2] = np.nan

    return _changed(change)


def _masked_huge(rng: Rng, x: Arrays, options: Options) -> None:
    """Keys that no query may attend to hold the largest numbers that float16 can."""
    (b, tq, _), tk = x["query"].shape, x["key"].shape[1]
    hidden = ~np.broadcast_to(options["mask"], (b, tq, tk)).any(axis=1)
    for name in ("key", "value"):
        x[name][hidden] = 6e4


def _captured(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    """Tokens of layer 0, each batch up to an end of its own, and its projections; w_score, which
    an encoder has not, is drawn."""
    data, drawn = load_captured(), _normal(rng, shapes, options)
    b, tq, _ = shapes["query"]
    ends = rng.integers(max(tq, shapes["key"][1]), TOKENS + 1, size=b)
    for name in ("query", "key", "value"):
        _, t, d = shapes[name]
        drawn[name] = np.stack([data["layer0.x"][end - t : end, :d] for end in ends])
    for role in ("query", "key"):
        d, h = shapes[f"w_{role}"]
        drawn[f"w_{role}"] = data[f"layer0.w_{role[0]}"][:d, :h]
    drawn["bias"] = data["layer0.b_q"][:h] + data["layer0.b_k"][:h]
    return drawn


def check_family(x: Mapping[str, int], options: Mapping[str, Any], family: str) -> None:
    """Raise ValueError where sizes or options do not go with a family."""
    if family == "masked-huge" and "mask" not in options:
        raise ValueError("family masked-huge: wanted an option mask, as in mask-padding")
    if family == "captured":
        wide = max(x[axis] for axis in ("dq", "dk", "dv"))
        if max(x["tq"], x["tk"]) > TOKENS or wide > WIDTH or x["h"] > 128 or not x["b"]:
            raise ValueError(
                f"family captured: wanted b from 1, tq and tk up to {TOKENS}, dq, dk and dv up to "
                f"{WIDTH}, h up to 128"
            )


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("independent normal numbers, arguments and scores near 1", _normal),
        "heavy-tailed": ("keys and values with a few large entries", _changed(_heavy_tailed)),
        "positive-value": ("values of 0.5 to 1.5: errors of sums weigh most", _changed(_positive)),
        "large-score": (
            "scores of standard deviation 10: softmax nearly picks",
            _scaled(w_score=8),
        ),
    },
    coherent={
        "saturated": ("tanh is 1 or -1 nearly everywhere", _scaled(w_query=20, w_key=20)),
        "linear": (
            "arguments so small that tanh is as good as none",
            _scaled(query=1e-3, key=1e-3, bias=1e-3),
        ),
        "zero-score": ("no score weights: every key weighs the same", _scaled(w_score=0)),
        "bias-alone": ("mostly zero queries and keys beside a large bias", _changed(_bias_alone)),
        "tiny-value": ("values near 2^-20: out of float16's normal range", _scaled(value=2.0**-20)),
        "unit-value": ("values of one: out is 1 where any key is seen", _changed(_unit_value)),
        "plateau": ("one winner, other weights equal: they round alike", _changed(_plateau)),
        "stagnant": ("equal weights, equal values: narrow sums stop growing", _changed(_stagnant)),
        "one-hot": ("saturated one-hot units: out averages the matching rows", _changed(_one_hot)),
        "beyond-65504": ("equal scores beyond float16's range", _changed(_beyond_float16)),
        "masked-huge": ("keys that the mask hides hold 60000", _changed(_masked_huge)),
        "captured": ("hidden states of a sentence encoder and its projections", _captured),
    },
    special={
        "nan-query": ("one query of the last batch is NaN", _nan_row("query")),
        "nan-key": ("one key of the last batch is NaN", _nan_row("key")),
        "nan-value": ("one value of the last batch is NaN", _nan_row("value")),
    },
)


def _random(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((x["b"], x["tq"], x["tk"])) < 0.7


def _padding(rng: Rng, x: Mapping[str, int]) -> Any:
    lengths = rng.integers(min(1, x["tk"]), max(x["tk"], 2), size=(x["b"], 1, 1))
    return np.arange(x["tk"]) < lengths


def _matrix(rng: Rng, x: Mapping[str, int]) -> Any:
    return rng.random((x["tq"], x["tk"])) < 0.6


def _empty_rows(rng: Rng, x: Mapping[str, int]) -> Any:
    return _random(rng, x) & (rng.random((x["b"], x["tq"], 1)) < 0.6)


def _none(rng: Rng, x: Mapping[str, int]) -> Any:
    return np.zeros((x["b"], x["tq"], x["tk"]), bool)


MASKS: Mapping[str, DrawOption] = {
    "random": _random,
    "padding": _padding,
    "matrix": _matrix,
    "empty-rows": _empty_rows,
    "none": _none,
}
"""Boolean masks, True = may attend, of every shape that broadcasts to b tq tk."""
