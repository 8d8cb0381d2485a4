"""Changes that somebody has reviewed and accepted: ``kernelproof-accepted.toml``."""

from __future__ import annotations

import datetime
import fnmatch
import json
import math
import re
import tomllib
from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True)
class Accepted:
    """One entry.

    series: a pattern of names without their metric, as ``matmul.tiled/mine/*``. device: a pattern.
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

    def matches(self, finding: Finding) -> bool:
        """Whether it speaks of this change, and allows as much."""
        series, change = finding.series, finding.change
        name = series.name.removesuffix(f":{series.metric}")
        if finding.word not in ACCEPTABLE or series.metric != self.metric:
            return False
        if not (fnmatch.fnmatchcase(name, self.series) and self._on(series.device)):
            return False
        if finding.word is Word.MISSING or self.gone:
            return self.gone and finding.word is Word.MISSING
        if finding.base is None or finding.head is None or change is None:
            return False
        return finding.base >= self.least and finding.head <= self.most and change <= self.rise

    def _on(self, device: str) -> bool:
        return fnmatch.fnmatchcase(device, self.device)


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
    if entry["metric"] not in METRICS:
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


def accept(
    findings: Iterable[Finding],
    entries: Sequence[Accepted],
    settled: Sequence[Accepted],
    today: datetime.date,
) -> tuple[list[Finding], list[str]]:
    """The findings, those that an entry accepts with its reason, and what is wrong with entries.

    settled: entries of base. One that stands there and matches nothing has done its work: the
    change that it accepted is part of the baseline. It may stay until it expires.
    """
    judged, used = [], set[int]()
    for finding in findings:
        fitting = [n for n, entry in enumerate(entries) if entry.matches(finding)]
        used.update(fitting)
        valid = [entries[n] for n in fitting if entries[n].expires >= today]
        judged.append(replace(finding, accepted=valid[0].reason) if valid else finding)
    problems = []
    for number, entry in enumerate(entries):
        if entry.expires < today:
            what = "mend the change, or have it reviewed again with a later day"
            what = what if number in used else "remove it: it matches no change"
            problems.append(f"{entry.words} expired on {entry.expires}: {what}")
        elif number not in used and entry not in settled:
            problems.append(
                f"{entry.words} matches no change: remove it, or correct its series, metric, "
                "device, from and to as the report shows them"
            )
    return judged, problems


def suggest(findings: Sequence[Finding], commit: str, today: datetime.date) -> str:
    """An entry that would accept findings of one implementation, backend, metric and verdict, its
    reason left to write."""
    one, word = findings[0].series, findings[0].word
    names = "*" if len(findings) > 1 else glob_escape(one.case_id)
    pattern = f"{glob_escape('/'.join((one.spec, one.implementation, one.backend)))}/{names}"
    lines = [
        "[[accepted]]",
        f"series = {json.dumps(pattern)}",  # a JSON string is a TOML string, too
        f'metric = "{one.metric}"',
        f"device = {json.dumps(glob_escape(one.device))}",
    ]
    if word is Word.MISSING:
        lines.append(f'to = "{GONE}"')
    elif METRICS[one.metric].kind == "timed":
        # another run measures another number: leave it the room that this one could not see
        most = max((each.change or 0.0) + (each.sees or 0.0) for each in findings)
        lines.append(f'to = "+{math.ceil(100 * min(most, 10.0))}%"')
    else:
        lines.append(f"from = {_plain(min(each.base or 0.0 for each in findings))}")
        lines.append(f"to = {_plain(max(each.head or 0.0 for each in findings))}")
    later = today + datetime.timedelta(days=90)
    return "\n".join([*lines, f'commit = "{commit[:12]}"', 'reason = ""', f"expires = {later}"])


def glob_escape(text: str) -> str:
    """A pattern that matches this text alone."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _plain(value: float) -> str:
    if not math.isfinite(value):
        return str(value)  # TOML has inf
    return str(int(value)) if value == int(value) else repr(value)
