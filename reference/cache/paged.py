"""Attention over a paged key/value cache (PagedAttention, Kwon et al. 2023), exactly:

K_j of sequence i = k_pages[page_table[i, j // page], j mod page]        j < lengths[i]

and V_j likewise; then decoding attention of one query per sequence.
"""

from __future__ import annotations

from typing import Any

from kernelproof.reference.attention.flash_decoding import SplitAttention, flash_decoding
from kernelproof.reference.attention.scaled_dot_product import Array


def gather(pages: Array, page_table: Array) -> Array:
    """The pages: pages page hkv d of each row of a table: b n, one behind the other: b hkv tk d.

    What stands for no page (-1) gives some page: it lies beyond the length of its sequence.
    """
    b, n = page_table.shape
    _, page, hkv, d = pages.shape
    return pages[page_table].reshape(b, n * page, hkv, d).swapaxes(1, 2)


def paged(
    q: Array, k_pages: Array, v_pages: Array, page_table: Array, lengths: Array, **options: Any
) -> SplitAttention:
    """Attention of q: b hq 1 d over the first lengths: b tokens of the pages of each sequence."""
    k, v = (gather(pages, page_table) for pages in (k_pages, v_pages))
    return flash_decoding(q, k, v, lengths=lengths, **options)
