"""Registrations that cannot be true: one mistake each, and one that is right."""

from __future__ import annotations

import torch

from kernelproof import implementation

SPEC = "attention.scaled_dot_product"


def attention(q, k, v, *, causal=None, scale=None):
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def claim(name, spec=SPEC, **claims):
    implementation(spec, name=name, returns=claims.pop("returns", ["out"]), **claims)(attention)


def plain(q, k, v):
    return attention(q, k, v)


class Half:
    """A cache that cannot be read."""

    def __init__(self, **sizes):
        """Nothing."""

    def append(self, k, v):
        """Nothing."""


implementation(SPEC, name="right", returns=["out"])(plain)
claim("misspelt spec", spec="attention.scaled_dot_produkt")
claim("made-up spec", spec="attention.zzz")
claim("layer without its heads", spec="attention.multi_head")
claim("empty spec", spec="")
claim("spec that is a number", spec=7)
claim("misspelt dtype", dtypes=["float32", "floot16"])
claim("dtype of torch", dtypes=[torch.float32])
claim("no dtype", dtypes=[])
claim("misspelt backend", backends=["gpu"])
claim("no backend", backends=[])
claim("misspelt limit", limits={"dd": [64]})
claim("impossible limit", limits={"d": [7]})
claim("limit that is a string", limits={"d": "64"})
claim("impossible option limit", limits={"causal": ["bottom-left"]})
claim("option limit without the default", limits={"causal": ["top-left"], "tk": [1]})
claim("misspelt output", returns=["output"])
claim("output twice", returns=["out", "out"])
claim("no output", returns=[])
claim("misspelt preset", precision="strikt32")
claim("misspelt field", precision={"acumulate": "float32"})
claim("preset of no dtype", precision={"float31": "strict32"})
claim("narrow accumulator", precision={"accumulate": "float16"})
claim("precision that is a number", precision=16)
claim("misspelt clause", deviates={"attention.nan.kwery": "known"})
claim("tiles that are numbers", tiles={"br": 64})
claim("gradients of a spec without", spec="matmul.naive", gradients=True)
claim("gradients at another dtype", gradients=["float16"])
claim("gradients that are a number", gradients=1)
claim("function for a program", spec="cache.contiguous", returns=None)
implementation(SPEC, name="class for a function", returns=["out"])(Half)
implementation("cache.contiguous", name="half a program")(Half)
claim("twice", returns=["out"])
claim("twice", returns=["out"])


@implementation(SPEC, returns=["out"])
def defined_twice(q, k, v):
    return attention(q, k, v)


@implementation(SPEC, returns=["out"])
def defined_twice(q, k, v):  # noqa: F811
    return attention(q, k, v)
