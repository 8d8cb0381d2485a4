"""Input families of softmax: how x: r n is drawn, and which mistake each one shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.captured import HEAD_SIZE, HEADS, LAYERS, TOKENS, captured_head
from kernelproof.spec.domain import Arrays, Draw, Family, Scalar, families

Array = npt.NDArray[Any]
Rng = np.random.Generator


def _changed(change: Callable[[Rng, Array], Array | None]) -> Draw:
    """A family that draws normal numbers, and changes them in place or returns others."""

    def draw(rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Any) -> Arrays:
        x = rng.standard_normal(shapes["x"])
        changed = change(rng, x) if x.size else None
        return {"x": x if changed is None else changed}

    return draw


def _scaled(factor: float) -> Draw:
    return _changed(lambda rng, x: factor * x)


def _heavy_tailed(rng: Rng, x: Array) -> Array:
    return np.clip(x / np.sqrt(rng.gamma(1.0, size=x.shape) + 1e-3), -50, 50)


def _rising(rng: Rng, x: Array) -> Array:
    return 0.1 * x + np.linspace(-20, 20, x.shape[1])


def _plateau(rng: Rng, x: Array) -> Array:
    """One element of 3, all others 0."""
    levels = np.zeros(x.shape)
    levels[:, 0] = 3.0
    return levels


def _stagnant(rng: Rng, x: Array) -> Array:
    """A first term of 1, then terms of exp(-5.9) to exp(-5.5), equal within a row."""
    levels = np.repeat(-5.9 + 0.4 * rng.random((len(x), 1)), x.shape[1], axis=1)
    levels[:, 0] = 0.0
    return levels


def _one_hot(rng: Rng, x: Array) -> None:
    """Element i mod n of row i wins by exp(-100) at least."""
    rows = np.arange(len(x))
    x[...] = np.clip(x, -5, 5)
    x[rows, rows % x.shape[1]] = 120.0


def _levels(rng: Rng, x: Array) -> None:
    """Rows 150 apart: exp underflows in all but one row where they share one maximum."""
    x -= 150.0 * (np.arange(len(x)) % 3)[:, None]


def _masked(rng: Rng, x: Array) -> None:
    """A third of the elements is -inf, and so are all of the first row and of the last."""
    x[rng.random(x.shape) < 0.3] = -np.inf
    x[[0, -1]] = -np.inf


def _padded(rng: Rng, x: Array) -> None:
    """Rows of any length from 1, -inf behind their end."""
    lengths = rng.integers(1, x.shape[1] + 1, (len(x), 1))
    x[np.arange(x.shape[1]) >= lengths] = -np.inf


def _nan(rng: Rng, x: Array) -> None:
    x[len(x) // 2, x.shape[1] // 2] = np.nan


def _infinity(rng: Rng, x: Array) -> None:
    x[len(x) // 2, x.shape[1] // 2] = np.inf


def _captured(rng: Rng, shapes: Mapping[str, tuple[int, ...]], options: Any) -> Arrays:
    """Scores q kᵀ / sqrt(d) of one head, for r queries and n keys in a row."""
    r, n = shapes["x"]
    head = int(rng.integers(len(LAYERS) * HEADS))
    q, k = (captured_head(role, head, HEAD_SIZE) for role in "qk")
    i, j = (int(rng.integers(TOKENS - size + 1)) for size in (r, n))
    return {"x": q[i : i + r] @ k[j : j + n].T / np.sqrt(HEAD_SIZE)}


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("independent standard normal numbers", _scaled(1)),
        "uniform": (
            "in (0, 1): weights are nearly equal",
            _changed(lambda r, x: r.random(x.shape)),
        ),
        "heavy-tailed": ("a few large numbers", _changed(_heavy_tailed)),
        "large-logit": ("of standard deviation 16: softmax nearly picks", _scaled(16)),
        "huge": ("of standard deviation 400, far beyond 88", _scaled(400)),
    },
    coherent={
        "rising": ("numbers that rise along a row: every tile rescales", _changed(_rising)),
        "plateau": ("one winner, others equal: they round alike", _changed(_plateau)),
        "stagnant": ("small equal terms: narrow sums stop growing", _changed(_stagnant)),
        "one-hot": ("saturated: one element takes all", _changed(_one_hot)),
        "levels": ("rows at levels 150 apart", _changed(_levels)),
        "beyond-65504": (
            "numbers near 100,000, beyond float16's range",
            _changed(lambda rng, x: 1e5 + 1000 * x),
        ),
        "masked": ("-inf here and there, and in two whole rows", _changed(_masked)),
        "padded": ("-inf behind the end of each row", _changed(_padded)),
        "captured": ("attention scores of a sentence encoder on a licence text", _captured),
    },
    special={
        "nan": ("one NaN", _changed(_nan)),
        "infinity": ("one +inf", _changed(_infinity)),
    },
)


def check_family(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    """Raise ValueError for sizes that a family cannot fill."""
    if family == "captured" and max(x["r"], x["n"]) > TOKENS:
        raise ValueError(f"family captured: r{x['r']}.n{x['n']}: wanted both up to {TOKENS}")
