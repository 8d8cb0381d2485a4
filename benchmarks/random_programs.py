"""Random programs on the paged cache: no page is ever lost, or held by two that do not share it.

    python benchmarks/random_programs.py [--operations 10000] [--seed 0]

Each program is about five sequences in a small pool; some of its requests are to be refused, for
want of pages or of a sequence, or because there is one already. The cache and the reference must
grant the same requests, and hold the same tokens in as many pages.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from kernelproof.impls.torch.cache.paged_manager import (
    OutOfPages,
    PagedCache,
    SequenceExists,
    UnknownSequence,
)
from kernelproof.reference.cache.paged_manager import PagedManager
from kernelproof.spec.contracts.paged_manager.program import PROGRAM, random_steps


def main() -> int:
    """Print how many requests were granted and refused, by kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, start = np.random.default_rng(arguments.seed), time.perf_counter()
    answers: Counter[str] = Counter()
    while answers.total() < arguments.operations:
        _run(rng, answers)
    for answer, count in sorted(answers.items()):
        print(f"{count:7,}  {answer}")
    print(f"{answers.total():,} requests, {time.perf_counter() - start:.0f} s")
    return 0


def _run(rng: np.random.Generator, answers: Counter[str]) -> None:
    """One program in a pool of up to 30 pages. Raises AssertionError where they differ."""
    pages, page = (int(n) for n in rng.integers(1, (30, 9)))
    cache = PagedCache(pages=pages, page=page, hkv=1, d=2, dtype=torch.float64)
    model = PagedManager(pages=pages, page=page, hkv=1, d=2, dtype=np.float64)
    for name, length, options in PROGRAM.parse_steps(random_steps(rng, 60)):
        shape = (length, 2, 1, 2) if name == "attend" else (1, 1, length, 2)
        inputs = PROGRAM.operations[name].inputs
        tensors = [torch.from_numpy(rng.standard_normal(shape)) for _ in inputs]
        wanted = _answer(model, name, [x.numpy() for x in tensors], options)
        got = _answer(cache, name, tensors, options)
        assert (wanted is None) == (got is None), f"{name} {options}: {cache}"
        answers[f"{name} {'refused' if wanted is None else 'granted'}"] += 1
        _check(cache, model)


def _answer(target: Any, name: str, tensors: list[Any], options: Any) -> Any:
    """What is returned, or True; None where the request is refused."""
    try:
        result = getattr(target, name)(*tensors, **options)
    except (OverflowError, LookupError, OutOfPages, UnknownSequence, SequenceExists):
        return None
    return True if result is None else result


def _check(cache: PagedCache, model: PagedManager) -> None:
    """The same sequences of the same tokens, and every page free or held."""
    assert cache.lengths == {n: each.k.shape[1] for n, each in model.sequences.items()}
    assert cache.free_pages == model.pages - model.used
    held = set()
    for sequence, each in model.sequences.items():
        (row,), (n,) = cache.page_table([sequence])
        assert len(row) == -(-int(n) // cache.page)
        held |= set(row.tolist())
        for pool, tokens in ((cache.k_pages, each.k), (cache.v_pages, each.v)):
            assert np.array_equal(pool[row].flatten(0, 1)[:n].transpose(0, 1), tokens)
    assert len(held) + cache.free_pages == len(cache.k_pages)


if __name__ == "__main__":
    sys.exit(main())
