"""The words in which the gate judges a series, what each means, and how a run with it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.history.measurement import METRICS, Series
from kernelproof.conformance.suite import UsageError
from kernelproof.spec.wording import unknown_word


class Word(StrEnum):
    """The gate's verdict on one series; the worst stand first."""

    FAILING = "failing"
    MORE = "more"
    SLOWER = "slower"
    MISSING = "missing"
    VOID = "void"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"
    NO_BASELINE = "no-baseline"
    FASTER = "faster"
    LESS = "less"
    PASS = "pass"


SENTENCES: Mapping[Word, str] = {
    Word.FAILING: "head does not conform to the spec",
    Word.MORE: "something counted, or the error, increased beyond its allowance, or the precision "
    "that is declared became looser",
    Word.SLOWER: "the time increased by more than the budget",
    Word.MISSING: "measured on base, and not on head",
    Word.VOID: "the number says nothing: the result is wrong, or less accurate than before",
    Word.INCONCLUSIVE: "too noisy to see a change as large as the budget",
    Word.INCOMPARABLE: "measured on another device, with other tools or at another precision than "
    "its baseline",
    Word.NO_BASELINE: "measured on head, and not on base",
    Word.FASTER: "the time decreased by more than the budget",
    Word.LESS: "something counted, or the error, decreased",
    Word.PASS: "no change beyond what is allowed",
}

EXIT_CODES: Mapping[Word, int] = {
    **dict.fromkeys((Word.FAILING, Word.MORE, Word.SLOWER, Word.VOID), ExitCode.REGRESSION),
    **dict.fromkeys((Word.FASTER, Word.LESS), ExitCode.REGRESSION),
    **dict.fromkeys((Word.MISSING, Word.NO_BASELINE), ExitCode.MISSING),
    **dict.fromkeys((Word.INCONCLUSIVE, Word.INCOMPARABLE), ExitCode.INCONCLUSIVE),
}
"""With which code a run ends if its policy fails this word."""

_BY_WEIGHT = (ExitCode.REGRESSION, ExitCode.MISSING, ExitCode.INCONCLUSIVE)
"""Of several codes the first here wins: what is known to be bad, before what is not known."""

DEFAULT_POLICY = (
    *(Word.FAILING, Word.MORE, Word.SLOWER),
    *(Word.MISSING, Word.VOID, Word.INCONCLUSIVE),
)

NOT_COMPARED = (Word.MISSING, Word.VOID, Word.INCOMPARABLE, Word.NO_BASELINE)
"""Verdicts on a series that has no two numbers to compare."""

ALLOWANCES: Mapping[str, float] = {"error": 0.10}
"""By how much a metric may increase, relative to its base, if nothing else is said; else by 0."""

ERROR_FLOOR = 0.05
"""In units of the bound: an error that grows by less is as far from being wrong as before, unless
it is several times as large."""

ERROR_FACTOR = 3.0
"""So many times as large. The order of sums alone moved the largest error of a case by factors up
to 1.7 (products and attention in blocks of 32 and of 48, on the smoke cases)."""

ERROR_OF_NOTE = 0.01
"""In units of the bound: a smaller error is no news, whatever it was before."""


@dataclass(frozen=True)
class Finding:
    """What the gate says of one series.

    base, head: its values; of time, medians of the processes' medians in seconds. None: not
        measured.
    reason: why there is no number, or why it does not count, in a sentence.
    effect: of time, the relative change; interval: in which it lies; sees: the smallest increase
        that this run would have seen. These are ratios less 1.
    control: both sides run the same code, so that any difference is noise.
    with_it: what else changed of the same implementation, as ``+18 % traffic``.
    redeclared: of an error, both sides declare other precisions: the units of ``base`` and ``head``
        are other bounds, so that they have no ratio.
    accepted: the reason for which a reviewed file accepts the change.
    """

    series: Series
    word: Word
    base: float | None = None
    head: float | None = None
    reason: str = ""
    effect: float | None = None
    interval: tuple[float, float] | None = None
    sees: float | None = None
    control: bool = False
    with_it: str = ""
    redeclared: bool = False
    accepted: str = ""

    @property
    def change(self) -> float | None:
        """The relative change: 0.18 stands for 18 percent more; infinite where base has 0."""
        if self.redeclared:
            return None
        if self.effect is not None or self.base is None or self.head is None:
            return self.effect
        if self.base:
            return self.head / self.base - 1
        return float("inf") if self.head else 0.0

    def fails(self, policy: Collection[Word]) -> bool:
        """Whether a policy fails it."""
        return self.word in policy and not self.accepted


def read_policy(text: str | None) -> tuple[Word, ...]:
    """Read ``--fail-on more,slower``; ``none`` fails on nothing. Raises UsageError."""
    if text is None:
        return DEFAULT_POLICY
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return ()
    if "none" in words:
        raise UsageError(f"--fail-on {text}: none stands alone")
    known = [str(word) for word in Word if word is not Word.PASS]
    for word in words:
        if word not in known:
            raise UsageError(f"--fail-on {word}: {unknown_word(word, 'verdict', [*known, 'none'])}")
    if not words:
        raise UsageError(f"--fail-on: wanted some of {', '.join(known)}, or none")
    return tuple(Word(word) for word in dict.fromkeys(words))


def read_allowances(texts: Iterable[str]) -> dict[str, float]:
    """Read ``--allow traffic=1%``. Raises UsageError."""
    allowed = dict(ALLOWANCES)
    known = [name for name, metric in METRICS.items() if metric.kind != "timed"]
    for text in texts:
        name, equals, share = text.partition("=")
        if not equals or name.strip() not in known:
            raise UsageError(
                f"--allow {text}: wanted METRIC=PERCENT, as in traffic=1%, with a metric of "
                f"{', '.join(known)}"
            )
        allowed[name.strip()] = read_share("--allow", share)
    return allowed


def read_share(option: str, text: str, above: float | None = None) -> float:
    """Read ``2%`` or ``0.02`` as 0.02. Raises UsageError."""
    stripped = text.strip()
    try:
        number = float(stripped.removesuffix("%")) / (100 if stripped.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 10 or (above is not None and number <= above):
        least = "at least 0" if above is None else f"above {above:g}"
        raise UsageError(f"{option} {text}: wanted a share such as 2% or 0.02, {least}")
    return number


def exit_code(findings: Iterable[Finding], policy: Collection[Word]) -> int:
    """How a run with these findings ends under a policy."""
    codes = {EXIT_CODES[finding.word] for finding in findings if finding.fails(policy)}
    return next((code for code in _BY_WEIGHT if code in codes), 0)
