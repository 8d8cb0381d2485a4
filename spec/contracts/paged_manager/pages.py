"""A right paged cache in small steps, each of which a planted bug gets wrong.

It keeps what an engine keeps: a pool of pages, a free list, how many sequences hold each page, and
a page table and a length per sequence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.flash_decoding import SplitAttention, flash_decoding
from kernelproof.reference.cache.paged_manager import PagedManager

Array = npt.NDArray[Any]


class Pages:
    """A pool of pages of ``page`` tokens: pages page hkv d each of keys and values."""

    def __init__(self, pages: int, page: int, like: Array) -> None:
        hkv, _, d = like.shape
        self.page = page
        self.k, self.v = np.zeros((2, pages, page, hkv, d), like.dtype)
        self.free_list = list(range(pages))
        self.holders = [0] * pages
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    @classmethod
    def after(cls, reference: PagedManager) -> Pages:
        """What has become of it after every request that the reference got."""
        made = cls(reference.pages, reference.page, reference.nothing)
        for name, arguments in reference.log:
            with contextlib.suppress(LookupError, OverflowError):
                getattr(made, name)(**arguments)
        return made

    def allocate(self, sequence: int) -> None:
        """Begin a sequence."""
        self.check_new(sequence)
        self.tables[sequence], self.lengths[sequence] = [], 0

    def append(self, k: Array, v: Array, sequence: int) -> None:
        """Add k, v: 1 hkv t d behind a sequence."""
        start, table = self.lengths[sequence], self.tables[sequence]
        end = start + k.shape[2]
        copies = end > start and self.copies(sequence)
        added = self.wanted(start, end, len(table))
        if added + copies > len(self.free_list):
            self.refuse(k, v, sequence)
        if copies:
            self.copy_last(sequence)
        self.tables[sequence] += [self.take() for _ in range(added)]
        for token in range(start, end):
            self.write(sequence, token, k[0, :, token - start], v[0, :, token - start], start)
        self.lengths[sequence] = end

    def fork(self, source: int, target: int) -> None:
        """Begin a sequence that shares the pages of another."""
        table, length = self.tables[source], self.lengths[source]
        self.check_new(target)
        self.hold(table)
        self.tables[target], self.lengths[target] = table.copy(), length

    def free(self, sequence: int) -> None:
        """Forget a sequence."""
        self.give_back(self.tables.pop(sequence))
        del self.lengths[sequence]

    def attend(self, q: Array, sequences: Iterable[int]) -> SplitAttention:
        """Attention of q: b hq 1 d, a query for each of b sequences."""
        read = [self.read(sequence) for sequence in self.named(tuple(sequences))]
        lengths = np.array([k.shape[1] for k, _ in read], np.int64)
        k, v = np.zeros((2, len(q), self.k.shape[2], lengths.max(initial=0), q.shape[-1]), q.dtype)
        for row, (keys, values) in enumerate(read):
            k[row, :, : lengths[row]], v[row, :, : lengths[row]] = keys, values
        return flash_decoding(q, k, v, lengths=lengths)

    # What the planted bugs replace

    def check_new(self, sequence: int) -> None:
        """Refuse a number that is taken."""
        if sequence in self.tables:
            raise LookupError

    def wanted(self, start: int, end: int, held: int) -> int:
        """How many pages an append adds."""
        return -(-end // self.page) - held

    def refuse(self, k: Array, v: Array, sequence: int) -> None:
        """Refuse an append for which there are too few pages."""
        raise OverflowError

    def take(self) -> int:
        """A page of the free list."""
        page = self.free_list.pop()
        self.holders[page] = 1
        return page

    def hold(self, table: list[int]) -> None:
        """Count one more sequence that holds these pages."""
        for page in table:
            self.holders[page] += 1

    def give_back(self, table: list[int]) -> None:
        """Count one fewer; pages that nobody holds are free."""
        for page in table:
            self.holders[page] -= 1
            if self.holders[page] == 0:
                self.free_list.append(page)

    def copies(self, sequence: int) -> bool:
        """Whether an append goes into a page that others hold, too."""
        return bool(self.lengths[sequence] % self.page) and (
            self.holders[self.tables[sequence][-1]] > 1
        )

    def copy_last(self, sequence: int) -> None:
        """Copy the last page, and leave the shared one to the others."""
        table = self.tables[sequence]
        shared, own = table[-1], self.take()
        self.k[own], self.v[own] = self.k[shared], self.v[shared]
        self.give_back([shared])
        table[-1] = own

    def write(self, sequence: int, token: int, k: Array, v: Array, start: int) -> None:
        """Write one token: hkv d, of an append that begins at ``start``."""
        page, slot = self.tables[sequence][token // self.page], token % self.page
        self.k[page, slot], self.v[page, slot] = k, v

    def named(self, sequences: tuple[int, ...]) -> tuple[int, ...]:
        """The sequences whose tokens are read."""
        return sequences

    def read(self, sequence: int) -> tuple[Array, Array]:
        """Keys and values of a sequence: hkv tokens d."""
        return self.gather(self.tables[sequence], range(self.lengths[sequence]))

    def gather(self, table: list[int], tokens: Iterable[int]) -> tuple[Array, Array]:
        """The tokens at these places of a sequence."""
        places = np.array([(table[t // self.page], t % self.page) for t in tokens], int)
        pages, slots = places.reshape(-1, 2).T
        return self.k[pages, slots].swapaxes(0, 1), self.v[pages, slots].swapaxes(0, 1)
