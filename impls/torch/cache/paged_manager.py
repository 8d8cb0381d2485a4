"""A paged key/value cache (Kwon et al. 2023): pages of a pool, shared by forks, copied on write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.cache.paged import paged_attention


class UnknownSequence(KeyError):
    """There is no sequence of that number."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows the repr of its message


class SequenceExists(ValueError):
    """There is a sequence of that number already."""


class OutOfPages(MemoryError):
    """The free pages do not suffice."""


@dataclass
class _Sequence:
    """How many tokens a sequence has, and the pages that they lie in, in order."""

    tokens: int
    pages: list[int]


@implementation(
    "cache.paged_manager",
    name="torch-paged-manager",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
class PagedCache:
    """Keys and values of many sequences in one pool of pages, for engines that batch requests.

    k_pages, v_pages: pages page hkv d each, allocated once. Callers name sequences by whole
    numbers of their choice. A sequence of n tokens holds ceil(n / page) pages; a fork holds those
    of its source, and an append behind a shared page that is not full copies it first. A request
    that cannot be granted raises, and leaves everything as it was.

        cache = PagedCache(pages=64, page=16, hkv=8, d=128, dtype=torch.float16)
        cache.allocate(sequence=7)
        cache.append(k, v, sequence=7)             # the prompt: 1 hkv t d each
        cache.fork(source=7, target=8)             # shares the prompt
        cache.append(k8, v8, sequence=8)           # copies one page at most
        out, lse = cache.attend(q, sequences=(7, 8))  # q: 2 hq 1 d
        cache.free(sequence=7)

    The bookkeeping of a request is O(1) per page that it adds, shares or gives back. A fork
    is O(pages of its source): a number copied and a count raised for each. Shared lists would make
    it O(1), and every lookup a walk along a chain of forks.
    """

    attention = staticmethod(paged_attention)
    """The kernel: a subclass may have another one of this signature."""

    def __init__(
        self,
        *,
        pages: int,
        page: int,
        hkv: int,
        d: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        if pages < 0 or page < 1:
            raise ValueError(f"{pages} pages of {page} tokens: wanted pages of at least one token")
        self.k_pages = torch.empty(pages, page, hkv, d, dtype=dtype, device=device)
        self.v_pages = torch.empty_like(self.k_pages)
        self._sequences: dict[int, _Sequence] = {}
        self._holders = [0] * pages  # of each page, how many sequences hold it
        self._free = list(range(pages))

    def allocate(self, *, sequence: int) -> None:
        """Begin a sequence without tokens; it holds no page yet. Raises SequenceExists."""
        self._check_new(sequence)
        self._sequences[sequence] = _Sequence(0, [])

    def append(self, k: Tensor, v: Tensor, *, sequence: int) -> None:
        """Add k, v: 1 hkv t d behind a sequence.

        Raises UnknownSequence; OutOfPages, and then not even a part is added; ValueError for
        tensors that do not fit the pool.
        """
        held = self._named(sequence)
        self._check_fits(k, v)
        start, end = held.tokens, held.tokens + k.shape[2]
        copies = end > start and start % self.page > 0 and self._holders[held.pages[-1]] > 1
        added = -(-end // self.page) - len(held.pages)
        self._check_room(sequence, end - start, added + copies)
        pages, shared = len(held.pages), held.pages[-1] if copies else None
        if copies:
            self._copy_last_page(held)
        held.pages += [self._take() for _ in range(added)]
        try:
            self._write(self.k_pages, k[0].transpose(0, 1), held.pages, start)
            self._write(self.v_pages, v[0].transpose(0, 1), held.pages, start)
        except BaseException:  # memory may end here, too
            self._undo(held, pages, shared)
            raise
        held.tokens = end

    def fork(self, *, source: int, target: int) -> None:
        """Begin a sequence that shares all pages of another, the last one, if it is not full, too.

        Raises UnknownSequence and SequenceExists.
        """
        held = self._named(source)
        self._check_new(target)
        for page in held.pages:
            self._holders[page] += 1
        self._sequences[target] = _Sequence(held.tokens, held.pages.copy())

    def free(self, *, sequence: int) -> None:
        """Forget a sequence; pages that no other one holds are free again. Raises
        UnknownSequence, also where a sequence is freed twice."""
        for page in self._named(sequence).pages:
            self._give_back(page)
        del self._sequences[sequence]

    def attend(self, q: Tensor, *, sequences: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Attention of q: b hq 1 d, one query for each of b sequences, over the tokens of each.

        Returns out: b hq 1 d like q, and lse: b hq 1. Raises UnknownSequence, and ValueError
        for queries that fit neither these nor the pool.
        """
        page_table, lengths = self.page_table(sequences)
        self._check_query(q, len(sequences))
        return self.attention(q, self.k_pages, self.v_pages, page_table, lengths)

    def page_table(self, sequences: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What a paged kernel wants to know of some sequences: their pages, b n int32, filled up
        with -1 where others have more, and their lengths, b int32. Raises UnknownSequence."""
        held = [self._named(sequence) for sequence in sequences]
        longest = max((len(each.pages) for each in held), default=0)
        rows = [each.pages + [-1] * (longest - len(each.pages)) for each in held]
        device = self.k_pages.device
        table = torch.tensor(rows, dtype=torch.int32, device=device).view(len(held), longest)
        lengths = [each.tokens for each in held]
        return table, torch.tensor(lengths, dtype=torch.int32, device=device)

    @property
    def page(self) -> int:
        """How many tokens a page holds."""
        return self.k_pages.shape[1]

    @property
    def free_pages(self) -> int:
        """How many pages no sequence holds."""
        return len(self._free)

    @property
    def lengths(self) -> dict[int, int]:
        """How many tokens each sequence has."""
        return {sequence: held.tokens for sequence, held in self._sequences.items()}

    def __repr__(self) -> str:
        tokens, pages = sum(self.lengths.values()), len(self.k_pages)
        shared = sum(holders > 1 for holders in self._holders)
        return (
            f"PagedCache({len(self._sequences)} sequences, {tokens} tokens in "
            f"{pages - self.free_pages} of {pages} pages of {self.page}, {shared} shared)"
        )

    def _named(self, sequence: int) -> _Sequence:
        if (held := self._sequences.get(sequence)) is None:
            raise UnknownSequence(
                f"sequence {sequence}: there is none of that number; allocate or fork it first"
            )
        return held

    def _check_new(self, sequence: int) -> None:
        if sequence in self._sequences:
            raise SequenceExists(
                f"sequence {sequence}: there is one of that number; free it first, or take another"
            )

    def _check_fits(self, k: Tensor, v: Tensor) -> None:
        hkv, d = self.k_pages.shape[2:]
        for name, x in (("k", k), ("v", v)):
            fits = x.shape == (1, hkv, k.shape[2] if k.dim() == 4 else 0, d)
            if not fits or x.dtype is not self.k_pages.dtype:
                raise ValueError(
                    f"{name} is {x.dtype} {tuple(x.shape)}: wanted {self.k_pages.dtype} "
                    f"(1, {hkv}, t, {d}), the same t for k and v"
                )
            self._check_device(name, x)

    def _check_query(self, q: Tensor, sequences: int) -> None:
        hkv, d = self.k_pages.shape[2:]
        heads = q.shape[1] if q.dim() == 4 else 0
        fits = q.shape == (sequences, heads, 1, d) and heads % hkv == 0
        if not fits or q.dtype is not self.k_pages.dtype:
            raise ValueError(
                f"q is {q.dtype} {tuple(q.shape)} for {sequences} sequences: wanted "
                f"{self.k_pages.dtype} ({sequences}, a multiple of {hkv}, 1, {d})"
            )
        self._check_device("q", q)

    def _check_device(self, name: str, x: Tensor) -> None:
        if x.device != self.k_pages.device:
            raise ValueError(f"{name} is on {x.device}: wanted it on {self.k_pages.device}")

    def _check_room(self, sequence: int, tokens: int, wanted: int) -> None:
        if wanted > self.free_pages:
            raise OutOfPages(
                f"sequence {sequence}: {tokens} more tokens want {wanted} more pages, and "
                f"{self.free_pages} of {len(self.k_pages)} are free; free a sequence, or make the "
                "pool larger"
            )

    def _take(self) -> int:
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def _give_back(self, page: int) -> None:
        self._holders[page] -= 1
        if not self._holders[page]:
            self._free.append(page)

    def _copy_last_page(self, held: _Sequence) -> None:
        """Copy on write: the tokens in the last page, which others keep."""
        shared, own, filled = held.pages[-1], self._free[-1], held.tokens % self.page
        for pool in (self.k_pages, self.v_pages):
            pool[own, :filled] = pool[shared, :filled]
        self._give_back(shared)
        held.pages[-1] = self._take()

    def _undo(self, held: _Sequence, pages: int, shared: int | None) -> None:
        """Give back what an append took: pages behind so many, and the copy of a shared one."""
        for page in held.pages[pages:]:
            self._give_back(page)
        del held.pages[pages:]
        if shared is not None:
            self._give_back(held.pages[-1])
            held.pages[-1] = shared
            self._holders[shared] += 1

    def _write(self, pool: Tensor, tokens: Tensor, pages: list[int], start: int) -> None:
        """Write tokens: t hkv d behind the first ``start`` of a sequence: into the rest of a page,
        into whole pages at once, and into the beginning of another."""
        tokens = tokens.detach()  # a pool with a history of gradients would keep all of it
        t, slot = len(tokens), start % self.page
        first = min(-start % self.page, t)
        whole = (t - first) // self.page
        last = t - first - whole * self.page
        if first:
            pool[pages[start // self.page], slot : slot + first] = tokens[:first]
        if whole:
            begin = -(-start // self.page)
            index = torch.tensor(pages[begin : begin + whole], device=pool.device)
            pool[index] = tokens[first : t - last].unflatten(0, (whole, self.page))
        if last:
            pool[pages[-1], :last] = tokens[t - last :]
