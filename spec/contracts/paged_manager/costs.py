"""Closed forms of the steps of a paged key/value cache, in tokens of the sequences that are named.

An append moves its own tokens in and into pages, and those of one page that it copies. An attend
reads every token of every sequence it names, whatever the pool holds beside. All else is
bookkeeping.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kernelproof.spec.contracts.decoding.costs import output_bytes
from kernelproof.spec.contracts.paged.costs import PAGED, as_decoding, needed_elements
from kernelproof.spec.language import WORKSPACE, Costs, Formula, Sizes

ENTRY = 4
"""Bytes of an entry in a page table."""


def _paged(x: Sizes) -> Sizes:
    """The sequences that an attend names, as paged attention has them."""
    held = np.array([x.axes[f"tokens{n}"] for n in x.options.get("sequences", ())], np.int64)
    n = int(-(-held.max(initial=0) // x.page))
    axes = {"b": len(held), "n": n, **{name: x.axes[name] for name in _POOL}}
    return replace(x, axes=axes, options={"lengths": held})


_POOL = ("hq", "hkv", "d", "pages", "page")


def _of_paged(form: str) -> Formula:
    return lambda x: int(getattr(PAGED, form)(_paged(x)))


def _page(x: Sizes) -> int:
    """Elements of the keys and values in one page."""
    return 2 * x.page * x.hkv * x.d


def _compulsory(x: Sizes) -> int:
    """Forks may share pages: of all tokens, those of the longest sequence are sure to be read."""
    paged = _paged(x)
    held = paged.options["lengths"]
    read = 2 * int(held.max(initial=0)) * x.hkv * x.d + int((held > 0).sum()) * x.hq * x.d
    return read * x.item + output_bytes(as_decoding(paged))


ATTEND = Costs(
    flops=_of_paged("flops"),
    useful=_of_paged("useful"),
    exps=_of_paged("exps"),
    reads=lambda x: {"q": needed_elements(_paged(x))["q"]},
    compulsory=_compulsory,
    traffic=_of_paged("traffic"),
    cap=_of_paged("cap"),
    memory=_of_paged("memory"),
    widest_tiles=lambda x: PAGED.widest_tiles(_paged(x)),
)
"""Costs of attention over some sequences: those of paged attention, linear in their tokens."""


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
