"""What a run of the gate came to, and under which policy."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.history.measurement import Measurement, Series
from kernelproof.conformance.regression.decision import Rule
from kernelproof.conformance.regression.revisions import Revision
from kernelproof.conformance.regression.verdicts import (
    ALLOWANCES,
    DEFAULT_POLICY,
    NOT_COMPARED,
    Finding,
    Word,
    exit_code,
)
from kernelproof.conformance.verdict import Result


@dataclass(frozen=True)
class Policy:
    """What counts as a change, and which verdicts fail a run."""

    fail_on: tuple[Word, ...] = DEFAULT_POLICY
    allowances: Mapping[str, float] = field(default_factory=lambda: dict(ALLOWANCES))
    rule: Rule = field(default_factory=Rule)
    timed: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came out.

    failing: results of head that do not conform; of base those that did not. unloaded: why targets
        of base cannot be loaded. problems: what is wrong with accepted entries. measurements: of
        both sides, to be kept.
    """

    base: Revision
    head: Revision
    policy: Policy
    findings: tuple[Finding, ...]
    failing: tuple[Result, ...]
    base_failing: tuple[Result, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    measurements: Mapping[str, Sequence[Measurement]]
    processes: int
    started: datetime.datetime
    seed: str
    unloaded: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The exit code."""
        broken = self.failing and Word.FAILING in self.policy.fail_on
        if broken or self.problems:
            return ExitCode.REGRESSION
        code = exit_code(self.findings, self.policy.fail_on)
        if self.unloaded and code != ExitCode.REGRESSION:
            return ExitCode.INFRASTRUCTURE
        return code or (0 if self.compared else self._code_of_nothing)

    @property
    def compared(self) -> bool:
        """Whether any series was; one whose change is accepted counts as settled."""
        return any(f.accepted or f.word not in NOT_COMPARED for f in self.findings)

    @property
    def _code_of_nothing(self) -> int:
        """What was not compared is no pass, whatever the policy."""
        silent = tuple(word for word in NOT_COMPARED if word is not Word.VOID)
        return exit_code(self.findings, silent) or ExitCode.NOTHING

    @property
    def counts(self) -> Counter[Word]:
        """How many series have each verdict, accepted ones apart, failing checks among them."""
        counted = Counter(finding.word for finding in self.findings if not finding.accepted)
        counted[Word.FAILING] += len(self.failing)
        return +counted


def severity(finding: Finding) -> tuple[bool, int, float, Series]:
    """The order of a report: the worst first, accepted changes after what is not."""
    rank = list(Word).index(finding.word)
    return bool(finding.accepted), rank, -abs(finding.change or 0.0), finding.series
