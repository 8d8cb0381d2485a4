"""How far a layer moves when its key and value heads are pooled, by mean or otherwise.

    python benchmarks/uptraining.py [--json FILE]

Two captured layers of a sentence encoder, four heads of 32 each, on the tokens that they received
(self-attention). Their key and value heads are made two, and one, by the mean of each group
(Ainslie et al. 2023), its first head, or one of its heads at random, the mean error of every choice
standing for it. The error is of the share of the four heads in the output, relative to its norm, in
float64; nothing is trained afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.multi_head import multi_head
from kernelproof.reference.attention.uptrain import uptrain
from kernelproof.spec.contracts.captured import HEADS, LAYERS, captured_layer, load_captured

Array = npt.NDArray[Any]
Pool = Callable[[Array], Array]
"""From w: e hq*d to e hkv*d."""


def main() -> int:
    """Print a table: a row per layer, number of key heads and way to pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    print("layer   key heads  pooling  relative error")
    rows = []
    for layer in LAYERS:
        for kv_heads in (2, 1):
            for pooling, errors in _measure(layer, kv_heads).items():
                row = {"layer": layer, "kv_heads": kv_heads, "pooling": pooling}
                rows.append({**row, "relative error": float(np.mean(errors))})
                print(f"{layer}  {kv_heads:9}  {pooling:<7}  {np.mean(errors):14.4f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"rows": rows}, file, indent=1)
    return 0


def _measure(layer: str, kv_heads: int) -> dict[str, list[float]]:
    """Relative errors of each way to pool: one, or those of every choice."""
    choices = product(range(HEADS // kv_heads), repeat=kv_heads)
    errors = [_error(layer, kv_heads, partial(_heads, chosen=np.array(c))) for c in choices]
    mean = _error(layer, kv_heads, partial(_mean, kv_heads=kv_heads))
    return {"mean": [mean], "first": errors[:1], "random": errors}


def _error(layer: str, kv_heads: int, pool: Pool) -> float:
    """Of the layer's output, when the weights and biases of k and v are pooled."""
    tokens, whole = load_captured()[f"{layer}.x"][None], captured_layer(layer, HEADS)
    exact = _output(tokens, whole, HEADS)
    pooled = {name: pool(np.atleast_2d(whole[name])) for name in ("w_k", "w_v", "b_k", "b_v")}
    shaped = {name: array.reshape(*whole[name].shape[:-1], -1) for name, array in pooled.items()}
    error = _output(tokens, {**whole, **shaped}, kv_heads) - exact
    return float(np.linalg.norm(error) / np.linalg.norm(exact))


def _output(tokens: Array, x: dict[str, Array], kv_heads: int) -> Array:
    weights = {name: x[name] for name in ("w_q", "w_k", "w_v", "w_o")}
    biases = (x["b_q"], x["b_k"], x["b_v"], np.zeros(tokens.shape[-1]))
    return multi_head(tokens, tokens, **weights, heads=HEADS, kv_heads=kv_heads, biases=biases).out


def _mean(w: Array, kv_heads: int) -> Array:
    return uptrain(w, heads=HEADS, kv_heads=kv_heads).out


def _heads(w: Array, chosen: Array) -> Array:
    """One head of each group."""
    groups = w.reshape(len(w), len(chosen), HEADS // len(chosen), -1)
    return groups[:, np.arange(len(chosen)), chosen].reshape(len(w), -1)


if __name__ == "__main__":
    sys.exit(main())
