"""The shipped activations: real numbers for every family called ``captured``.

`spec/captured/README.md` tells where they come from. Two heads of 32 stacked make one of 64,
since their logits add; a group of query heads shares the mean of its key and value heads, as
in uptraining (Ainslie et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TOKENS, WIDTH, HEADS, HEAD_SIZE = 256, 384, 4, 32
LAYERS = ("layer0", "layer5")


@cache
def load_captured() -> Mapping[str, Array]:
    """Arrays by name (``layer0.q``: heads tokens d), in float64."""
    folder = files("kernelproof.spec") / "captured"
    with as_file(folder / "minilm.npz") as path, np.load(path) as npz:
        return {name: npz[name].astype(np.float64) for name in npz.files}


def captured_head(role: str, head: int, d: int) -> Array:
    """Head number ``head`` of q, k or v, of size d (32 or 64): tokens d. Layers alternate."""
    heads = load_captured()[f"{LAYERS[head % len(LAYERS)]}.{role}"]
    stack = d // HEAD_SIZE
    first = head // len(LAYERS) * stack
    return np.concatenate([heads[(first + part) % HEADS] for part in range(stack)], axis=-1)


def captured_windows(role: str, heads: int, t: int, d: int, ends: Array) -> Array:
    """b heads t d: per batch the t tokens before an end."""
    stacked = np.stack([captured_head(role, head, d) for head in range(heads)])
    return np.stack([stacked[:, end - t : end] for end in ends])


def captured_layer(layer: str, kv_heads: int) -> dict[str, Array]:
    """Weights and biases of the shipped heads of a layer, uptrained to so many key heads: w_q,
    w_k, w_v: e heads*d, b_q, b_k, b_v: heads*d, w_o: heads*d e."""
    data = load_captured()
    names = [f"{kind}_{role}" for kind in "wb" for role in "qkv"]
    found = {name: data[f"{layer}.{name}"] for name in (*names, "w_o")}
    for name in ("w_k", "w_v", "b_k", "b_v"):
        whole = found[name]
        groups = whole.reshape(*whole.shape[:-1], kv_heads, HEADS // kv_heads, HEAD_SIZE)
        found[name] = groups.mean(axis=-2).reshape(*whole.shape[:-1], kv_heads * HEAD_SIZE)
    return found


def check_captured_layer(sizes: Mapping[str, int], family: str) -> None:
    """Raise ValueError for sizes of a layer that the captured one cannot fill."""
    given = {name: sizes[name] for name in ("hq", "d", "dv", "e")}
    wanted = {"hq": HEADS, "d": HEAD_SIZE, "dv": HEAD_SIZE, "e": WIDTH}
    if given != wanted:
        shown, known = (".".join(f"{n}{s}" for n, s in x.items()) for x in (given, wanted))
        raise ValueError(f"family {family}: {shown}: wanted {known}")
    if max(sizes["tq"], sizes["tk"]) > TOKENS:
        raise ValueError(f"family {family}: it has {TOKENS} tokens")


def check_captured(sizes: Mapping[str, int], tokens: int) -> None:
    """Raise ValueError for sizes that the captured activations cannot fill."""
    d, heads = sizes["d"], sizes.get("h", sizes.get("hq", 1))
    if d not in (HEAD_SIZE, 2 * HEAD_SIZE) or sizes.get("dv", d) != d:
        raise ValueError(f"family captured: head size d{d}: wanted 32 or 64, and dv = d")
    there = len(LAYERS) * HEADS * HEAD_SIZE // d
    if not 0 < heads <= there or sizes["b"] < 1:
        raise ValueError(
            f"family captured: {heads} heads: wanted 1 to {there} of size {d}, and b from 1"
        )
    if tokens > TOKENS:
        raise ValueError(f"family captured: {tokens} tokens: it has {TOKENS}")
