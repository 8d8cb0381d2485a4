"""Paged attention (Kwon et al. 2023), operator by operator: pages are gathered first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.attention.flash_decoding import attend, dealt, merge


@implementation(
    "cache.paged",
    name="torch-paged",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def paged_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    *,
    splits: int | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq 1 d over the first lengths: b tokens of the pages of each sequence.

    k_pages, v_pages: pages page hkv d; page_table: b n. Sequence after sequence: of the table, and
    of the pool, nothing beyond a length is looked at but the rest of its last page. Everything is
    in at least float32; only out is rounded to the inputs' dtype.
    """
    (b, hq, _, d), (_, page, hkv, _) = q.shape, k_pages.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.empty(b, hq, 1, d, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, hq, 1, dtype=wide, device=q.device)
    queries = q.to(wide) * (1 / math.sqrt(d) if scale is None else scale)
    queries = queries.reshape(b, hkv, hq // max(hkv, 1), d)
    for sequence, n in enumerate(lengths.tolist()):
        size = max(1, -(-n // (splits or 1)))
        held = page_table[sequence, : -(-n // page)]
        keys, values = (dealt(_gather(x, held, n).to(wide), size) for x in (k_pages, v_pages))
        merged, total = merge(*attend(queries[sequence], keys, values, n))
        out[sequence], lse[sequence] = merged.view(hq, 1, d), total.view(hq, 1)
    return out, lse


def _gather(pages: Tensor, held: Tensor, n: int) -> Tensor:
    """The first n tokens of some pages: pages page hkv d, by head: hkv n d."""
    tokens = pages[held].flatten(0, 1)[:n]
    return tokens.transpose(0, 1).contiguous()  # once, where each product would copy it
