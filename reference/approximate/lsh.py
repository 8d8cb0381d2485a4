"""LSH attention (Kitaev, Kaiser & Levskaya 2020, the Reformer): tokens attend within buckets.

bucket_i = argmax [x_i R; -x_i R]     k_j = x_j / |x_j|     S_ij = x_i·k_j / sqrt(d) + log n_ij

R: d half is a random rotation, another in every round, and makes 2 half buckets. In a round the
tokens are sorted by (bucket, position) and cut into chunks of ceil(t / half), twice a mean bucket;
where half does not divide t the last chunk is shorter, or there are fewer than half. Token i may
attend to another token j of its bucket that stands in its own chunk or in the one before; the
first chunk has none before it. n_ij is 1 for a pair that any round allows (so has it the paper,
which subtracts log of their number in each), or, where duplicates are counted, that number.

A token that no round allows another one is alone: all rounds allow it itself, and no others do.
Its out is its v, and its lse its own logit |x_i| / sqrt(d), with log of the rounds where duplicates
are counted. (The paper has 10^5 subtracted from the logit of a token with itself; then a token with
company gives itself a weight of 0, and one without the same out, and an lse without its digits.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernelproof.reference.attention.scaled_dot_product import Array, Attention, attend


@dataclass(frozen=True)
class HashedAttention(Attention):
    """Attention of x = q over its unit-norm k, which pairs each round allows (rounds b h t t), and
    whether those that several rounds allow count as often."""

    rotations: Array
    allowed: Array
    counted: bool


def lsh(
    qk: Array, v: Array, rotations: Array, *, causal: str | None = None, duplicates: str = "once"
) -> HashedAttention:
    """LSH attention of qk: b h t d, no token zero, over v: b h t dv; rotations: rounds d half.

    causal: j <= i, whichever corner it names. duplicates: once or counted.
    """
    chunks = chunks_of(hash_tokens(qk, rotations), rotations.shape[-1])
    return attend_allowed(qk, v, rotations, allow(*chunks, causal), duplicates == "counted")


def hash_tokens(x: Array, rotations: Array) -> Array:
    """The bucket of each token, from 0 to 2 half - 1: rounds b h t."""
    turned = x @ rotations[:, None, None]
    return np.asarray(np.concatenate([turned, -turned], -1).argmax(-1))


def chunks_of(buckets: Array, half: int) -> tuple[Array, Array]:
    """Bucket and chunk of each token: rounds b h t each. The sort is stable."""
    place = buckets.argsort(-1, kind="stable").argsort(-1)
    return buckets, place // max(-(-buckets.shape[-1] // half), 1)


def allow(bucket: Array, chunk: Array, causal: str | None) -> Array:
    """Which token j another one i may attend to in each round, lone ones themselves."""
    i, j = np.arange(bucket.shape[-1])[:, None], np.arange(bucket.shape[-1])
    behind = chunk[..., :, None] - chunk[..., None, :]
    near = (bucket[..., :, None] == bucket[..., None, :]) & ((behind == 0) | (behind == 1))
    return with_lone(near & (j != i if causal is None else j < i))


def with_lone(others: Array) -> Array:
    """The same, and those alone in all rounds (b h t) with themselves."""
    alone = np.asarray(~others.any((0, -1)))
    return np.asarray(others | (alone[..., None] & np.eye(others.shape[-1], dtype=bool)))


def attend_allowed(
    x: Array, v: Array, rotations: Array, allowed: Array, counted: bool
) -> HashedAttention:
    """Dense attention over the pairs that any round allows."""
    keys, scale = x / np.sqrt((x**2).sum(-1, keepdims=True)), 1 / np.sqrt(x.dtype.type(x.shape[-1]))
    many = allowed.sum(0) if counted else allowed.any(0)
    with np.errstate(divide="ignore"):
        scores = scale * (x @ keys.swapaxes(-1, -2)) + np.log(many.astype(x.dtype))
    exact = attend(x, keys, v, scale, scores)
    return HashedAttention(**vars(exact), rotations=rotations, allowed=allowed, counted=counted)
