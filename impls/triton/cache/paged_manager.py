"""A paged key/value cache whose attention is one Triton kernel over all sequences of a batch."""

from __future__ import annotations

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.cache import paged_manager
from kernelproof.impls.triton.cache.paged import paged_attention


@implementation(
    "cache.paged_manager",
    name="triton-paged-manager",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257)},
)
class PagedCache(paged_manager.PagedCache):
    """The same bookkeeping; keys are read where they lie, and none is copied to be attended to."""

    attention = staticmethod(paged_attention)
