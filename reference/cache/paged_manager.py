"""A paged key/value cache (Kwon et al. 2023, sections 4.3 to 4.5), as its caller sees it:

attend(sequence) = attention over the tokens appended to it, and to what it was forked from before
pages held = the distinct ones among ceil(tokens / page) of each sequence; a fork holds its source's

Whoever appends behind a page that is not full and that others hold, too, gets a copy of it first.
"""

from __future__ import annotations

from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.flash_decoding import SplitAttention, flash_decoding

Array = npt.NDArray[Any]


class Tokens(NamedTuple):
    """Keys and values of one sequence, hkv tokens d each, and the numbers of its pages."""

    k: Array
    v: Array
    pages: tuple[int, ...]


class PagedManager:
    """Sequences, by numbers of the caller's choice, in at most ``pages`` pages of ``page`` tokens.

    log: every request but attend's, granted or not. copied: tokens that the last append copied.
    """

    def __init__(self, *, pages: int, page: int, hkv: int, d: int, dtype: Any) -> None:
        self.pages, self.page, self.copied = pages, page, 0
        self.nothing = np.zeros((hkv, 0, d), dtype)
        self.sequences: dict[int, Tokens] = {}
        self.log: list[tuple[str, dict[str, Any]]] = []
        self._fresh = count()

    def allocate(self, *, sequence: int) -> None:
        """Begin a sequence without tokens. Raises LookupError if it is there already."""
        self.log.append(("allocate", {"sequence": sequence}))
        self._begin(sequence, Tokens(self.nothing, self.nothing, ()))

    def append(self, k: Array, v: Array, *, sequence: int) -> None:
        """Add k, v: 1 hkv t d. Raises OverflowError, and adds nothing, without enough pages."""
        self.log.append(("append", {"k": k, "v": v, "sequence": sequence}))
        held = self._known(sequence)
        start, end = held.k.shape[1], held.k.shape[1] + k.shape[2]
        copied = start % self.page if end > start and self._is_shared(held.pages[-1:]) else 0
        kept = held.pages[:-1] if copied else held.pages
        wanted, free = -(-end // self.page) - len(kept), self.pages - self.used
        if wanted > free:
            raise OverflowError(f"{wanted} pages are wanted, and {free} of {self.pages} are free")
        keys, values = np.concatenate([held.k, k[0]], 1), np.concatenate([held.v, v[0]], 1)
        pages = (*kept, *islice(self._fresh, wanted))
        self.sequences[sequence], self.copied = Tokens(keys, values, pages), copied

    def fork(self, *, source: int, target: int) -> None:
        """Begin a sequence with the tokens and the pages of another. Raises LookupError."""
        self.log.append(("fork", {"source": source, "target": target}))
        self._begin(target, self._known(source))

    def free(self, *, sequence: int) -> None:
        """Forget a sequence. Raises LookupError if there is none of that number."""
        self.log.append(("free", {"sequence": sequence}))
        self._known(sequence)
        del self.sequences[sequence]

    def attend(self, q: Array, *, sequences: tuple[int, ...]) -> SplitAttention:
        """Attention of q: b hq 1 d, a query for each of b sequences, over the tokens of each."""
        held = [self._known(sequence) for sequence in sequences]
        lengths = np.array([each.k.shape[1] for each in held], np.int64)
        shape = (len(held), len(self.nothing), lengths.max(initial=0), q.shape[-1])
        k, v = np.zeros((2, *shape), q.dtype)
        for row, (n, each) in enumerate(zip(lengths, held, strict=True)):
            k[row, :, :n], v[row, :, :n] = each.k, each.v
        return flash_decoding(q, k, v, lengths=lengths)

    @property
    def used(self) -> int:
        """How many pages are held."""
        return len({page for each in self.sequences.values() for page in each.pages})

    def _is_shared(self, pages: tuple[int, ...]) -> bool:
        return sum(set(pages) <= set(each.pages) for each in self.sequences.values()) > 1

    def _begin(self, sequence: int, tokens: Tokens) -> None:
        if sequence in self.sequences:
            raise LookupError(f"sequence {sequence} is there already")
        self.sequences[sequence] = tokens

    def _known(self, sequence: int) -> Tokens:
        if sequence not in self.sequences:
            raise LookupError(f"there is no sequence {sequence}")
        return self.sequences[sequence]
