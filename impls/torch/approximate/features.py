"""Orthogonal random features in torch: a QR factorisation per block, its signs made unique."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation


@implementation(
    "approximate.features",
    name="torch-features",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def features(gaussians: Tensor, norms: Tensor) -> Tensor:
    """Rows of gaussians: r d, made orthogonal in blocks of d, with these lengths: r.

    Everything is in at least float32, and rounded once.
    """
    r, d = gaussians.shape
    whole = r - r % d
    out = torch.empty((r, d), dtype=gaussians.dtype, device=gaussians.device)
    for part, size in ((slice(0, whole), d), (slice(whole, r), r - whole)):
        if size and part.stop > part.start:
            rows, lengths = gaussians[part].unflatten(0, (-1, size)), norms[part].view(-1, size)
            out[part].view(rows.shape).copy_(orthogonalised(rows, lengths))
    return out


def orthogonalised(rows: Tensor, lengths: Tensor) -> Tensor:
    """Rows in blocks, b n d, as orthogonal ones of these lengths, b n, in at least float32.

    LAPACK leaves signs to the numbers it meets; a diagonal of R above 0 makes them those of
    Gram-Schmidt, and directions of Gaussian rows uniform (Mezzadri 2007).
    """
    wide = torch.promote_types(rows.dtype, torch.float32)
    q, triangle = torch.linalg.qr(rows.to(wide).mT)
    signed = triangle.diagonal(dim1=-2, dim2=-1).sign() * lengths.to(wide)
    scaled: Tensor = q * signed[:, None, :]
    return scaled.mT
