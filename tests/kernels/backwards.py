"""Attention whose way back is right, wrong, or not there."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch.utils.checkpoint import checkpoint

from kernelproof import implementation

SPEC = "attention.scaled_dot_product"


def attention(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.softmax(q @ k.mT * scale, -1) @ v


class Backward(torch.autograd.Function):
    """Gradients by hand; subclasses get something wrong."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return attention(q, k, v)

    @classmethod
    def delta(cls, d_out, out):
        return (d_out * out).sum(-1, keepdim=True)

    @classmethod
    def backward(cls, ctx, d_out):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        probs = torch.softmax(q @ k.mT * scale, -1)
        d_scores = probs * (d_out @ v.mT - cls.delta(d_out, probs @ v))
        return cls.scaled(d_scores @ k, scale), d_scores.mT @ q * scale, probs.mT @ d_out

    @classmethod
    def scaled(cls, dq, scale):
        return dq * scale


class DeltaOmitted(Backward):
    @classmethod
    def delta(cls, d_out, out):
        return 0.0


class ScaleMissing(Backward):
    @classmethod
    def scaled(cls, dq, scale):
        return dq


class SpoilsOutput(Backward):
    """The way back uses the memory of what the forward pass returned."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        ctx.out = attention(q, k, v)
        return ctx.out

    @classmethod
    def backward(cls, ctx, d_out):
        gradients = super().backward(ctx, d_out)
        ctx.out.detach().zero_()
        return gradients


class OneBuffer(Backward):
    """Every call returns its gradients in the same memory."""

    kept: ClassVar = {}

    @classmethod
    def backward(cls, ctx, d_out):
        made = super().backward(ctx, d_out)
        buffers = cls.kept.setdefault(d_out.shape, [torch.empty_like(x) for x in made])
        return tuple(buffer.copy_(x) for buffer, x in zip(buffers, made, strict=True))


class Raises(Backward):
    @classmethod
    def delta(cls, d_out, out):
        raise ArithmeticError("the way back is blocked")


def claim(name, function, **claims):
    def kernel(q, k, v):
        return function(q, k, v)

    implementation(SPEC, name=name, returns=claims.pop("returns", ["out"]), gradients=True)(kernel)


def of_first_key(q, k, v):
    return attention(q, k.detach(), v)


def changed_in_place(q, k, v):
    q.mul_(1.0)
    return attention(q, k, v)


claim("by autograd", attention)
claim("by hand", Backward.apply)
claim("by checkpoint", lambda *qkv: checkpoint(attention, *qkv, use_reentrant=True))
claim("spoils its output", SpoilsOutput.apply)
claim("one buffer", OneBuffer.apply)
claim("delta omitted", DeltaOmitted.apply)
claim("scale missing", ScaleMissing.apply)
claim("keys detached", of_first_key)
claim("all detached", lambda q, k, v: attention(q, k, v).detach())
claim("in place", changed_in_place)
claim("raises", Raises.apply)
claim("nothing", lambda q, k, v: None)
claim("half a result", lambda q, k, v: attention(q, k, v)[:, :1])
claim("lse alone", lambda q, k, v: torch.logsumexp(q @ k.mT, -1), returns=["lse"])
implementation(SPEC, name="undeclared", returns=["out"])(lambda q, k, v: attention(q, k, v))
