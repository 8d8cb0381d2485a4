"""Caches that go wrong in the ways of caches, and a right one."""

from __future__ import annotations

import os

import torch

from kernelproof import implementation


def cache(base):
    """Register under the class's own name."""
    return implementation("cache.contiguous", name=base.__name__)(base)


@cache
class Right:
    """Keys and values of the tokens so far, copied."""

    def __init__(self, *, b, hkv, d, capacity, dtype, device=None):
        self.k = torch.zeros(b, hkv, 0, d, dtype=dtype, device=device)
        self.v = torch.zeros(b, hkv, 0, d, dtype=dtype, device=device)
        self.capacity = capacity

    def append(self, k, v):
        if self.k.shape[2] + k.shape[2] > self.capacity:
            raise OverflowError("full")
        self.k, self.v = torch.cat([self.k, k], 2), torch.cat([self.v, v], 2)

    def attend(self, q):
        g = q.shape[1] // self.k.shape[1]
        k, v = (x.repeat_interleave(g, 1) for x in (self.k, self.v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)


@cache
class KeepsReferences(Right):
    """Keeps the caller's tensors and joins them when asked."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.parts = []

    def append(self, k, v):
        self.parts.append((k, v))

    def attend(self, q):
        self.k, self.v = (torch.cat(x, 2) for x in zip(*self.parts, strict=True))
        return super().attend(q)


@cache
class AcceptsOverflow(Right):
    """Drops what does not fit without a word."""

    def append(self, k, v):
        left = self.capacity - self.k.shape[2]
        super().append(k[:, :, :left], v[:, :, :left])


@cache
class WritesThenRefuses(Right):
    """Raises, but the oldest tokens have made room by then."""

    def append(self, k, v):
        try:
            super().append(k, v)
        except OverflowError:
            t = k.shape[2]
            self.k = torch.cat([self.k[:, :, t:], k], 2)
            self.v = torch.cat([self.v[:, :, t:], v], 2)
            raise


@cache
class RefusesAll(Right):
    """Counts one token too many."""

    def append(self, k, v):
        raise OverflowError("full already")


STATE = {}


@cache
class SharedState(Right):
    """All objects of equal sizes share their tokens."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.__dict__ = STATE.setdefault(str(sizes), self.__dict__)
        self.capacity = 1 << 30


@cache
class ReturnsItsStorage(Right):
    """Writes every result into the same buffer."""

    def attend(self, q):
        out, lse = super().attend(q)
        self.out = getattr(self, "out", torch.zeros_like(out)).copy_(out)
        return self.out, lse


@cache
class AppendReturns(Right):
    """append has no outputs."""

    def append(self, k, v):
        super().append(k, v)
        return self.k


@cache
class RaisesAtBirth(Right):
    """Cannot be made."""

    def __init__(self, **sizes):
        raise ValueError("no cache today")


@cache
class ExitsInAppend(Right):
    """An exit is no refusal."""

    def append(self, k, v):
        os._exit(5)
