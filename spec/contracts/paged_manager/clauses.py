"""Clauses of a paged key/value cache: which tokens a sequence has, and how many pages they take."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.language import Clause, Growth


def _small(*steps: str, pages: int, family: str = "normal") -> tuple[str, ...]:
    """Programs in a pool of so many pages of four tokens."""
    return tuple(f"hq4.hkv2.d32.pages{pages}.page4/steps-{each}/{family}" for each in steps)


_NUMBERS = (*range(16), 1_000_000)
_MANY = ".".join(
    [f"allocate@{n}.append{n % 3 + 1}@{n}" for n in _NUMBERS]
    + ["attend" + "".join(f"@{n}" for n in reversed(_NUMBERS))]
)

TOKENS = (
    Clause(
        "cache.accuracy",
        "attend equals attention over all tokens of each sequence, recomputed from scratch.",
        "accuracy",
    ),
    Clause(
        "cache.order",
        "Tokens appended one by one, in chunks or at once, within a page or over several, give "
        "the same sequence.",
        "semantics",
        smoke=_small(
            "allocate@0.append1@0.append2@0.append1@0.append6@0.append0@0.append9@0.attend@0",
            "allocate@0.append19@0.attend@0",
            pages=5,
            family="rising",
        ),
        core=_small("allocate@0.decode13@0", pages=4),
    ),
    Clause(
        "cache.empty",
        "attend to a sequence without tokens gives out = 0 and lse = -inf, exactly.",
        "semantics",
        smoke=_small(
            "allocate@0.attend@0.append0@0.attend@0.allocate@1.append3@1.attend@0@1", pages=2
        ),
    ),
    Clause(
        "cache.batch",
        "Sequences and heads of a batch do not mix, in whatever order they are named, once or "
        "twice; query head h reads key head h // g.",
        "semantics",
        core=(f"hq2.hkv1.d16.pages17.page4/steps-{_MANY}/normal",),
        smoke=(
            "hq6.hkv3.d16.pages9.page4/steps-allocate@5.allocate@0.allocate@2.append9@0.append1@5."
            "append14@2.append3@5.attend@2@0@5@0/large-logit",
        ),
    ),
)

SHARING = (
    Clause(
        "cache.fork",
        "A fork has the tokens of its source and shares its pages, the last one, if that is not "
        "full, too; so does a fork of a fork, or of a sequence without tokens.",
        "semantics",
        smoke=_small(
            "allocate@0.append6@0.fork@0@1.attend@1@0.append3@1.fork@1@2.append1@2.attend@2@1@0",
            "allocate@0.fork@0@1.append3@1.append2@0.attend@0@1",
            pages=6,
        ),
    ),
    Clause(
        "cache.fork.copy-on-write",
        "An append behind a shared page that is not full copies that page first: neither the "
        "source nor any fork sees what another appends. The last one that holds it copies nothing.",
        "semantics",
        smoke=(
            *_small(
                "allocate@0.append7@0.fork@0@1.append1@0.append1@1.attend@0@1",
                "allocate@0.append4@0.fork@0@1.append1@0.append1@1.attend@0@1",
                # attended to before the copy and after it
                "allocate@0.append5@0.fork@0@1.attend@1.append1@1.append2@0.attend@1@0.attend@1",
                pages=3,
            ),
            # nothing is written: nothing is copied
            *_small("allocate@0.append6@0.fork@0@1.append0@1.attend@0@1", pages=2),
            *_small(
                "allocate@0.append6@0.fork@0@1.fork@1@2.append1@0.append2@1.append2@2.attend@0@1@2",
                pages=4,
            ),
        ),
    ),
    Clause(
        "cache.free",
        "Pages of a freed sequence go back, but for those that others hold; whoever gets them next "
        "sees nothing of what they held.",
        "semantics",
        smoke=(
            *_small(
                "allocate@0.append6@0.fork@0@1.free@0.attend@1.allocate@2.append8@2.attend@1@2",
                "allocate@0.append16@0.free@0.allocate@0.attend@0.append5@0.attend@0."
                "allocate@1.append8@1.attend@1@0",
                pages=4,
            ),
            *_small("allocate@0.append12@0.free@0.allocate@1.append12@1.attend@1", pages=3),
        ),
        core=(
            # a number comes again, with as many tokens on other pages
            *_small(
                "allocate@0.append5@0.attend@0.free@0.allocate@1.append3@1.allocate@0.append5@0."
                "attend@0",
                pages=6,
            ),
            # a page that many hold is free when none does
            *_small(
                "allocate@0.append5@0.fork@0@1.fork@0@2.fork@0@3.fork@0@4.fork@0@5.free@1.free@2."
                "free@3.free@4.free@5.allocate@1.append20@1.attend@0",
                pages=6,
            ),
        ),
    ),
)

REFUSALS = (
    Clause(
        "cache.exhaustion",
        "A sequence of n tokens holds ceil(n / page) pages, and those that sequences share count "
        "once: with as many pages an append is granted. With one fewer it raises an exception, and "
        "nothing is appended, not even in part.",
        "semantics",
        smoke=(
            *_small(
                "allocate@0.append11@0.append2@0.attend@0.append1@0.attend@0.append1@0.attend@0",
                "allocate@0.allocate@1.append5@0.append9@1.attend@0@1.append4@1.append1@1."
                "append3@0.attend@0@1",
                "allocate@0.allocate@1.append4@0.append9@1.append8@0.attend@0@1",
                "allocate@0.append6@0.fork@0@1.append3@1.allocate@2.append1@2.attend@0@1@2",
                pages=3,
            ),
            *_small(
                "allocate@0.append5@0.fork@0@1.append1@1.attend@0@1.free@0.append1@1.attend@1",
                pages=2,
            ),
        ),
        core=(*_small("allocate@0.append1@0.append0@0.attend@0", pages=0),),
    ),
    Clause(
        "cache.unknown",
        "Whoever appends to, forks, frees or attends to a sequence that is not there, or not any "
        "more, gets an exception, and nothing changes.",
        "semantics",
        smoke=_small(
            "append1@0.allocate@0.append3@0.append1@1.fork@1@2.free@1.attend@1.attend@0@1.attend@0",
            "allocate@0.append6@0.free@0.free@0.attend@0.allocate@1.allocate@2.append7@1.append7@2."
            "attend@1@2",
            pages=4,
        ),
    ),
    Clause(
        "cache.exists",
        "Whoever allocates a sequence that is there already, or forks into one, gets an exception, "
        "and nothing changes.",
        "semantics",
        smoke=_small(
            "allocate@0.append3@0.allocate@0.fork@0@0.allocate@1.append2@1.fork@0@1.attend@0@1",
            pages=2,
        ),
    ),
)

_TWO = "allocate@0.append9@0.allocate@1.append6@1.attend@0@1.decode2@0"

INTEGRITY = (
    Clause(
        "cache.nan",
        "A NaN among the keys of a sequence makes its results NaN, and no other's, until its pages "
        "are free; then nobody's.",
        "semantics",
        smoke=_small(
            "allocate@0.append10@0.allocate@1.append4@1.attend@0@1.free@0.allocate@2.append5@2."
            "attend@1@2",
            pages=4,
            family="nan-key",
        ),
    ),
    Clause(
        "cache.layout",
        "Tokens may be transposed, sliced or at an offset in a larger storage; the cache keeps "
        "copies, so that the caller may reuse its buffers.",
        "integrity",
        smoke=tuple(
            f"{point}/{layout}"
            for layout in ("transposed", "sliced", "offset", "mixed")
            for point in _small(_TWO, pages=5)
        ),
    ),
    Clause(
        "cache.deterministic",
        "The same program twice gives equal bits, unless the implementation declares atomics.",
        "integrity",
        smoke=_small(_TWO, pages=5),
        repeat=True,
    ),
)

COSTS = (
    *cost_clauses(
        "cache",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            "hq4.hkv2.d64.pages100.page16/steps-allocate@0.append268@0.fork@0@1.append40@1."
            "append1@0.attend@0.attend@1@0.free@0/normal",
        ),
        core=(
            "hq8.hkv1.d32.pages128.page8/"
            "steps-allocate@0.attend@0.append600@0.attend@0.append3@0.decode2@0/normal",
        ),
    ),
    *(
        growth_clause(
            f"cache.complexity.{metric}",
            metric,
            Growth(
                1,
                ("pages",),
                sizes=(256, 512, 768, 1024, 1280),
                steps="allocate@0.append{}@0.attend@0",
            ),
            at="hq4.hkv2.d32.pages1280.page1/steps-allocate@0.append1280@0.attend@0/normal",
            where=" of one token in one step",
        )
        for metric in ("flops", "traffic")
    ),
)

CLAUSES = (*TOKENS, *SHARING, *REFUSALS, *INTEGRITY, *COSTS)
