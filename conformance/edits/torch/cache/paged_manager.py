"""Edits of the paged cache in torch: of its bookkeeping, and of the work of a request."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_COPIES = "end > start and start % self.page > 0 and self._holders[held.pages[-1]] > 1"
_ADDED = "added = -(-end // self.page)"
_CHECK = "self._check_room(sequence, end - start, added + copies)"
_COPY = "pool[own, :filled] = pool[shared, :filled]"
_FORKED = "_Sequence(held.tokens, held.pages.copy())"
_HOLD = """for page in held.pages:
            self._holders[page] += 1
        self._sequences[target] = _Sequence(held.tokens, held.pages.copy())"""
_COPIED = """own = [self._take() for _ in held.pages]
        for pool in (self.k_pages, self.v_pages):
            pool[own] = pool[held.pages]
        self._sequences[target] = _Sequence(held.tokens, own)"""
_FREED = "for page in self._named(sequence).pages:"
_NAMED = "held = [self._named(sequence) for sequence in sequences]"
_ATTENDED = "self.attention(q, self.k_pages, self.v_pages, page_table, lengths)"
_LENGTHS = "lengths = [each.tokens for each in held]"
_BEFORE = "return self.attention("
_DONE = "held.tokens = end"

VALUES = wrong_values(
    {
        "fork-not-counted": (
            "a fork does not count as one that holds its pages",
            ("self._holders[page] += 1", "pass"),
        ),
        "freed-though-shared": (
            "pages are free once one of the sequences that hold them is freed",
            ("if not self._holders[page]:", "if True:"),
        ),
        "no-copy-on-write": (
            "tokens are written into a page that others hold, too",
            (_COPIES, "False"),
        ),
        "no-copy-when-full": (
            "tokens are written into a shared page where no page is free for a copy",
            (_COPIES, f"bool(self._free) and {_COPIES}"),
        ),
        "copy-of-first": (
            "the first page of a sequence is copied for its last one",
            (_COPY, _COPY.replace("pool[shared", "pool[held.pages[0]")),
        ),
        "copy-misses-a-token": (
            "the last token of a page is not copied",
            (_COPY, _COPY.replace(":filled", ": filled - 1")),
        ),
        "copy-leaks": (
            "who has a copy of a page still counts as one that holds it",
            ("self._give_back(shared)", "pass"),
        ),
        "page-too-many": (
            "tokens that fill a page exactly take another one",
            (_ADDED, "added = end // self.page + (end > start)"),
        ),
        "page-too-few": (
            "a page that is not full is not counted",
            (_ADDED, "added = end // self.page"),
        ),
        "copy-not-counted": (
            "the page of a copy is not among those that an append wants",
            (_CHECK, _CHECK.replace(" + copies", "")),
        ),
        "page-free-twice": (
            "a page goes back to the free list twice",
            ("self._free.append(page)", "self._free += [page, page]"),
        ),
        "refusal-counted": (
            "the length is raised before an append is refused",
            (_CHECK, f"held.tokens = end\n        {_CHECK}"),
        ),
        "refusal-leaks": (
            "an append that is refused keeps the pages it took before",
            (
                _CHECK,
                f"if added + copies > self.free_pages:\n            held.pages += "
                f"[self._take() for _ in range(self.free_pages)]\n        {_CHECK}",
            ),
        ),
        "free-leaks": (
            "the last page of a freed sequence is lost",
            (_FREED, f"{_FREED[:-1]}[:-1]:"),
        ),
        "double-free-accepted": (
            "whoever frees a sequence that is not there hears nothing",
            (_FREED, f"if sequence not in self._sequences:\n            return\n        {_FREED}"),
        ),
        "begins-again": (
            "a sequence that is there already is begun again",
            ("if sequence in self._sequences:", "if False:"),
        ),
        "fork-is-source": (
            "a fork and its source have one page table",
            (_FORKED, _FORKED.replace(".copy()", "")),
        ),
        "fork-rounded-down": (
            "a fork has the pages of its source, and only the tokens that fill pages",
            (_FORKED, _FORKED.replace("tokens,", "tokens // self.page * self.page,")),
        ),
        "table-of-neighbour": (
            "each sequence of a batch reads the pages of the next",
            (_NAMED, _NAMED.replace("in sequences", "in (*sequences[1:], *sequences[:1])")),
        ),
        "whole-pages-one-early": (
            "whole pages of an append are written one page too early",
            ("begin = -(-start // self.page)", "begin = start // self.page"),
        ),
        "last-token-lost": (
            "the newest token is not read",
            (_LENGTHS, _LENGTHS.replace("each.tokens for", "max(each.tokens - 1, 0) for")),
        ),
        "tail-read": (
            "slots of the last page that no token has taken are read",
            (_LENGTHS, _LENGTHS.replace("each.tokens for", "len(each.pages) * self.page for")),
        ),
    }
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "append-copies-sequence": (
                "an append copies all pages of its sequence",
                (_DONE, f"self.k_pages[held.pages], self.v_pages[held.pages]\n        {_DONE}"),
            ),
            "fork-copies-pages": ("a fork gets a copy of every page", (_HOLD, _COPIED)),
            "pool-gathered": (
                "attend copies the whole pool",
                (_ATTENDED, _ATTENDED.replace("_pages,", "_pages.clone(),")),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "attends-twice": (
                "every sequence is attended to twice",
                (_BEFORE, f"{_ATTENDED}\n        {_BEFORE}"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-of-keys": (
                "exponentials of all keys are computed and not used",
                (_BEFORE, f"self.k_pages.exp()\n        {_BEFORE}"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "the pool 16 times over is allocated and never read",
                (_BEFORE, f"torch.empty(16, *self.k_pages.shape)\n        {_BEFORE}"),
            ),
        },
    ),
)

EDITED = Edited("torch-paged-manager", "PagedCache", (*VALUES, *COSTS))
