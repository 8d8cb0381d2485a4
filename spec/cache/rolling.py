"""A rolling key/value cache: attention over a sliding window in constant memory."""

from __future__ import annotations

from kernelproof.reference.cache.rolling import Rolling
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.cache.clauses import cache_clauses, cache_costs
from kernelproof.spec.contracts.cache.costs import APPEND, ATTEND
from kernelproof.spec.contracts.cache.mutants import CACHE_MUTANTS, WINDOW_MUTANTS
from kernelproof.spec.contracts.cache.programs import cache_domain, cache_program
from kernelproof.spec.language import Clause, Spec

program = cache_program("window")

spec = Spec(
    name="cache.rolling",
    title="Rolling key/value cache",
    source="Jiang et al. 2023 (Mistral 7B), section 2",
    call=program,
    reference=Rolling,
    accuracy=SOFTMAX,
    domain=cache_domain(
        program,
        smoke=(
            "b2.hq4.hkv2.d64.window16/steps-append5.attend.decode20/normal",
            "b1.hq1.hkv1.d32.window33/steps-append40.attend.append30.attend/large-logit",
            "b1.hq2.hkv2.d32.window64/steps-append127.decode3/heavy-tailed",
            "b1.hq1.hkv1.d16.window4500/steps-append4600.attend/stagnant",
            "b1.hq2.hkv2.d64.window128/steps-append200.decode4/captured",
        ),
        core=(
            *(
                f"b2.hq4.hkv2.d64.window100/steps-append256.decode8/{family}"
                for family in ("normal", "heavy-tailed", "large-logit", "rising", "sink", "one-hot")
            ),
            "b1.hq8.hkv4.d32.window100/steps-append128.decode16/captured",
        ),
        timed=("b2.hq8.hkv2.d64.window512/steps-append1024.decode16/normal",),
        full=("b1.hq4.hkv2.d128.window500/steps-append1000.decode64/normal",),
    ),
    costs=ATTEND,
    updates={"append": APPEND},
    clauses=(
        *cache_clauses("window"),
        Clause(
            "cache.window",
            "attend reads the newest window tokens and no other: token t takes the slot of token "
            "t - window.",
            "semantics",
            smoke=(
                "b2.hq4.hkv2.d32.window7/steps-append5.decode12/normal",
                "b1.hq4.hkv2.d32.window12/steps-append9.append7.attend.append30.attend/normal",
                "b1.hq4.hkv2.d16.window1/steps-attend.decode3.append5.attend/normal",
            ),
            core=(
                "b2.hq4.hkv4.d32.window64/steps-append63.decode3/normal",
                "b1.hq2.hkv1.d16.window3/steps-append2.decode20/normal",
                "b2.hq4.hkv4.d32.window64/steps-append128.attend.append64.attend.decode1/normal",
            ),
        ),
        Clause(
            "cache.window.unread",
            "Before the window is full, slots that no token has taken are not read.",
            "semantics",
            smoke=("b2.hq4.hkv2.d32.window40/steps-append3.attend.decode3/normal",),
        ),
        # tokens that have left the window cost nothing, and none is moved to another slot
        *cache_costs(
            "window", "b2.hq4.hkv2.d64.window200/steps-append300.append1.attend.decode2/normal"
        ),
    ),
    mutants=(*CACHE_MUTANTS, *WINDOW_MUTANTS),
)
