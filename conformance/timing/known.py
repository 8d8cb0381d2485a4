"""In a trusted worker: the known operations that times are compared with, and the machine's roofs.

No target is ever imported into the process that runs these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from kernelproof.conformance.running import DTYPES
from kernelproof.conformance.timing.clocks import clock_of
from kernelproof.impls.registration import Registration

_COPIED = 64 << 20
"""Bytes of a buffer that no cache of a CPU holds twice."""
_ENOUGH = 0.02
"""Seconds of a product from which its rate is believed."""


def product(a: torch.Tensor, b: torch.Tensor, **options: Any) -> torch.Tensor:
    """a b."""
    return torch.mm(a, b)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *others: torch.Tensor, **options: Any
) -> torch.Tensor:
    """Full attention, whatever the options: the yardstick depends on sizes alone."""
    shared = q.shape[1] != k.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=shared)


def copies(*inputs: torch.Tensor, **options: Any) -> tuple[torch.Tensor, ...]:
    """A copy of every input."""
    return tuple(x.clone() for x in inputs)


KNOWN: Mapping[str, Callable[..., Any]] = {
    "torch.mm": product,
    "SDPA": attention,
    "copy": copies,
}


def known_operation(name: str) -> Registration:
    """One of them, as if a target had registered it."""
    return Registration(spec="", name=name, target=KNOWN[name])


def measure_roofs(dtype: str, backend: str) -> dict[str, Any]:
    """Bytes per second of a copy (read and written), and FLOP/s of a matrix product.

    ``rate`` is None for a dtype in which torch multiplies nothing here. The best of several tries:
    a roof is what the machine can do when nobody disturbs it.
    """
    device = torch.device("cuda" if backend == "cuda" else "cpu")
    bandwidth = 2 * _COPIED * (8 if backend == "cuda" else 1) / _copying(device)
    return {"bandwidth": bandwidth, "rate": _multiplying(DTYPES[dtype], device)}


def _copying(device: torch.device) -> float:
    size = _COPIED * (8 if device.type == "cuda" else 1)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return _best(device, lambda: target.copy_(source))


def _multiplying(dtype: torch.dtype, device: torch.device) -> float | None:
    size, most = 256, 8192 if device.type == "cuda" else 2048
    while True:
        try:
            a = torch.ones(size, size, device=device).to(dtype)
            seconds = _best(device, partial(torch.mm, a, a))
        except RuntimeError:  # torch has no product of this dtype here
            return None
        if seconds > _ENOUGH or size == most:
            return float(2 * size**3 / seconds)
        size *= 2


def _best(device: torch.device, act: Callable[[], Any], tries: int = 6) -> float:
    clock, end = clock_of(device), time.perf_counter() + 0.3
    best = clock.time([act])[0]  # the first one also sets up what torch needs
    for _ in range(tries):
        best = min(best, clock.time([act])[0])
        if time.perf_counter() > end:
            break
    return best
