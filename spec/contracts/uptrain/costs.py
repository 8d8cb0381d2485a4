"""Closed forms of uptraining: weights are read once, and pooled ones written once."""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes


def _bytes(x: Sizes) -> int:
    return x.e * (x.hq + x.hkv) * x.d * x.item


UPTRAIN_COSTS = Costs(
    flops=lambda x: 0,
    useful=lambda x: x.e * (x.hq - x.hkv) * x.d,
    # g - 1 additions and a division for every pooled weight
    operations=lambda x: x.e * x.hq * x.d,
    reads=lambda x: {"w": x.e * x.hq * x.d},
    compulsory=_bytes,
    traffic=_bytes,
    cap=lambda x: 2 * _bytes(x),
    # sum, mean and a copy of it, but nothing of the size of w
    memory=lambda x: 3 * x.e * x.hkv * x.d * x.wide + WORKSPACE,
)
"""Costs of the mean over groups of heads."""
