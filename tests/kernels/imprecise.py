"""Kernels whose roundings hide below the worst case; each returns out alone."""

import torch

from kernelproof import implementation


def attend(q, k, v, causal, scale, *, product, divide):
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = q.float() @ k.float().mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    assert causal is None
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return divide(product(weights, v), weights.sum(-1, keepdim=True)).to(q.dtype)


def in_float16(weights, v):
    """Every 16 products are added to a sum in float16."""
    total = torch.zeros(*weights.shape[:-1], v.shape[-1], dtype=torch.float16)
    for first in range(0, v.shape[-2], 16):
        keys = slice(first, first + 16)
        part = weights[..., keys].half().float() @ v[..., keys, :].float()
        total = (total.float() + part).half()
    return total.float()


def plain(weights, v):
    return weights.to(v.dtype).float() @ v.float()


@implementation("attention.flash", name="narrow-accumulator", dtypes=["float16"], returns=["out"])
def narrow_accumulator(q, k, v, *, causal=None, scale=None):
    return attend(q, k, v, causal, scale, product=in_float16, divide=torch.div)


@implementation("attention.flash", name="biased-division", dtypes=["bfloat16"], returns=["out"])
def biased_division(q, k, v, *, causal=None, scale=None):
    return attend(q, k, v, causal, scale, product=plain, divide=lambda x, y: x / y * 0.999)


@implementation("attention.flash", name="right", dtypes=["float16", "bfloat16"], returns=["out"])
def right(q, k, v, *, causal=None, scale=None):
    return attend(q, k, v, causal, scale, product=plain, divide=torch.div)
