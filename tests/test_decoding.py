"""Decoding token by token, through each cache, is prefill."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernelproof.impls.torch.attention.grouped_query import grouped_query as prefilled
from kernelproof.impls.torch.cache.contiguous import Contiguous
from kernelproof.impls.torch.cache.paged_manager import PagedCache
from kernelproof.impls.torch.cache.rolling import Rolling
from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.captured import captured_windows
from kernelproof.spec.rounding import resolve_precision

SIZES = {"hkv": 2, "d": 32, "dtype": torch.float32}


def paged_loop(q, k, v):
    cache = PagedCache(pages=20, page=16, **SIZES)
    cache.allocate(sequence=0)
    for t in range(q.shape[2]):
        at = slice(t, t + 1)
        cache.append(k[:, :, at], v[:, :, at], sequence=0)
        yield cache.attend(q[:, :, at], sequences=[0])


def loop_of(make):
    def loop(q, k, v):
        cache = make()
        for t in range(q.shape[2]):
            at = slice(t, t + 1)
            cache.append(k[:, :, at], v[:, :, at])
            yield cache.attend(q[:, :, at])

    return loop


LOOPS = {
    "contiguous": loop_of(lambda: Contiguous(b=1, capacity=256, **SIZES)),
    "rolling": loop_of(lambda: Rolling(b=1, window=256, **SIZES)),
    "paged": paged_loop,
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_decode_loop_over_captured_activations_is_prefill_row_by_row(name):
    q, k, v = (
        captured_windows(role, heads, 256, 32, np.array([256]))
        for role, heads in (("q", 4), ("k", 2), ("v", 2))
    )
    exact = grouped_query(q, k, v, causal="top-left")
    rounding = resolve_precision("strict32", "float32").rounding("float32")
    bounds = SOFTMAX.worst_case(exact, rounding)
    given = [torch.from_numpy(x).float() for x in (q, k, v)]
    steps = list(LOOPS[name](*given))
    decoded = [torch.cat(parts, 2).double().numpy() for parts in zip(*steps, strict=True)]
    prefill = [x.double().numpy() for x in prefilled(*given, causal="top-left")]
    for output, by_step, at_once in zip(("out", "lse"), decoded, prefill, strict=True):
        assert (abs(by_step - getattr(exact, output)) <= bounds[output]).all()
        assert (abs(by_step - at_once) <= 2 * bounds[output]).all()
