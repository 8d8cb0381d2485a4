"""Caches whose results are right and whose work is not, and one that is wrong after a wrap."""

from __future__ import annotations

import torch

from kernelproof import implementation
from kernelproof.impls.torch.cache.contiguous import Contiguous
from kernelproof.impls.torch.cache.rolling import Rolling


def of(spec):
    """Register under the class's own name."""
    return lambda base: implementation(spec, name=base.__name__, dtypes=["float32"])(base)


@of("cache.contiguous")
class Reallocates(Contiguous):
    """Copies all it holds at every append."""

    def append(self, k, v):
        self.k, self.v = self.k.clone(), self.v.clone()
        super().append(k, v)


@of("cache.contiguous")
class RecomputesPrefix(Contiguous):
    """Attends from every token to every token, for the sake of one."""

    def attend(self, q):
        hkv = self.k.shape[1]
        super().attend(self.k[:, :, : self.tokens].repeat_interleave(q.shape[1] // hkv, 1))
        return super().attend(q)


@of("cache.rolling")
class LosesTheWrap(Rolling):
    """Of an append that goes beyond the last slot the rest goes nowhere."""

    def append(self, k, v):
        room = self.k.shape[2] - self.tokens % self.k.shape[2]
        tokens = self.tokens + k.shape[2]
        super().append(k[:, :, :room], v[:, :, :room])
        self.tokens = tokens


@of("cache.rolling")
class Sound(Rolling):
    """The built-in one."""


@implementation(
    "attention.scaled_dot_product",
    name="forgets_key_seven",
    dtypes=["float32"],
    limits={"d": [16, 32]},
)
def forgets_key_seven(q, k, v, *, scale=None):
    """Right up to seven keys; the eighth is hidden."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale
    scores[..., 7:8] = float("-inf")
    return torch.softmax(scores, -1).nan_to_num() @ v, torch.logsumexp(scores, -1)
