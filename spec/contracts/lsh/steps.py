"""The steps of LSH attention, any of which may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.lsh import (
    HashedAttention,
    attend_allowed,
    chunks_of,
    hash_tokens,
    with_lone,
)
from kernelproof.spec.contracts.attention.mutants import outputs_of
from kernelproof.spec.language import Model, Outputs

Array = npt.NDArray[Any]
Options = Mapping[str, Any]


class Steps(NamedTuple):
    """The steps of the algorithm, any of which may be wrong.

    chunks: bucket and chunk, from buckets and half. near: which chunks a chunk sees, from how far
    another is behind it, and how many there are. others: whom a token may attend to under causal,
    from i, j. lone: what is added to the pairs of others.
    """

    buckets: Callable[[Array, Array], Array] = hash_tokens
    chunks: Callable[[Array, int], tuple[Array, Array]] = chunks_of
    near: Callable[[Array, Array], Array] = lambda behind, n: (behind == 0) | (behind == 1)
    same: Callable[[Array], Array] = lambda bucket: bucket[..., :, None] == bucket[..., None, :]
    others: Callable[[Array, Array, bool], Array] = lambda i, j, causal: j < i if causal else j != i
    lone: Callable[[Array], Array] = with_lone


def with_steps(**wrong: Any) -> Model:
    """The bug that takes these steps in another way."""
    steps = Steps(**wrong)

    def model(reference: Any, x: Mapping[str, Any], options: Options) -> Outputs | None:
        if not x["qk"].size:
            return None
        return outputs_of(attended(x, options, pairs_allowed(steps, x, options)))

    return model


def pairs_allowed(steps: Steps, x: Mapping[str, Any], options: Options) -> Array:
    """What ``with_lone`` makes of the pairs of each round, by these steps: rounds b h t t."""
    half, t = x["rotations"].shape[-1], x["qk"].shape[-2]
    bucket, chunk = steps.chunks(steps.buckets(x["qk"], x["rotations"]), half)
    behind = chunk[..., :, None] - chunk[..., None, :]
    near = steps.same(bucket) & steps.near(behind, chunk.max(initial=0) + 1)
    i, j = np.arange(t)[:, None], np.arange(t)
    return steps.lone(near & steps.others(i, j, "causal" in options))


def attended(x: Mapping[str, Any], options: Options, allowed: Array) -> HashedAttention:
    """Attention over these pairs; of rows that have none it is NaN."""
    counted = options.get("duplicates") == "counted"
    with np.errstate(all="ignore"):
        return attend_allowed(x["qk"], x["v"], x["rotations"], allowed, counted)
