"""Changes that somebody has reviewed and accepted: ``kernelproof-accepted.toml``."""

from __future__ import annotations

import datetime
import fnmatch
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.measurement import METRICS
from kernelproof.conformance.regression.verdicts import Finding, Word
from kernelproof.conformance.suite import UsageError
from kernelproof.spec.wording import unknown_word

FILE = "kernelproof-accepted.toml"
ACCEPTABLE = (Word.MORE, Word.SLOWER, Word.MISSING)
"""Verdicts that a reviewer can accept. A wrong result is none of them."""

_KEYS = ("series", "metric", "device", "from", "to", "commit", "reason", "expires")
_TEXTS = ("series", "metric", "device", "commit", "reason")
GONE = "missing"
"""As ``to``: the series is not measured any more."""
LONGEST = datetime.timedelta(days=366)
"""For how long an entry may be valid, from the day on which it is first judged."""
ANY_METRIC = "*"


@dataclass(frozen=True)
class Accepted:
    """One entry.

    series: a pattern of names without their metric, as ``matmul.tiled/mine/*``. metric: one, or
        ``*`` where series vanish. device: a pattern.
    least: the smallest value of base that it speaks of. most: the largest of head; infinite where
        only ``rise`` holds, the largest relative increase. gone: the series may vanish.
    commit: the baseline that the change was measured against. expires: its last day.
    """

    series: str
    metric: str
    device: str
    least: float
    most: float
    rise: float
    gone: bool
    commit: str
    reason: str
    expires: datetime.date

    @property
    def words(self) -> str:
        """The entry in a message."""
        return f"{FILE}: the entry of {self.series}:{self.metric} ({self.reason})"

    def repeats(self, other: Accepted) -> bool:
        """Whether it accepts what another accepts, of the same baseline: other words, or a later
        day, make no other change of it."""
        return replace(self, reason=other.reason, expires=other.expires) == other

    def concerns(self, finding: Finding) -> bool:
        """Whether it names this series."""
        series = finding.series
        name = series.name.removesuffix(f":{series.metric}")
        return (
            self.metric in (series.metric, ANY_METRIC)
            and fnmatch.fnmatchcase(name, self.series)
            and fnmatch.fnmatchcase(series.device, self.device)
        )

    def allows(self, finding: Finding) -> bool:
        """Whether the series changed, by no more than this."""
        base, head, change = finding.base, finding.head, finding.change
        if finding.word not in ACCEPTABLE or not self.concerns(finding):
            return False
        if finding.word is Word.MISSING or self.gone:
            return self.gone and finding.word is Word.MISSING
        if base is None or head is None or not (base >= self.least and head <= self.most):
            return False
        # where the units changed, a share of the old value means nothing
        return math.isinf(self.rise) if change is None else change <= self.rise

    def idle(self, findings: Sequence[Finding]) -> bool:
        """Whether the series that it names were compared, and not one changed.

        Of a time nobody can tell: noise may hide the change in this run. What was not compared may
        be so elsewhere, on another device or of another target.
        """
        found = [f for f in findings if self.concerns(f)]
        exact = [f for f in found if METRICS[f.series.metric].kind != "timed"]
        return bool(exact) and not any(self.allows(f) for f in found)


def read_accepted(folder: Path) -> list[Accepted]:
    """The entries of a checked-out revision; none without the file. Raises UsageError."""
    path = folder / FILE
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return []
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{FILE} is no TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{FILE} cannot be read: {error}") from None
    entries = document.pop("accepted", None)
    tables = isinstance(entries, list) and all(isinstance(each, dict) for each in entries)
    if document or not tables:
        odd = next(iter(document), "accepted")
        raise UsageError(f"{FILE}: {odd}: wanted tables [[accepted]] and nothing else")
    assert isinstance(entries, list)
    return [_read(number, each) for number, each in enumerate(entries, start=1)]


def _read(number: int, entry: dict[str, Any]) -> Accepted:
    where = f"{FILE}: entry {number}"
    for key in entry:
        if key not in _KEYS:
            raise UsageError(f"{where}: {unknown_word(key, 'key', _KEYS)}")
    for key in _KEYS:
        if key not in entry and not (key == "from" and isinstance(entry.get("to"), str)):
            raise UsageError(f"{where} has no {key}: wanted {', '.join(_KEYS)}")
    for key in _TEXTS:
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise UsageError(f"{where}: {key} = {entry[key]!r}: wanted words")
    if entry["metric"] not in METRICS and (entry["metric"], entry["to"]) != (ANY_METRIC, GONE):
        raise UsageError(f"{where}: {unknown_word(entry['metric'], 'metric', tuple(METRICS))}")
    if not re.fullmatch(r"[0-9a-f]{7,64}", entry["commit"]):
        raise UsageError(f"{where}: commit = {entry['commit']!r}: wanted 7 or more digits of one")
    if type(entry["expires"]) is not datetime.date:
        raise UsageError(f"{where}: expires = {entry['expires']}: wanted a day, as 2027-01-31")
    return Accepted(
        **{key: entry[key].strip() for key in _TEXTS},
        expires=entry["expires"],
        least=_number(where, "from", entry.get("from", -math.inf)),
        **_upper(where, entry["to"]),
    )


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UsageError(f"{where}: {key} = {value!r}: wanted a number")
    return float(value)


def _upper(where: str, value: Any) -> dict[str, Any]:
    """What ``to`` allows: a number, ``+18%`` of each series, or that the series is gone."""
    if not isinstance(value, str):
        return {"most": _number(where, "to", value), "rise": math.inf, "gone": False}
    if value == GONE:
        return {"most": math.inf, "rise": math.inf, "gone": True}
    if not (share := re.fullmatch(r"\+(\d+(?:\.\d+)?) ?%", value)):
        raise UsageError(f'{where}: to = {value!r}: wanted a number, "+18%" or "{GONE}"')
    return {"most": math.inf, "rise": float(share[1]) / 100, "gone": False}


def unsettled(entries: Sequence[Accepted], settled: Sequence[Accepted]) -> list[Accepted]:
    """The entries that came with head; what those of base accepted is part of the baseline."""
    return [entry for entry in entries if not any(map(entry.repeats, settled))]


def check_new(
    entries: Sequence[Accepted],
    settled: Sequence[Accepted],
    knows: Callable[[str], bool],
    today: datetime.date,
) -> None:
    """Raise UsageError for an entry of head that was reviewed against nothing, or for ever.

    knows: whether a commit is one that head or base goes back to.
    """
    for entry in unsettled(entries, settled):
        if not knows(entry.commit):
            raise UsageError(
                f"{entry.words}: commit = {entry.commit!r}: wanted the commit that it was measured "
                "against, one from which head descends (a shallow clone lacks most: git fetch "
                "--unshallow)"
            )
        if entry.expires > today + LONGEST:
            raise UsageError(
                f"{entry.words}: expires = {entry.expires}: wanted a day within a year, "
                f"{today + LONGEST} at the latest"
            )


def accept(
    findings: Sequence[Finding],
    entries: Sequence[Accepted],
    settled: Sequence[Accepted],
    today: datetime.date,
) -> tuple[list[Finding], list[str]]:
    """The findings, those that an entry accepts with its reason, and what is wrong with entries.

    settled: entries of base. One that stands there has done its work: the change that it accepted
    is part of the baseline, and it accepts no other. It may stay until it expires.
    """
    new = unsettled(entries, settled)
    valid = [entry for entry in new if entry.expires >= today]
    reasons = [next((e.reason for e in valid if e.allows(f)), "") for f in findings]
    judged = [replace(f, accepted=r) for f, r in zip(findings, reasons, strict=True)]
    problems = []
    for entry in entries:
        if entry.expires < today:
            needed = entry in new and any(entry.allows(finding) for finding in findings)
            what = "mend the change, or have it reviewed again with a later day"
            what = what if needed else "remove the entry"
            problems.append(f"{entry.words} expired on {entry.expires}: {what}")
        elif entry in new and entry.idle(findings):
            problems.append(
                f"{entry.words} matches no change: remove it, or correct its series, metric, "
                "device, from and to as the report shows them"
            )
    return judged, problems


def suggest(findings: Sequence[Finding], commit: str, today: datetime.date) -> str:
    """An entry that would accept findings of one implementation, backend and verdict, and of one
    metric unless they vanished. Its reason is left to write."""
    one = findings[0].series
    names = "*" if len(findings) > 1 else glob_escape(one.case_id)
    pattern = f"{glob_escape('/'.join((one.spec, one.implementation, one.backend)))}/{names}"
    gone = findings[0].word is Word.MISSING
    later = today + datetime.timedelta(days=90)
    lines = [
        "[[accepted]]",
        f"series = {json.dumps(pattern)}",  # a JSON string is a TOML string, too
        f'metric = "{ANY_METRIC if gone else one.metric}"',
        f"device = {json.dumps('*' if gone else glob_escape(one.device))}",
        *([f'to = "{GONE}"'] if gone else _range(findings)),
        f'commit = "{commit[:12]}"',
        'reason = ""',
        f"expires = {later}",
    ]
    return "\n".join(lines)


def _range(findings: Sequence[Finding]) -> list[str]:
    """From where to where values change."""
    if METRICS[findings[0].series.metric].kind == "timed":
        # another run measures another number: leave it the room that this one could not see
        most = max((each.change or 0.0) + (each.sees or 0.0) for each in findings)
        return [f'to = "+{math.ceil(100 * min(most, 10.0))}%"']
    least = min(each.base or 0.0 for each in findings)
    return [f"from = {_plain(least)}", f"to = {_plain(max(e.head or 0.0 for e in findings))}"]


def glob_escape(text: str) -> str:
    """A pattern that matches this text alone."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _plain(value: float) -> str:
    if not math.isfinite(value):
        return str(value)  # TOML has inf
    return str(int(value)) if value == int(value) else repr(value)
