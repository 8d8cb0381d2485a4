"""Input families of attention layers: tokens, and weights of a size that keeps logits sane.

Tokens are of size 1, and a product with w_q, w_k, w_v or w_o leaves them so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.spec.contracts.captured import LAYERS, TOKENS, captured_layer, load_captured
from kernelproof.spec.domain import Arrays, Draw, DrawOption, Family, changed, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    drawn = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    for name, array in drawn.items():
        if name.startswith("w_"):
            array /= np.sqrt(len(array))
    return drawn


_changed = partial(changed, _normal)


def _large_logit(rng: Rng, x: Arrays, options: Options) -> None:
    x["w_q"] *= 2
    x["w_k"] *= 2


def _positive(rng: Rng, x: Arrays, options: Options) -> None:
    """Tokens whose first half is positive, and values and outputs that read that half alone."""
    half = len(x["w_v"]) // 2 + 1
    x["x_kv"][..., :half] = 0.5 + rng.random(x["x_kv"][..., :half].shape)
    x["w_v"] = abs(x["w_v"])
    x["w_v"][half:] = 0.0
    x["w_o"] = abs(x["w_o"])


def _self(rng: Rng, x: Arrays, options: Options) -> None:
    t = min(x["x_q"].shape[1], x["x_kv"].shape[1])
    x["x_q"][:, -t:] = x["x_kv"][:, -t:]


def _stagnant(rng: Rng, x: Arrays, options: Options) -> None:
    """Zero queries, and one positive token that every position holds: all weights are equal, and
    sums only grow."""
    x["w_q"][...] = 0.0
    x["x_kv"][...] = 0.5 + rng.random(x["x_kv"][:, :1].shape)
    x["w_v"] = abs(x["w_v"])
    x["w_o"] = abs(x["w_o"])


def _nan_token(rng: Rng, x: Arrays, options: Options) -> None:
    x["x_q"][-1, x["x_q"].shape[1] // 2] = np.nan


def _masked_large(rng: Rng, x: Arrays, options: Options) -> None:
    """Tokens that no query may attend to are thousands of times larger than the others."""
    shape = (len(x["x_kv"]), options["heads"], x["x_q"].shape[1], x["x_kv"].shape[1])
    seen = np.broadcast_to(options["mask"], shape).any(axis=(1, 2))
    x["x_kv"][~seen] *= 3000


def _captured(layer: str) -> Draw:
    """Both inputs of a batch end with the same token: of equal length they are the same."""

    def draw(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
        b, tq, _ = shapes["x_q"]
        tk = shapes["x_kv"][1]
        ends = rng.integers(max(tq, tk), TOKENS + 1, size=b)
        tokens = load_captured()[f"{layer}.x"]
        weights = captured_layer(layer, options["kv_heads"])
        inputs = {
            name: np.stack([tokens[end - t : end] for end in ends])
            for name, t in (("x_q", tq), ("x_kv", tk))
        }
        return {**inputs, **{name: weights[name] for name in ("w_q", "w_k", "w_v", "w_o")}}

    return draw


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("independent tokens, weights that keep their size", _normal),
        "large-logit": ("logits of standard deviation 4", _changed(_large_logit)),
        "positive": ("values and weights that never cancel", _changed(_positive)),
    },
    coherent={
        "self": ("queries and keys are of the same tokens: self-attention", _changed(_self)),
        "stagnant": ("equal weights, equal tokens: narrow sums stop growing", _changed(_stagnant)),
        "masked-large": (
            "tokens that the mask hides are 3000 times larger",
            _changed(_masked_large),
        ),
        **{
            f"captured-{layer}": (
                f"{layer} of a sentence encoder on a licence text",
                _captured(layer),
            )
            for layer in LAYERS
        },
    },
    special={
        "nan-token": ("one token of the last batch that queries is NaN", _changed(_nan_token)),
    },
)


def _normal_biases(rng: Rng, x: Mapping[str, int]) -> Any:
    widths = (x["hq"] * x["d"], x["hkv"] * x["d"], x["hkv"] * x["dv"], x["e"])
    return tuple(rng.standard_normal(width) for width in widths)


def _captured_biases(layer: str) -> DrawOption:
    """The layer's own; that of its output is not shipped, and zero."""

    def draw(rng: Rng, x: Mapping[str, int]) -> Any:
        found = captured_layer(layer, x["hkv"])
        return (*(found[f"b_{role}"] for role in "qkv"), np.zeros(x["e"]))

    return draw


BIASES: Mapping[str, DrawOption] = {
    "normal": _normal_biases,
    **{layer: _captured_biases(layer) for layer in LAYERS},
}
"""b_q: hq*d, b_k: hkv*d, b_v: hkv*dv, b_o: e."""
