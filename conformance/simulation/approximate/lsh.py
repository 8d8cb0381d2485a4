"""LSH attention with every rounding in the open: over the union of all rounds, and round by round.

Buckets are those of the record; a bug that changes them is no rounding of out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.flash_decoding import merged_by_lse
from kernelproof.conformance.simulation.attention.scaled_dot_product import (
    attention_family,
    tiled_attention,
)
from kernelproof.conformance.simulation.family import Simulation
from kernelproof.reference.approximate.lsh import HashedAttention


def _counted(exact: HashedAttention, products: Tensor, keys: slice, r: Arithmetic) -> Tensor:
    """log n is added to a logit where duplicates are counted."""
    return r("logits", products + _log_many(exact, keys, r)) if exact.counted else products


def _shared(exact: HashedAttention, products: Tensor, keys: slice, r: Arithmetic) -> Tensor:
    """log n is subtracted in each of n rounds where they are not."""
    return products if exact.counted else r("logits", products - _log_many(exact, keys, r))


def _log_many(exact: HashedAttention, keys: slice, rounded: Arithmetic) -> Tensor:
    many = torch.from_numpy(np.asarray(exact.allowed, np.float64).sum(0))[..., keys]
    return rounded("logits", torch.log(many.clamp(min=1)))


def _round_by_round(exact: HashedAttention, rounded: Arithmetic) -> dict[str, Tensor]:
    """Each round has an out and an lse, which are merged."""
    parts = []
    for allowed in np.asarray(exact.allowed, bool):
        scores = np.where(allowed, exact.scores, -np.inf)
        parts.append(tiled_attention(replace(exact, scores=scores), rounded, after=_shared))
    return merged_by_lse(parts, rounded)


def _with_stored_keys(simulation: Simulation) -> Simulation:
    """The same, its keys rounded: where scaled queries are stored, as these are."""

    def simulate(exact: HashedAttention, r: Arithmetic) -> dict[str, Tensor]:
        keys = torch.from_numpy(np.asarray(exact.k, np.float64))
        keys = r("scaled_query" if r.names("scaled_query") else "logits", keys)
        return simulation(replace(exact, k=keys.numpy()), r)

    return simulate


_ATTENTION = attention_family(after=_counted)

FAMILY = replace(
    _ATTENTION,
    usual=_with_stored_keys(_ATTENTION.usual),
    wide=_with_stored_keys(_ATTENTION.wide),
    eager=_with_stored_keys(_ATTENTION.eager),
    others={
        **{name: _with_stored_keys(each) for name, each in _ATTENTION.others.items()},
        "round-by-round": _with_stored_keys(_round_by_round),
    },
)
"""Attention within buckets, its rounds together or one by one."""
