"""Closed forms of the steps of a key/value cache that holds ``tokens`` tokens per sequence.

A step costs what it adds and what it reads: an append moves its own tokens in and into the cache,
an attend reads every token that is held, once, whatever was computed before.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes


def _rows(x: Sizes) -> int:
    """Rows of queries, over all heads."""
    return x.b * x.hq * x.t


def _stored(x: Sizes) -> int:
    """Elements of the keys and values that are held."""
    return 2 * x.b * x.hkv * x.tokens * x.d


def _added(x: Sizes) -> int:
    """Elements of the keys and values of an append that are held after it."""
    return 2 * x.b * x.hkv * min(x.t, x.tokens) * x.d


def _outputs(x: Sizes) -> int:
    """out: b hq t d and lse: b hq t, in bytes."""
    return _rows(x) * (x.d * x.item + x.wide)


def _compulsory(x: Sizes) -> int:
    return (_rows(x) * x.d * (x.tokens > 0) + _stored(x)) * x.item + _outputs(x)


def _by_operators(x: Sizes) -> int:
    """Operator by operator, in the accumulator's format: queries are scaled; S is written, read for
    lse, made P in one pass, which is read once; what is narrower is converted, out from it."""
    queries = _rows(x) * x.d
    converted = 2 * queries + _stored(x) if x.item < x.wide else 0
    made = 2 * converted + 2 * queries + 5 * _rows(x) * x.tokens
    return _compulsory(x) + made * x.wide


ATTEND = Costs(
    flops=lambda x: 4 * _rows(x) * x.tokens * x.d,
    useful=lambda x: 4 * _rows(x) * x.tokens * x.d,
    exps=lambda x: 2 * _rows(x) * x.tokens,
    reads=lambda x: {"q": _rows(x) * x.d * (x.tokens > 0)},
    compulsory=_compulsory,
    traffic=_by_operators,
    cap=lambda x: 2 * _by_operators(x),
    memory=lambda x: (2 * _stored(x) + 4 * _rows(x) * (x.tokens + x.d)) * x.wide + WORKSPACE,
)
"""Costs of attention over a cache: linear in what it holds."""

APPEND = Costs(
    flops=lambda x: 0,
    useful=lambda x: 0,
    reads=lambda x: {name: _added(x) // 2 for name in "kv"},
    compulsory=lambda x: 2 * _added(x) * x.item,
    traffic=lambda x: 2 * _added(x) * x.item,
    cap=lambda x: 4 * _added(x) * x.item,
    memory=lambda x: WORKSPACE,
)
"""Costs of an append: what it adds, read once and written once, however much is held."""
