"""The report of the gate as JSON; ``gate.schema.json`` describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kernelproof import __version__
from kernelproof.conformance.regression.outcome import Outcome
from kernelproof.conformance.regression.revisions import Revision
from kernelproof.conformance.regression.tables import headline
from kernelproof.conformance.regression.verdicts import Finding
from kernelproof.conformance.verdict import plain_number

SCHEMA_VERSION = 1


def document(outcome: Outcome, code: int) -> dict[str, Any]:
    """The document of a run that ends with a code."""
    policy = outcome.policy
    return {
        "schema": SCHEMA_VERSION,
        "kernelproof": __version__,
        "started": outcome.started.isoformat(timespec="seconds"),
        "exit_code": code,
        "sentence": headline(outcome),
        "base": _revision(outcome.base),
        "head": _revision(outcome.head),
        "seed": outcome.seed,
        "policy": {
            "fail_on": [str(word) for word in policy.fail_on],
            "allowances": dict(policy.allowances),
            "timed": policy.timed,
            "rule": asdict(policy.rule),
        },
        "processes": outcome.processes,
        "counts": {str(word): n for word, n in sorted(outcome.counts.items())},
        "failing": [result.to_json() for result in outcome.failing],
        "base_failing": [result.to_json() for result in outcome.base_failing],
        "problems": list(outcome.problems),
        "notes": list(outcome.notes),
        "series": [_finding(finding) for finding in outcome.findings],
    }


def _revision(revision: Revision) -> dict[str, Any]:
    return {"commit": revision.commit, "why": revision.why, "dirty": revision.dirty}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "series": finding.series.name,
        **asdict(finding.series),
        "verdict": str(finding.word),
        "base": plain_number(finding.base),
        "head": plain_number(finding.head),
        "change": plain_number(finding.change),
        "interval": finding.interval and [plain_number(each) for each in finding.interval],
        "sees": plain_number(finding.sees),
        "control": finding.control,
        "with": finding.with_it,
        "reason": finding.reason,
        "accepted": finding.accepted,
    }
