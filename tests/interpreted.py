"""Runs the functions of arithmetic_kernels.py on Triton's interpreter, corrected, and compares.

Test modules take ``tl`` from here, because triton may be imported only after what is done here.
"""

from __future__ import annotations

import os

# the interpreter is chosen where a kernel is decorated: those of triton itself at its import
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
import triton.language as tl
from kernels import arithmetic_kernels as k

from kernelproof.conformance.interpreter import launching, triton_compat

launching.install()

TYPES = {
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.float8_e5m2: tl.float8e5,
    torch.float8_e4m3fn: tl.float8e4nv,
    torch.int16: tl.int16,
    torch.int32: tl.int32,
    torch.uint8: tl.uint8,
}
FP8 = (torch.float8_e5m2, torch.float8_e4m3fn)
SMALL = (torch.bfloat16, torch.float16, *FP8)
FLOATS = (*SMALL, torch.float32, torch.float64)
UNIT = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}


def not_on_triton_3_6(reason):
    """What an old version cannot do: see triton_compat."""
    return pytest.mark.skipif(triton_compat.IS_3_6, reason=f"Triton 3.6: {reason}")


def apply(function, *inputs, size=None, dtype=None):
    """The result of a small Triton function on whole tensors, flat."""
    inputs = [x.contiguous().view(-1) for x in inputs]
    out = torch.zeros(size or len(inputs[0]), dtype=dtype or inputs[0].dtype)
    lengths = [len(x) for x in inputs][: 2 if len(inputs) < 3 else 1]
    kernel = (k.apply_1, k.apply_2, k.apply_3)[len(inputs) - 1]
    kernel[(1,)](*inputs, out, *lengths, len(out), function)
    return out


def check_equal(got, want, *, signs=True):
    """The same numbers, signs of zeros included; any NaN is as good as another."""
    assert got.dtype == want.dtype
    got, want = got.double().flatten(), want.double().flatten()
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert not signs or torch.equal(got.signbit() | got.isnan(), want.signbit() | want.isnan())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=generator(seed)).to(dtype)


def patterns(dtype, seed=None):
    """Every number of a format of 8 or 16 bits, 65,536 of others; in random order with a seed."""
    if dtype.itemsize > 2:
        high = noise(2**16, dtype=dtype, seed=seed or 0) * torch.logspace(-46, 38, 2**16).to(dtype)
        high[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])
        return high if seed is None else high[torch.randperm(2**16, generator=generator(seed))]
    whole = torch.arange(2**16, dtype=torch.int32)
    if seed is not None:
        whole = whole[torch.randperm(2**16, generator=generator(seed))]
    return whole.to(torch.uint8 if dtype.itemsize == 1 else torch.uint16).view(dtype)


def next_up(x):
    return torch.nextafter(x, torch.full_like(x, torch.inf))


def next_down(x):
    return torch.nextafter(x, torch.full_like(x, -torch.inf))
