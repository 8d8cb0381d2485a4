"""Clauses of key/value caches: attention over what was appended, token by token."""

from __future__ import annotations

from kernelproof.spec.language import Clause

CACHE_CLAUSES: tuple[Clause, ...] = (
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
            "b1.hq4.hkv2.d32.capacity20/steps-append1.append1.append1.append9.attend/rising",
            "b1.hq4.hkv2.d32.capacity20/steps-append12.attend/rising",
        ),
        core=("b2.hq4.hkv2.d32.capacity20/steps-decode20/normal",),
    ),
    Clause(
        "cache.empty",
        "attend before any append gives out = 0 and lse = -inf, exactly.",
        "semantics",
        smoke=("b2.hq4.hkv2.d32.capacity8/steps-attend.append1.attend/normal",),
    ),
    Clause(
        "cache.full",
        "A cache filled to its capacity is right, to the last slot.",
        "semantics",
        smoke=("b2.hq4.hkv2.d32.capacity33/steps-append32.decode1/normal",),
        core=("b1.hq1.hkv1.d16.capacity1/steps-decode1/normal",),
    ),
    Clause(
        "cache.overflow",
        "An append beyond the capacity raises an exception and leaves the cache as it was.",
        "semantics",
        smoke=(
            "b2.hq4.hkv2.d32.capacity8/steps-append6.append3.attend.append2.attend.append1.attend/normal",
            "b1.hq2.hkv1.d32.capacity4/steps-append5.attend/normal",
        ),
        core=("b1.hq2.hkv2.d64.capacity16/steps-append16.append1.decode1.attend/normal",),
    ),
    Clause(
        "cache.batch",
        "Sequences of a batch and heads do not mix; query head h reads key head h // g.",
        "semantics",
        smoke=("b3.hq6.hkv3.d16.capacity24/steps-append17.attend/large-logit",),
    ),
    Clause(
        "cache.nan",
        "A NaN among the keys makes every later result NaN.",
        "semantics",
        smoke=("b1.hq4.hkv2.d32.capacity16/steps-append8.attend/nan-key",),
    ),
    Clause(
        "cache.layout",
        "Tokens may be transposed, sliced or at an offset in a larger storage; the cache "
        "keeps copies, so that the caller may reuse its buffers.",
        "integrity",
        smoke=tuple(
            f"b2.hq4.hkv2.d32.capacity20/steps-append9.decode3/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "mixed")
        ),
    ),
    Clause(
        "cache.deterministic",
        "The same program twice gives equal bits, unless the implementation declares atomics.",
        "integrity",
        smoke=("b2.hq4.hkv2.d64.capacity64/steps-append40.decode3/normal",),
        repeat=True,
    ),
)
