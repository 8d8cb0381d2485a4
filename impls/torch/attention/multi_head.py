"""Multi-head, grouped-query and multi-query layers: projections around attention's operators."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.attention.scaled_dot_product import eager


@implementation(
    "attention.multi_head",
    name="torch-multi-head",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
    gradients=True,
)
def multi_head(
    x_q: Tensor,
    x_kv: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    *,
    heads: int,
    kv_heads: int,
    biases: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
    causal: str | None = None,
    scale: float | None = None,
) -> Tensor:
    """The layer on x_q: b tq e and x_kv: b tk e, for w_q: e hq*d, w_k: e hkv*d, w_v: e hkv*dv and
    w_o: hq*dv e. biases: b_q, b_k, b_v, b_o.

    Everything is in at least float32; only out is rounded to the inputs' dtype.
    """
    wide = torch.promote_types(x_q.dtype, torch.float32)
    queries, keys = x_q.to(wide), x_kv.to(wide)
    b_q, b_k, b_v, b_o = biases or (None, None, None, None)
    q = split_heads(project(queries, w_q, b_q), heads)
    k = split_heads(project(keys, w_k, b_k), kv_heads)
    v = split_heads(project(keys, w_v, b_v), kv_heads)
    out, _ = eager(q, k, v, mask=mask, causal=causal, scale=scale)
    return project(join_heads(out), w_o, b_o).to(x_q.dtype)


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x w + b in the dtype of x: ... n, for w: n m and b: m."""
    rows, weight = x.flatten(0, -2), weight.to(x.dtype)
    out = rows @ weight if bias is None else torch.addmm(bias.to(x.dtype), rows, weight)
    return out.view(*x.shape[:-1], weight.shape[1])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """A copy of x: b t heads*d as b heads t d."""
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart.transpose(1, 2).clone(memory_format=torch.contiguous_format)


def join_heads(x: Tensor) -> Tensor:
    """A copy of x: b heads t d as b t heads*d."""
    return x.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)
