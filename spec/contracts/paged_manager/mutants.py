"""Planted bugs of a paged key/value cache: each gets one step of its bookkeeping wrong.

What they hold follows from every request that the reference got, those that it refused included: a
page that leaks shows in an append that is refused too early, whose tokens are then missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.mutants import ROUNDING_MUTANTS, changed_result
from kernelproof.spec.contracts.paged_manager.pages import Pages
from kernelproof.spec.language import Model, Outputs, mutants

Array = npt.NDArray[Any]


def _kept_by(broken: type[Pages]) -> Model:
    """The bug of a cache that keeps its pages like this."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        try:
            found = broken.after(reference.__self__).attend(x["q"], **options)
        except LookupError:  # it lost a sequence that it was told of
            return {"out": np.full(x["q"].shape, np.nan)}
        return {"out": found.out, "lse": found.lse}

    return model


class _OneTokenLess(Pages):
    def read(self, sequence: int) -> tuple[Array, Array]:
        return self.gather(self.tables[sequence], range(self.lengths[sequence] - 1))


class _FirstTokenLost(Pages):
    def read(self, sequence: int) -> tuple[Array, Array]:
        return self.gather(self.tables[sequence], range(1, self.lengths[sequence]))


class _TailIncluded(Pages):
    def read(self, sequence: int) -> tuple[Array, Array]:
        table = self.tables[sequence]
        return self.gather(table, range(len(table) * self.page))


class _TableOfNeighbour(Pages):
    def named(self, sequences: tuple[int, ...]) -> tuple[int, ...]:
        return (*sequences[1:], *sequences[:1])


class _HeadsOfFirst(Pages):
    def read(self, sequence: int) -> tuple[Array, Array]:
        k, v = super().read(sequence)
        return k, np.broadcast_to(v[:1], v.shape)


class _StaleSlots(Pages):
    """A slot is written once; what comes into a page that was free before is lost."""

    def write(self, sequence: int, token: int, k: Array, v: Array, start: int) -> None:
        page = self.tables[sequence][token // self.page]
        if not self.k[page, token % self.page].any():
            super().write(sequence, token, k, v, start)


class _FreedTokensComeBack(Pages):
    def allocate(self, sequence: int) -> None:
        if sequence in self.tables and sequence not in self.lengths:
            self.lengths[sequence] = len(self.tables[sequence]) * self.page
        else:
            super().allocate(sequence)

    def free(self, sequence: int) -> None:
        del self.lengths[sequence]
        self.give_back(self.tables[sequence])


class _FreedThoughShared(Pages):
    def give_back(self, table: list[int]) -> None:
        self.free_list += table


class _ForkNotCounted(Pages):
    def hold(self, table: list[int]) -> None:
        """The count stays."""


class _ForkOfFullPages(Pages):
    def fork(self, source: int, target: int) -> None:
        super().fork(source, target)
        if self.lengths[target] % self.page:
            self.give_back([self.tables[target].pop()])
            self.lengths[target] -= self.lengths[target] % self.page


class _ForkEmpty(Pages):
    def fork(self, source: int, target: int) -> None:
        self.allocate(target)


class _ForkIsSource(Pages):
    """The fork has the page table of its source itself."""

    def fork(self, source: int, target: int) -> None:
        super().fork(source, target)
        self.tables[target] = self.tables[source]


class _WritesShared(Pages):
    def copies(self, sequence: int) -> bool:
        return False


class _WritesSharedWhenFull(Pages):
    def copies(self, sequence: int) -> bool:
        return bool(self.free_list) and super().copies(sequence)


class _CopyEmpty(Pages):
    def copy_last(self, sequence: int) -> None:
        super().copy_last(sequence)
        own = self.tables[sequence][-1]
        self.k[own], self.v[own] = 0, 0


class _CopyOfFirst(Pages):
    def copy_last(self, sequence: int) -> None:
        super().copy_last(sequence)
        table = self.tables[sequence]
        first, own = table[0], table[-1]
        self.k[own], self.v[own] = self.k[first], self.v[first]


class _CopyLeaks(Pages):
    """The page that was shared keeps counting the sequence that has left it."""

    def copy_last(self, sequence: int) -> None:
        shared = self.tables[sequence][-1]
        super().copy_last(sequence)
        self.holders[shared] += 1


class _PageTooMany(Pages):
    def wanted(self, start: int, end: int, held: int) -> int:
        return end // self.page + 1 - held if end > start else 0


class _OnePageAtMost(Pages):
    """Of an append, what lies beyond the first page that it adds is written into that one."""

    def write(self, sequence: int, token: int, k: Array, v: Array, start: int) -> None:
        last = -(-start // self.page)
        page = self.tables[sequence][min(token // self.page, last)]
        self.k[page, token % self.page], self.v[page, token % self.page] = k, v


class _RefusalLeavesPart(Pages):
    """As many tokens as there is room for stay."""

    def refuse(self, k: Array, v: Array, sequence: int) -> None:
        room = len(self.tables[sequence]) * self.page - self.lengths[sequence]
        room += len(self.free_list) * self.page
        if not self.copies(sequence):
            self.append(k[:, :, :room], v[:, :, :room], sequence)
        super().refuse(k, v, sequence)


class _RefusalLeaks(Pages):
    """Pages that were taken before the last one was missing stay taken."""

    def refuse(self, k: Array, v: Array, sequence: int) -> None:
        self.free_list.clear()
        super().refuse(k, v, sequence)


class _FreeLeaks(Pages):
    """The last page does not go back."""

    def free(self, sequence: int) -> None:
        self.tables[sequence] = self.tables[sequence][:-1]
        super().free(sequence)


class _FreedTwice(Pages):
    """Whoever frees what is no longer there gives its pages back again."""

    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        self.freed: dict[int, list[int]] = {}

    def free(self, sequence: int) -> None:
        if sequence not in self.tables and sequence in self.freed:
            self.free_list += self.freed[sequence]
            return
        self.freed[sequence] = list(self.tables.get(sequence, ()))
        super().free(sequence)


class _BeginsAgain(Pages):
    def check_new(self, sequence: int) -> None:
        """Whatever was there is lost."""


def _zeros(e: Any) -> Outputs:
    return {"out": 0 * e.out, "lse": 0 * e.out[..., 0]}


def _empty_nan(e: Any) -> Outputs | None:
    empty = np.isneginf(e.lse)
    return {"out": np.where(empty[..., None], np.nan, e.out)} if empty.any() else None


def _nan_hidden(e: Any) -> Outputs:
    return {"out": np.nan_to_num(e.out), "lse": np.nan_to_num(e.lse, neginf=-np.inf)}


PAGED_MUTANTS = (
    *mutants(
        {
            "zeros": ("returns zeros", changed_result(_zeros)),
            "empty-attend-nan": (
                "a sequence without tokens divides 0 by 0",
                changed_result(_empty_nan),
            ),
            "nan-hidden": ("NaN is replaced by zero", changed_result(_nan_hidden)),
            "last-token-lost": ("the newest token is not read", _kept_by(_OneTokenLess)),
            "first-token-lost": ("the oldest token is not read", _kept_by(_FirstTokenLost)),
            "tail-included": (
                "slots of the last page that no token has taken are read",
                _kept_by(_TailIncluded),
            ),
            "table-of-neighbour": (
                "each sequence of a batch reads the pages of the next",
                _kept_by(_TableOfNeighbour),
            ),
            "values-of-first-head": (
                "every key head reads the values of the first",
                _kept_by(_HeadsOfFirst),
            ),
            "several-pages-in-one": (
                "an append over several pages writes them all into the first that it adds",
                _kept_by(_OnePageAtMost),
            ),
            "stale-page": (
                "a page that was free before keeps the tokens it had",
                _kept_by(_StaleSlots),
            ),
            "freed-tokens-come-back": (
                "a sequence of the number of one that was freed begins with its tokens",
                _kept_by(_FreedTokensComeBack),
            ),
            "freed-though-shared": (
                "pages are free once one of the sequences that hold them is freed",
                _kept_by(_FreedThoughShared),
            ),
            "fork-not-counted": (
                "a fork does not count as one that holds its pages",
                _kept_by(_ForkNotCounted),
            ),
            "fork-of-full-pages": (
                "a fork lacks the tokens in its source's last page, if that is not full",
                _kept_by(_ForkOfFullPages),
            ),
            "fork-empty": ("a fork has no tokens", _kept_by(_ForkEmpty)),
            "fork-is-source": (
                "a fork and its source have one page table",
                _kept_by(_ForkIsSource),
            ),
            "no-copy-on-write": (
                "tokens are written into a page that others hold, too",
                _kept_by(_WritesShared),
            ),
            "no-copy-when-full": (
                "tokens are written into a shared page where no page is free for a copy",
                _kept_by(_WritesSharedWhenFull),
            ),
            "copy-empty": ("the copy of a page has none of its tokens", _kept_by(_CopyEmpty)),
            "copy-of-first": (
                "the first page of a sequence is copied for its last one",
                _kept_by(_CopyOfFirst),
            ),
            "copy-leaks": (
                "who has a copy of a page still counts as one that holds it",
                _kept_by(_CopyLeaks),
            ),
            "page-too-many": (
                "tokens that fill a page exactly take another one",
                _kept_by(_PageTooMany),
            ),
            "refusal-leaves-part": (
                "of an append that is refused, what there is room for stays",
                _kept_by(_RefusalLeavesPart),
            ),
            "refusal-leaks": (
                "an append that is refused keeps the pages it took before",
                _kept_by(_RefusalLeaks),
            ),
            "free-leaks": ("the last page of a freed sequence is lost", _kept_by(_FreeLeaks)),
            "freed-twice": (
                "a sequence may be freed twice: two others get the same pages",
                _kept_by(_FreedTwice),
            ),
            "begins-again": (
                "a sequence that is there already is begun again",
                _kept_by(_BeginsAgain),
            ),
        }
    ),
    *ROUNDING_MUTANTS,
)
