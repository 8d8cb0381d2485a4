"""Clauses of key/value caches: attention over what was appended, token by token."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.language import Clause, Growth


def cache_clauses(size: str) -> tuple[Clause, ...]:
    """Clauses of a cache whose length is the axis ``size``, in cases that fit it."""
    return (
        Clause(
            "cache.accuracy",
            "attend equals attention over all tokens appended so far, recomputed from scratch.",
            "accuracy",
        ),
        Clause(
            "cache.order",
            "Tokens appended one by one, in chunks or at once give the same cache.",
            "semantics",
            smoke=(
                f"b1.hq4.hkv2.d32.{size}20/steps-append1.append1.append1.append9.attend/rising",
                f"b1.hq4.hkv2.d32.{size}20/steps-append12.attend/rising",
            ),
            core=(
                f"b2.hq4.hkv2.d32.{size}20/steps-decode20/normal",
                f"b1.hq2.hkv1.d8.{size}140/steps-decode130/normal",
                f"b1.hq2.hkv1.d8.{size}9/steps-append0.attend.append3.append0.attend/normal",
            ),
        ),
        Clause(
            "cache.empty",
            "attend before any append gives out = 0 and lse = -inf, exactly.",
            "semantics",
            smoke=(f"b2.hq4.hkv2.d32.{size}8/steps-attend.append1.attend/normal",),
        ),
        Clause(
            "cache.batch",
            "Sequences of a batch and heads do not mix; query head h reads key head h // g.",
            "semantics",
            smoke=(f"b3.hq6.hkv3.d16.{size}24/steps-append17.attend/large-logit",),
            core=(f"b9.hq8.hkv4.d8.{size}24/steps-append17.decode2/normal",),
        ),
        Clause(
            "cache.nan",
            "A NaN among the keys makes every later result NaN.",
            "semantics",
            smoke=(f"b1.hq4.hkv2.d32.{size}16/steps-append8.attend/nan-key",),
        ),
        Clause(
            "cache.layout",
            "Tokens may be transposed, sliced or at an offset in a larger storage; the cache "
            "keeps copies, so that the caller may reuse its buffers.",
            "integrity",
            smoke=tuple(
                f"b2.hq4.hkv2.d32.{size}20/steps-append9.decode3/normal/{layout}"
                for layout in ("transposed", "sliced", "offset", "mixed")
            ),
        ),
        Clause(
            "cache.deterministic",
            "The same program twice gives equal bits, unless the implementation declares atomics.",
            "integrity",
            smoke=(f"b2.hq4.hkv2.d64.{size}64/steps-append40.decode3/normal",),
            repeat=True,
        ),
    )


def cache_costs(size: str, *more: str) -> tuple[Clause, ...]:
    """Clauses about the work of each step, and how that of an attend grows with the tokens held;
    more: cases of a kind of cache."""
    return (
        *cost_clauses(
            "cache",
            *("traffic", "footprint", "flops", "exps", "memory"),
            smoke=(
                f"b2.hq4.hkv2.d64.{size}300/steps-append256.append1.attend.decode2/normal",
                f"b1.hq8.hkv1.d32.{size}600/steps-attend.append600.attend3/normal",
            ),
            core=(
                f"b1.hq4.hkv4.d80.{size}200/steps-append1.attend.append150.decode1/normal",
                # storage that grows copies what it holds
                f"b1.hq2.hkv1.d16.{size}2100/steps-append1024.append1.append1023.append1/normal",
                *more,
            ),
        ),
        *(
            growth_clause(
                f"cache.complexity.{metric}",
                metric,
                Growth(1, (size,), sizes=(256, 512, 768, 1024, 1280), steps="append{}.attend"),
                at=f"b1.hq4.hkv2.d32.{size}1280/steps-append1280.attend/normal",
                where=" in one step",
            )
            for metric in ("flops", "traffic")
        ),
    )
