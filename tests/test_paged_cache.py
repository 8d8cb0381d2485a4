"""The paged cache as a component: what it holds after random programs, and what it says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernelproof.impls.torch.cache.paged_manager import (
    OutOfPages,
    PagedCache,
    SequenceExists,
    UnknownSequence,
)
from kernelproof.reference.cache.paged_manager import PagedManager

NUMBERS = st.integers(0, 4)
REFUSED = {OverflowError: OutOfPages, LookupError: (UnknownSequence, SequenceExists)}
HKV, D = 2, 2


class Programs(RuleBasedStateMachine):
    """Requests at random, to the cache and to the reference: both grant them, or both refuse."""

    cache: PagedCache

    @initialize(pages=st.integers(2, 12), page=st.integers(2, 4))
    def new(self, pages: int, page: int) -> None:
        self.cache = PagedCache(pages=pages, page=page, hkv=HKV, d=D, dtype=torch.float64)
        self.model = PagedManager(pages=pages, page=page, hkv=HKV, d=D, dtype=np.float64)
        for pool in (self.cache.k_pages, self.cache.v_pages):
            pool.fill_(-1.0)
        self.appended = 0.0

    def request(self, name: str, *tokens: Any, **options: Any) -> Any:
        """What the reference and the cache answer; a refusal changes nothing."""
        before = self.everything()
        try:
            wanted = getattr(self.model, name)(*tokens, **options)
        except tuple(REFUSED) as error:
            kind = OverflowError if isinstance(error, OverflowError) else LookupError
            with pytest.raises(REFUSED[kind]):
                getattr(self.cache, name)(*map(torch.from_numpy, tokens), **options)
            for was, now in zip(before, self.everything(), strict=True):
                assert torch.equal(was, now) if isinstance(was, torch.Tensor) else was == now
            return None
        return wanted, getattr(self.cache, name)(*map(torch.from_numpy, tokens), **options)

    def everything(self) -> tuple[Any, ...]:
        """All that a request may change."""
        cache = self.cache
        table = cache.page_table(list(cache.lengths))[0]
        pools = cache.k_pages.clone(), cache.v_pages.clone()
        return repr(cache), cache.lengths, cache.free_pages, list(cache._free), table, *pools

    def there(self, number: int) -> int:
        """A sequence that is there, by its place; without any, one that is not."""
        sequences = sorted(self.model.sequences)
        return sequences[number % len(sequences)] if sequences else number

    @property
    def another(self) -> int:
        """The number of the sequence that comes next."""
        return max(self.model.sequences, default=0) + 1

    @precondition(lambda self: len(self.model.sequences) < 5)
    @rule()
    def allocate(self) -> None:
        self.request("allocate", sequence=self.another)

    def append(self, sequence: int, t: int) -> None:
        """Every number that is ever appended is another."""
        tokens = self.appended + np.arange(2.0 * HKV * t * D).reshape(2, 1, HKV, t, D)
        self.appended += tokens.size
        self.request("append", *tokens, sequence=sequence)

    @rule(number=NUMBERS, t=st.integers(0, 3))
    def append_a_few(self, number: int, t: int) -> None:
        self.append(self.there(number), t)

    @rule(number=NUMBERS, t=st.integers(4, 15))
    def append_many(self, number: int, t: int) -> None:
        self.append(self.there(number), t)

    @precondition(lambda self: len(self.model.sequences) < 5)
    @rule(number=NUMBERS)
    def fork(self, number: int) -> None:
        self.request("fork", source=self.there(number), target=self.another)

    @precondition(lambda self: len(self.model.sequences) > 2)
    @rule(number=NUMBERS)
    def free(self, number: int) -> None:
        self.request("free", sequence=self.there(number))

    @rule(number=NUMBERS, what=st.sampled_from(["allocate", "append", "free", "source", "target"]))
    def be_refused(self, number: int, what: str) -> None:
        there, another = self.there(number), self.another
        if what == "append":
            self.append(another, 1)
        elif what in ("source", "target"):
            source, target = (another, another + 1) if what == "source" else (there, there)
            self.request("fork", source=source, target=target)
        else:
            self.request(what, sequence=there if what == "allocate" else another)

    @precondition(lambda self: self.appended < 1e4)  # beyond, logits are too large for a softmax
    @rule(numbers=st.lists(NUMBERS, max_size=4))
    def attend(self, numbers: list[int]) -> None:
        q = np.linspace(-1e-3, 1e-3, len(numbers) * 2 * HKV * D).reshape(-1, 2 * HKV, 1, D)
        if answers := self.request("attend", q, sequences=tuple(map(self.there, numbers))):
            exact, (out, lse) = answers
            assert np.allclose(out.numpy(), exact.out, rtol=1e-12)
            assert np.allclose(lse.numpy(), exact.lse, rtol=1e-12)

    @invariant()
    def a_page_is_free_or_held_by_as_many_sequences_as_are_counted(self) -> None:
        held = [page for each in self.cache._sequences.values() for page in each.pages]
        counts = [held.count(page) for page in range(len(self.cache.k_pages))]
        assert counts == self.cache._holders
        assert sorted(self.cache._free) == [page for page, n in enumerate(counts) if not n]
        assert self.cache.free_pages == self.model.pages - self.model.used

    @invariant()
    def every_sequence_has_its_tokens_and_wastes_less_than_a_page(self) -> None:
        assert self.cache.lengths.keys() == self.model.sequences.keys()
        for sequence, held in self.model.sequences.items():
            (row,), (n,) = self.cache.page_table([sequence])
            assert 0 <= len(row) * self.cache.page - n < self.cache.page
            for pool, tokens in ((self.cache.k_pages, held.k), (self.cache.v_pages, held.v)):
                assert np.array_equal(pool[row].flatten(0, 1)[:n].transpose(0, 1), tokens)


Programs.TestCase.settings = settings(
    max_examples=40, stateful_step_count=100, deadline=None, derandomize=True
)
TestPrograms = Programs.TestCase


# What it says ---------------------------------------------------------------------------------


def tokens(t: int, *, hkv: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(1, hkv, t, 4, dtype=dtype)


@pytest.fixture
def cache() -> PagedCache:
    """Sequences 7, of five tokens in two pages, and 8, its fork; one page of four is free."""
    made = PagedCache(pages=4, page=4, hkv=1, d=4, dtype=torch.float32)
    made.allocate(sequence=7)
    made.append(tokens(5), tokens(5), sequence=7)
    made.fork(source=7, target=8)
    made.append(tokens(1), tokens(1), sequence=8)
    return made


def test_it_shows_what_it_holds(cache: PagedCache) -> None:
    assert repr(cache) == "PagedCache(2 sequences, 11 tokens in 3 of 4 pages of 4, 1 shared)"
    assert (cache.page, cache.free_pages, cache.lengths) == (4, 1, {7: 5, 8: 6})


def test_its_page_table_is_filled_up_with_minus_one(cache: PagedCache) -> None:
    cache.allocate(sequence=9)
    table, lengths = cache.page_table([8, 9, 7])
    assert (table.dtype, table.shape, lengths.tolist()) == (torch.int32, (3, 2), [6, 0, 5])
    assert table[1].tolist() == [-1, -1]
    assert table[0, 0] == table[2, 0]  # shared
    assert table[0, 1] != table[2, 1]  # copied on write
    assert [x.shape for x in cache.page_table([])] == [(0, 0), (0,)]


REFUSALS = {
    "sequence 3: there is none of that number; allocate or fork it first": lambda c: [
        lambda: c.append(tokens(1), tokens(1), sequence=3),
        lambda: c.fork(source=3, target=4),
        lambda: c.free(sequence=3),
        lambda: c.attend(torch.ones(2, 1, 1, 4), sequences=(7, 3)),
        lambda: c.page_table([7, 3]),
    ],
    "sequence 8: there is one of that number; free it first, or take another": lambda c: [
        lambda: c.allocate(sequence=8),
        lambda: c.fork(source=7, target=8),
    ],
    "sequence 7: 9 more tokens want 2 more pages, and 1 of 4 are free; free a sequence, or make "
    "the pool larger": lambda c: [lambda: c.append(tokens(9), tokens(9), sequence=7)],
    "k is torch.float32 (1, 2, 3, 4): wanted torch.float32 (1, 1, t, 4), the same t for k and "
    "v": lambda c: [lambda: c.append(tokens(3, hkv=2), tokens(3, hkv=2), sequence=7)],
    "v is torch.float32 (1, 1, 2, 4): wanted torch.float32 (1, 1, t, 4), the same t for k and "
    "v": lambda c: [lambda: c.append(tokens(3), tokens(2), sequence=7)],
    "q is torch.float32 (2, 1, 1, 4) for 1 sequences: wanted torch.float32 (1, a multiple of 1, 1, "
    "4)": lambda c: [lambda: c.attend(torch.ones(2, 1, 1, 4), sequences=[7])],
    "v is torch.float16 (1, 1, 3, 4): wanted torch.float32 (1, 1, t, 4), the same t for k and "
    "v": lambda c: [lambda: c.append(tokens(3), tokens(3, dtype=torch.float16), sequence=7)],
}


@pytest.mark.parametrize("message", REFUSALS)
def test_a_refusal_says_what_is_wanted_and_changes_nothing(cache: PagedCache, message: str) -> None:
    before = repr(cache)
    for refused in REFUSALS[message](cache):
        with pytest.raises(
            (UnknownSequence, SequenceExists, OutOfPages, ValueError), match=re.escape(message)
        ):
            refused()
        assert repr(cache) == before


def test_errors_are_of_the_kinds_that_callers_know() -> None:
    assert issubclass(UnknownSequence, KeyError)
    assert issubclass(SequenceExists, ValueError)
    assert issubclass(OutOfPages, MemoryError)


@pytest.mark.parametrize(("pages", "page"), [(-1, 4), (4, 0)])
def test_a_pool_without_slots_is_refused(pages: int, page: int) -> None:
    with pytest.raises(ValueError, match="wanted pages of at least one token"):
        PagedCache(pages=pages, page=page, hkv=1, d=4, dtype=torch.float32)


def test_an_append_copies_no_token_but_its_own_and_those_of_one_page(
    cache: PagedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.free(sequence=8)
    pools = cache.k_pages.data_ptr(), cache.v_pages.data_ptr()
    copied = []
    copy = PagedCache._copy_last_page
    monkeypatch.setattr(
        PagedCache, "_copy_last_page", lambda self, held: (copied.append(1), copy(self, held))
    )
    cache.append(tokens(2), tokens(2), sequence=7)
    assert not copied
    cache.fork(source=7, target=8)
    cache.append(tokens(1), tokens(1), sequence=8)
    cache.append(tokens(1), tokens(1), sequence=7)  # the last holder of the page keeps it
    assert len(copied) == 1
    assert (cache.k_pages.data_ptr(), cache.v_pages.data_ptr()) == pools


def test_the_example_of_the_class_runs() -> None:
    lines = re.findall(r"^        (?=cache|out, lse).*", str(PagedCache.__doc__), re.M)
    k, k8 = torch.ones(1, 8, 20, 128).half(), torch.ones(1, 8, 1, 128).half()
    names = {"torch": torch, "PagedCache": PagedCache, "k": k, "v": k, "k8": k8, "v8": k8}
    names["q"] = torch.ones(2, 16, 1, 128).half()
    exec("\n".join(line.strip() for line in lines), names)
    assert names["out"].shape == (2, 16, 1, 128)
    assert repr(names["cache"]) == (
        "PagedCache(1 sequences, 21 tokens in 2 of 64 pages of 16, 0 shared)"
    )


def test_the_attention_of_a_paged_cache_can_be_another(cache: PagedCache, monkeypatch: Any) -> None:
    monkeypatch.setattr(PagedCache, "attention", staticmethod(lambda *arguments: arguments))
    q = torch.ones(1, 1, 1, 4)
    _, k_pages, v_pages, table, lengths = cache.attend(q, sequences=[8])
    assert k_pages is cache.k_pages
    assert v_pages is cache.v_pages
    assert (table.shape, lengths.tolist()) == ((1, 2), [6])


def test_an_append_that_fails_halfway_leaves_everything_as_it_was(
    cache: PagedCache, monkeypatch: Any
) -> None:
    def out_of_memory(*arguments: Any) -> None:
        raise MemoryError("no more")

    before, lengths = repr(cache), cache.lengths
    pages = {n: cache.page_table([n])[0].tolist() for n in lengths}
    monkeypatch.setattr(cache, "_write", out_of_memory)
    for n in lengths:
        with pytest.raises(MemoryError, match="no more"):
            cache.append(tokens(1), tokens(1), sequence=n)
    assert (repr(cache), cache.lengths) == (before, lengths)
    assert {n: cache.page_table([n])[0].tolist() for n in lengths} == pages


def test_tokens_with_a_history_of_gradients_leave_none_in_the_pool(cache: PagedCache) -> None:
    k = tokens(2).requires_grad_()
    cache.append(k, k, sequence=8)
    assert not cache.k_pages.requires_grad
