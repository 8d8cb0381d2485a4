"""Factors of a matrix product, checked before a kernel reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SUMMED_IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that lose nothing where sums are kept in float32."""


def check_factors(a: Tensor, b: Tensor, dtypes: Sequence[torch.dtype] = ()) -> None:
    """Raise ValueError, with what came, unless a: m k and b: k n have one floating dtype.

    dtypes: those that the kernel takes, if not all.
    """
    if a.dim() != 2 or b.dim() != 2:
        shapes = f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}"
        raise ValueError(f"{shapes}: wanted matrices, a: m k and b: k n")
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"a has {a.shape[1]} columns, b has {b.shape[0]} rows: wanted a: m k and b: k n"
        )
    if a.dtype != b.dtype or not a.is_floating_point():
        raise ValueError(f"a is {a.dtype}, b is {b.dtype}: wanted one floating dtype, convert them")
    if dtypes and a.dtype not in dtypes:
        wanted = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise ValueError(f"a and b are {a.dtype}: wanted {wanted}, convert them")
