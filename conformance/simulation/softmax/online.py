"""Online softmax with every rounding in the open: tiles with a running maximum and sum."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.conformance.simulation.softmax.safe import (
    divided,
    numbers,
    shifted_exps,
    total_of,
)
from kernelproof.reference.softmax.online import OnlineSoftmax


class _State(NamedTuple):
    """Maximum and sum of a part of each row: r 1 each."""

    top: Tensor
    total: Tensor


def _merge(one: _State, other: _State, r: Arithmetic) -> _State:
    top = torch.maximum(one.top, other.top)
    parts = [r("sum", each.total * shifted_exps(each.top, top, r)) for each in (one, other)]
    return _State(top, r("sum", parts[0] + parts[1]))


def _visit(state: _State, x: Tensor, r: Arithmetic) -> _State:
    """One tile (Alg. 3, lines 3 to 5)."""
    top = torch.maximum(state.top, x.amax(-1, keepdim=True))
    before = r("sum", state.total * shifted_exps(state.top, top, r))
    return _State(top, r("sum", before + total_of(shifted_exps(x, top, r), r)))


def tiled_softmax(
    exact: OnlineSoftmax, r: Arithmetic, *, tile: int = 64, splits: int = 1
) -> dict[str, Tensor]:
    """out (r n) and lse (r), each row in ``splits`` parts that are merged at the end."""
    x = numbers(exact)
    nothing = _State(x.new_full((len(x), 1), -torch.inf), x.new_zeros(len(x), 1))
    state = nothing
    for part in x.tensor_split(splits, dim=1) if x.numel() else ():
        own = nothing
        for first in range(0, part.shape[1], tile):
            own = _visit(own, part[:, first : first + tile], r)
        state = _merge(state, own, r) if splits > 1 else own
    lse = r("lse", r("logits", state.top + r("logits", torch.log(state.total))))[:, 0]
    return {"out": divided(shifted_exps(x, state.top, r), state.total, r), "lse": lse}


FAMILY = Family(
    usual=tiled_softmax,
    wide=partial(tiled_softmax, tile=128),
    eager=partial(tiled_softmax, tile=1 << 20),
    others={
        "narrow-tiles": partial(tiled_softmax, tile=16),
        "wide-tiles": partial(tiled_softmax, tile=1024),
        "split-row": partial(tiled_softmax, tile=32, splits=3),
    },
    size=lambda exact: exact.x.size,
)
