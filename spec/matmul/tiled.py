"""Tiled matrix multiplication: every tile of a and b is loaded once per use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernelproof.reference.matmul.tiled import tiled
from kernelproof.spec.contracts.families import load_captured
from kernelproof.spec.contracts.product import product_bound
from kernelproof.spec.domain import Arrays, Domain, Family, Scalar
from kernelproof.spec.language import Call, Clause, Costs, Mutant, Outputs, Sizes, Spec

Shapes = Mapping[str, tuple[int, ...]]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def _positive(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    return {name: rng.random(shape) for name, shape in shapes.items()}


def _graded(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    x = _normal(rng, shapes, options)
    x["a"] *= 2.0 ** np.linspace(-6, 6, shapes["a"][0])[:, None]
    x["b"] *= 2.0 ** np.linspace(-4, 4, shapes["b"][1])
    return x


def _cancelling(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    """Products that cancel in pairs, as far apart as k allows: sums in low precision lose all."""
    x = _normal(rng, shapes, options)
    half = shapes["a"][1] // 2
    x["a"][:, half : 2 * half] = x["a"][:, :half]
    x["b"][half : 2 * half] = -x["b"][:half]
    return x


def _bits(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    return {name: rng.integers(0, 2, shape).astype(float) for name, shape in shapes.items()}


def _identity(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    return {**_normal(rng, shapes, options), "b": np.eye(*shapes["b"])}


def _nonfinite(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    """NaN, both infinities, and infinity times zero, in rows and columns of their own."""
    x = _normal(rng, shapes, options)
    a, b = x["a"], x["b"]
    a[0, 0] = np.nan
    a[1, -1] = np.inf
    b[-1, 2] = -np.inf
    b[-1, 0] = 0.0
    return x


def _captured(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
    """Hidden states times the query projection of the same layer."""
    data, (m, k), n = load_captured(), shapes["a"], shapes["b"][1]
    start = int(rng.integers(len(data["layer0.x"]) - m + 1))
    return {
        "a": data["layer0.x"][start : start + m, :k],
        "b": data["layer0.w_q"][:k, :n],
    }


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("normal", "independent standard normal numbers", _normal, generic=True),
        Family("positive", "uniform in (0, 1): rounding errors of the sum do not cancel", _positive, generic=True),
        Family("graded", "rows and columns that differ in size by thousands", _graded, generic=True),
        Family("cancelling", "products that cancel in pairs", _cancelling),
        Family("bits", "zeros and ones: every product and sum is exact", _bits),
        Family("identity", "b is the identity: out is a", _identity),
        Family("nonfinite", "a NaN, infinities, infinity times zero", _nonfinite),
        Family("captured", "hidden states of a sentence encoder times its weights", _captured),
    )
}


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if family == "captured" and (x["m"] > 256 or x["k"] > 384 or x["n"] > 128):
        raise ValueError("family captured: wanted m up to 256, k up to 384, n up to 128")
    if family == "nonfinite" and (x["m"] < 3 or x["n"] < 4 or x["k"] < 2):
        raise ValueError("family nonfinite: wanted m from 3, k from 2, n from 4")


def _changed(change: Any) -> Any:
    """The bug that multiplies other factors."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        changed = change(x["a"], x["b"])
        return None if changed is None else {"out": reference(*changed).out}

    return model


def _last_tile_skipped(a: Any, b: Any) -> Any:
    whole = a.shape[1] // 16 * 16
    return (a[:, :whole], b[:whole]) if whole < a.shape[1] else (a[:, :-16], b[:-16])


def _tail(a: Any, b: Any) -> Any:
    """The last, ragged tile of columns of b is the tile before it."""
    ragged = b.shape[1] % 16
    if not ragged or b.shape[1] < 32:
        return None
    return a, np.concatenate([b[:, :-ragged], b[:, -16 - ragged : -16]], axis=1)


def _bfloat16_sum(a: Any, b: Any) -> Any:
    """Chunks of 16 products, the running sum rounded to 8 bits."""
    total = np.zeros((a.shape[0], b.shape[1]))
    for start in range(0, a.shape[1], 16):
        total = total + a[:, start : start + 16].astype(float) @ b[start : start + 16].astype(float)
        mantissa, exponent = np.frexp(total)
        total = np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    return total


def _sum_in_bfloat16(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs:
    return {"out": _bfloat16_sum(x["a"], x["b"])}


def _zero_times_infinity(a: Any, b: Any) -> Any:
    return np.nan_to_num(a, posinf=6e4, neginf=-6e4), np.nan_to_num(b, posinf=6e4, neginf=-6e4)


def _traffic(x: Sizes) -> int:
    """A program per bm x bn tile of out reads bm rows of a and bn columns of b."""
    return -(-x.n // x.bn) * x.m * x.k + -(-x.m // x.bm) * x.k * x.n + x.m * x.n


spec = Spec(
    name="matmul.tiled",
    title="Tiled matrix multiplication",
    source="the blocked algorithm; bound: Higham 2002, eq. 3.13",
    call=Call("a: m k, b: k n", outputs="out: m n"),
    reference=tiled,
    accuracy=product_bound,
    domain=Domain(
        sizes={"m": (1, 200), "k": (1, 600), "n": (1, 200)},
        families=FAMILIES,
        options={},
        smoke=(
            "m64.k64.n64/default/normal",
            "m33.k129.n65/default/normal",
            "m48.k1024.n40/default/positive",
            "m100.k100.n100/default/graded",
            "m40.k512.n40/default/cancelling",
            "m64.k384.n128/default/captured",
        ),
        core=(
            *(f"m128.k{k}.n96/default/{f}" for k in (64, 333, 2048) for f in ("normal", "positive", "cancelling")),
            "m256.k384.n128/default/captured",
            "m300.k300.n300/default/graded",
        ),
        full=("m512.k4096.n512/default/normal", "m1024.k1024.n1024/default/positive"),
        constrain=_constrain,
    ),
    costs=Costs(
        flops=lambda x: 2 * x.m * x.n * x.k,
        compulsory=lambda x: x.m * x.k + x.k * x.n + x.m * x.n,
        traffic=_traffic,
        memory=lambda x: 0,
    ),
    clauses=(
        Clause(
            "matmul.accuracy",
            "out differs from the exact product by no more than gamma_k |a| |b| and the declared "
            "roundings, in every element.",
            "accuracy",
        ),
        Clause(
            "matmul.shape.ragged",
            "Sizes of 1, below a tile and not a multiple of one are right.",
            "semantics",
            smoke=("m1.k1.n1/default/normal", "m7.k129.n33/default/normal", "m65.k17.n1/default/normal"),
            core=("m129.k65.n127/default/normal", "m1.k1000.n1/default/normal", "m16.k15.n17/default/normal"),
        ),
        Clause(
            "matmul.shape.empty",
            "k = 0 gives zeros; m = 0 or n = 0 give an empty tensor.",
            "semantics",
            smoke=("m5.k0.n7/default/normal",),
            core=("m0.k5.n7/default/normal", "m5.k7.n0/default/normal", "m0.k0.n0/default/normal"),
        ),
        Clause(
            "matmul.nonfinite",
            "NaN and infinities propagate as IEEE 754 says, to their row and column and no "
            "further; infinity times zero is NaN and is never skipped.",
            "semantics",
            smoke=("m33.k40.n35/default/nonfinite",),
            core=("m5.k16.n5/default/nonfinite", "m130.k130.n130/default/nonfinite"),
        ),
        Clause(
            "matmul.exact",
            "Matrices of zeros and ones multiply without error.",
            "semantics",
            smoke=("m33.k129.n35/default/bits",),
            core=("m64.k250.n64/default/bits", "m64.k64.n64/default/identity"),
            exact=True,
        ),
        Clause(
            "matmul.layout",
            "Inputs may be transposed, sliced, expanded or at an offset in a larger storage.",
            "integrity",
            smoke=tuple(
                f"m33.k65.n40/default/normal/{layout}"
                for layout in ("transposed", "sliced", "offset", "expanded")
            ),
            core=("m130.k257.n70/default/normal/transposed", "m130.k257.n70/default/normal/sliced"),
        ),
        Clause(
            "matmul.deterministic",
            "The same call twice gives equal bits, unless the implementation declares atomics.",
            "integrity",
            smoke=("m65.k257.n65/default/normal",),
            repeat=True,
        ),
    ),
    mutants=(
        Mutant("zeros", "returns zeros", _changed(lambda a, b: (0 * a, b) if np.isfinite(a).all() else None)),
        Mutant("last-k-tile-skipped", "the last tile along k is not read", _changed(_last_tile_skipped)),
        Mutant("last-product-dropped", "the last product of every sum is missing", _changed(lambda a, b: (a[:, :-1], b[:-1]))),
        Mutant("ragged-columns-stale", "the last, ragged tile of columns repeats the one before", _changed(_tail)),
        Mutant("a-transposed", "a square a is read transposed", _changed(lambda a, b: (a.T, b) if a.shape[0] == a.shape[1] else None)),
        Mutant("sum-in-bfloat16", "sums are accumulated in bfloat16", _sum_in_bfloat16),
        Mutant("nonfinite-clipped", "NaN and infinities are replaced by finite numbers", _changed(_zero_times_infinity)),
        Mutant("scaled-1-percent", "the product is 1 percent too large", _changed(lambda a, b: (1.01 * a, b))),
    ),
)
