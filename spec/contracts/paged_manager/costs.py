"""Closed forms of the steps of a paged key/value cache, in tokens of the sequences that are named.

An append moves its own tokens in and into pages, and those of one page that it copies. An attend
reads every token of every sequence it names, whatever the pool holds beside. All else is
bookkeeping.
"""

from __future__ import annotations

from dataclasses import replace

from kernelproof.spec.language import WORKSPACE, Costs, Formula, Sizes

ENTRY = 4
"""Bytes of an entry in a page table."""


def _each(x: Sizes) -> list[Sizes]:
    """The sizes of every sequence that is named, whose tokens are ``tokens``."""
    held = [x.axes[f"tokens{sequence}"] for sequence in x.options.get("sequences", ())]
    return [replace(x, axes={**x.axes, "tokens": n}) for n in held]


def _summed(form: Formula) -> Formula:
    return lambda x: sum(map(form, _each(x)))


def _pages(x: Sizes) -> int:
    """Pages of one sequence."""
    return -(-x.tokens // x.page)


def _page(x: Sizes) -> int:
    """Elements of the keys and values in one page."""
    return 2 * x.page * x.hkv * x.d


def _stored(x: Sizes) -> int:
    """Elements of the keys and values of one sequence."""
    return 2 * x.tokens * x.hkv * x.d


def _compulsory(x: Sizes) -> int:
    """Forks may share pages: of all tokens, those of the longest sequence are sure to be read."""
    each = _each(x)
    longest = max((one.tokens for one in each), default=0)
    read = 2 * longest * x.hkv * x.d + sum(x.hq * x.d for one in each if one.tokens)
    return read * x.item + len(each) * x.hq * (x.d * x.item + x.wide)


def _by_operators(x: Sizes) -> int:
    """Of one sequence, operator by operator: its pages are gathered, by the table that is read for
    keys and for values; the query is scaled; S is written, read for lse, made P in one pass, which
    is read once; out and lse go to their places in the batch. Of inputs narrower than the
    accumulator the query, keys, values and out are converted."""
    rows = x.hq * x.d
    gathered = 2 * _pages(x) * (_page(x) * x.item + ENTRY)
    converted = (2 * rows + _stored(x)) * (x.item + x.wide) if x.item < x.wide else 0
    made = (4 * rows + _stored(x) + 5 * x.hq * x.tokens + x.hq) * x.wide
    return gathered + converted + made + 2 * (rows * x.item + x.hq * x.wide)


def _held(x: Sizes) -> int:
    """Bytes that attention over one sequence holds: its pages, copied and converted, and S."""
    copied = _pages(x) * _page(x) * (x.item + x.wide)
    return copied + 4 * x.hq * (x.tokens + x.d) * x.wide


ATTEND = Costs(
    flops=_summed(lambda x: 4 * x.hq * x.tokens * x.d),
    useful=_summed(lambda x: 4 * x.hq * x.tokens * x.d),
    exps=_summed(lambda x: 2 * x.hq * x.tokens),
    reads=lambda x: {"q": sum(x.hq * x.d for one in _each(x) if one.tokens)},
    compulsory=_compulsory,
    traffic=_summed(_by_operators),
    cap=_summed(lambda x: 2 * _by_operators(x)),
    memory=lambda x: sum(map(_held, _each(x))) + WORKSPACE,
)
"""Costs of attention over some sequences: linear in their tokens."""


def _added(x: Sizes) -> int:
    """Elements of the keys and values that an append brings."""
    return 2 * x.t * x.hkv * x.d


def _whole_pages(x: Sizes) -> int:
    """Pages that an append fills from their first token to their last."""
    end = x.axes[f"tokens{x.options['sequence']}"]
    return max(end // x.page - -(-(end - x.t) // x.page), 0)


def _moved(x: Sizes) -> int:
    """Its tokens in and into pages, those of a page that is copied out and in, and the numbers
    (8 bytes, for keys and for values) of pages that are filled as a whole."""
    copied = 2 * x.copied * x.hkv * x.d
    return 2 * (_added(x) + copied) * x.item + 16 * _whole_pages(x)


APPEND = Costs(
    flops=lambda x: 0,
    useful=lambda x: 0,
    reads=lambda x: {name: _added(x) // 2 for name in "kv"},
    compulsory=lambda x: 2 * _added(x) * x.item,
    traffic=_moved,
    cap=lambda x: 2 * (2 * _added(x) + 2 * _page(x) * (x.copied > 0)) * x.item + 16 * x.pages,
    memory=lambda x: WORKSPACE,
)
"""Costs of an append: what it adds, and at most one page that it copies, however much is held."""

BOOKKEEPING = Costs(
    flops=lambda x: 0,
    useful=lambda x: 0,
    compulsory=lambda x: 0,
    traffic=lambda x: 0,
    cap=lambda x: 4 * ENTRY * x.pages,
    memory=lambda x: WORKSPACE,
)
"""Costs of what moves no keys or values: entries of tables and counts of holders at most, each
read and written."""

UPDATES = {
    "append": APPEND,
    **dict.fromkeys(("allocate", "fork", "free"), BOOKKEEPING),
}
