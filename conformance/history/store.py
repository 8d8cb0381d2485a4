"""The store: one immutable file per run, and questions to all of them that are whole."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kernelproof.conformance.history.index import Folded, Index
from kernelproof.conformance.history.measurement import Measurement, Run, Series
from kernelproof.conformance.history.schema import (
    COLUMNS,
    OF_THE_MEASUREMENT,
    OF_THE_RUN,
    SCHEMA_VERSION,
    SERIES,
    SERIES_NAME,
    VERSION_KEY,
)
from kernelproof.conformance.history.verification import (
    Flaw,
    flaw_of_bytes,
    flaws_of_content,
    set_aside,
    sha256_of,
    stamp_of,
    unread,
)

if TYPE_CHECKING:
    import duckdb

    Connection: TypeAlias = duckdb.DuckDBPyConnection

FRESH = 64
"""Files beside the folded ones that a question may open: more are folded in. Where many are folded
already, an eighth of those: so each row is folded a few times in all."""

ABANDONED = 24 * 3600.0
"""Seconds after which an unfinished file is nobody's."""

UNUSED = 3600.0
"""Seconds for which another process may still read a folded file that was replaced."""

_IGNORED = "/cache/\n/tmp/\n"


class StoreError(Exception):
    """The store cannot do what was asked; the message says why, and that nothing is lost."""


@dataclass(frozen=True)
class Damage:
    """A file that is not read as a run. place: where it lies now, within the store."""

    name: str
    place: str
    flaw: Flaw

    def __str__(self) -> str:
        aside = "was set aside" if "/damaged/" in f"/{self.place}" else "is left out"
        return f"{self.place} {aside}: {self.flaw.reason}"


@dataclass(frozen=True)
class Recorded:
    """A measurement and the run of which it is; the run's own measurements are left out."""

    run: Run
    measurement: Measurement


@dataclass(frozen=True)
class Scan:
    """What was found in the folder: names of whole files, and what is wrong with the others."""

    sound: Sequence[str]
    damage: Sequence[Damage]
    index: Index


@dataclass(frozen=True)
class Verification:
    """What :meth:`Store.verify` found.

    restored: files that had been set aside and are whole, now back among the runs.
    abandoned: unfinished files of writers that died, now deleted.
    """

    runs: int
    measurements: int
    damage: Sequence[Damage]
    restored: Sequence[str]
    abandoned: Sequence[str]


class Store:
    """A folder of runs. Files that come from elsewhere are seen by the next Store.

    ``runs/`` holds what is kept, ``runs/damaged/`` what was set aside; ``tmp/`` what is being
    written; ``cache/`` what can be made again.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._runs, self._damaged = self.folder / "runs", self.folder / "runs" / "damaged"
        self._cache, self._parts = self.folder / "cache", self.folder / "tmp"
        self._found: Scan | None = None
        self._open: Connection | None = None
        self._writer: Connection | None = None

    # Writing ------------------------------------------------------------------------------------

    def add(self, run: Run) -> Path:
        """Keep a run: its file is there whole, and on the disk, or not at all. Raises StoreError.

        May be called by any number of processes at once.
        """
        if not run.measurements:
            raise StoreError("nothing was measured, so there is nothing to record")
        part = self._parts / f"{uuid.uuid4().hex}.parquet"
        try:
            self._make_folders()
            self._write(run, part)
            place = self._runs / f"{sha256_of(part)}.parquet"
            os.replace(part, place)
            _flush(self._runs)
        except _failures() as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise StoreError(
                f"the run was not recorded in {self.folder}: {_reason(error)}; what was there "
                "before is unharmed"
            ) from error
        self._found = self._open = None
        return place

    def _make_folders(self) -> None:
        if self._runs.is_dir() and self._parts.is_dir():
            return
        for folder in (self._runs, self._parts):
            folder.mkdir(parents=True, exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text(_IGNORED)
        for folder in (self.folder, self.folder.parent):
            _flush(folder)

    def _write(self, run: Run, path: Path) -> None:
        """Write the rows of a run, and wait until they are on the disk."""
        if self._writer is None:
            self._writer = _connect()
        header: dict[str, Any] = {
            "run": run.id,
            "started": int(run.started.timestamp() * 1e6),
            "commit": run.commit,
            "dirty": run.dirty,
            "kernelproof": run.kernelproof,
            "seed": run.seed,
            "label": run.label,
        }
        constant = {n: f"${n}::{column.sql}" for n, column in OF_THE_RUN.items()}
        constant["started"] = "make_timestamptz($started::BIGINT)"
        varying = {n: f"{n}::{column.sql}" for n, column in OF_THE_MEASUREMENT.items()}
        varying["value"] = "coalesce(value, 'nan')::DOUBLE"  # what NumPy calls NaN arrives as NULL
        chosen = ", ".join(f"{sql} AS {name}" for name, sql in {**constant, **varying}.items())
        self._writer.register("rows", _arrays(run.measurements))
        try:
            self._writer.execute(
                f"COPY (SELECT {chosen} FROM rows) TO {_quoted(path)} (FORMAT parquet, "
                f"COMPRESSION zstd, KV_METADATA {{{VERSION_KEY}: '{SCHEMA_VERSION}'}})",
                header,
            )
        finally:
            self._writer.unregister("rows")
        _flush(path)

    # Reading ------------------------------------------------------------------------------------

    @property
    def damage(self) -> Sequence[Damage]:
        """What cannot be read, each file by name. Empty where all is sound."""
        return self._scan().damage

    def runs(self) -> list[Run]:
        """All runs, the earliest first, without their measurements."""
        chosen = ", ".join(f"any_value({sql})" for sql in _HEADER_VALUES[1:])
        rows = self.ask(f"SELECT run, {chosen} FROM measurements GROUP BY run ORDER BY 2, 1")
        return [_header(row) for row in rows]

    def measurements(
        self,
        series_glob: str = "*",
        *,
        commits: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        runs: Sequence[str] | None = None,
    ) -> list[Recorded]:
        """The measurements of series whose name matches, in the order of their runs.

        series_glob: with ``*``, ``?`` and ``[...]``; ``*`` stands for slashes, too.
        """
        where: list[str] = ["true"]
        values: list[Any] = []
        if series_glob != "*":
            where.append("series GLOB ?")
            values.append(series_glob)
        for column, wanted in (("commit", commits), ("metric", metrics), ("run", runs)):
            if wanted is not None:
                where.append(f"list_contains(?::VARCHAR[], {column})")
                values.append(list(wanted))
        return self._recorded(" AND ".join(where), values)

    def latest(self, series: Series, commit: str) -> list[Measurement]:
        """What the last run of a clean commit measured of a series; empty if none did."""
        where = " AND ".join(f"{column} = ?" for column in SERIES)
        return self._latest(where, list(astuple(series)), commit).get(series, [])

    def latest_of(self, commit: str) -> dict[Series, list[Measurement]]:
        """The same for every series that was measured at that commit."""
        return self._latest("true", [], commit)

    def _latest(
        self, where: str, values: list[Any], commit: str
    ) -> dict[Series, list[Measurement]]:
        last: dict[Series, list[Recorded]] = {}
        where = f"{where} AND commit = ? AND NOT dirty"
        for each in self._recorded(where, [*values, commit]):
            of_series = last.setdefault(each.measurement.series, [])
            if of_series and of_series[-1].run.id != each.run.id:
                of_series.clear()
            of_series.append(each)
        return {series: [e.measurement for e in found] for series, found in last.items()}

    def _recorded(self, where: str, values: list[Any]) -> list[Recorded]:
        chosen = ", ".join([*_HEADER_VALUES, *OF_THE_MEASUREMENT])
        rows = self.ask(
            f"SELECT {chosen} FROM measurements WHERE {where} "
            f"ORDER BY started, run, {', '.join(SERIES)}, process",
            values,
        )
        runs: dict[str, Run] = {}
        series: dict[tuple[str, ...], Series] = {}
        found = []
        for row in rows:
            run = runs.get(row[0]) or runs.setdefault(row[0], _header(row))
            words = row[len(OF_THE_RUN) : len(OF_THE_RUN) + len(SERIES)]
            one = series.get(words) or series.setdefault(words, Series(*words))
            rest = row[len(OF_THE_RUN) + len(SERIES) :]
            found.append(Recorded(run, Measurement(one, *rest)))
        return found

    def ask(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that answer a question in SQL about ``measurements``. Raises StoreError."""
        import duckdb

        with self._telling():
            try:
                return self.connect().execute(question, list(values)).fetchall()
            except duckdb.IOException:  # another process set a file aside, or emptied the cache
                self._found = self._open = None
                return self.connect().execute(question, list(values)).fetchall()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except _failures() as error:
            raise StoreError(
                f"the store {self.folder} cannot be read: {_reason(error)}; kernelproof history "
                "verify names what is damaged"
            ) from error

    def connect(self) -> Connection:
        """A connection to DuckDB with the view ``measurements``: a row per measurement of the
        whole files, in the columns of ``schema.COLUMNS``; ``series``, the name of its series; and
        ``first``, whether it is the first of its series in the run.
        """
        if self._open is None:
            scan = self._scan()
            folded = scan.index.folded
            fresh = [n for n in scan.sound if folded is None or n not in folded.runs]
            parts = [_rows(self._runs / name for name in fresh)] if fresh or not folded else []
            if folded:
                parts.append(f"SELECT * FROM read_parquet({_quoted(self._cache / folded.name)})")
            self._open = _connect()
            self._open.execute(f"CREATE VIEW measurements AS {' UNION ALL '.join(parts)}")
        return self._open

    # Looking after the folder -------------------------------------------------------------------

    def verify(self) -> Verification:
        """Read every file again, whatever is remembered of it; put back what is whole after all."""
        with self._telling():
            restored, abandoned = list(self._restore()), list(self._clear_parts())
            self._found, self._open = self._look(Index(), every_row=True), None
        ((measurements,),) = self.ask("SELECT count(*) FROM measurements")
        scan = self._found
        back = [name for name in restored if name in set(scan.sound)]
        return Verification(len(scan.sound), measurements, scan.damage, back, abandoned)

    def _restore(self) -> Iterator[str]:
        for path in sorted(_files(self._damaged)):
            name = _original(path.name)
            if _flaw_of(path, name) is None and not (self._runs / name).exists():
                with contextlib.suppress(OSError):
                    path.rename(self._runs / name)
                    yield name

    def _clear_parts(self) -> Iterator[str]:
        """Delete what writers left that died, by the clock of the disk on which it lies."""
        now = _clock_of(self._parts)
        if now is None:
            return
        for path in _files(self._parts):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED:
                    path.unlink()
                    yield path.name

    def _scan(self) -> Scan:
        if self._found is None:
            with self._telling():
                self._found = self._look(Index.read(self._cache / "index.json"))
        return self._found

    def _look(self, known: Index, *, every_row: bool = False) -> Scan:
        """Verify what is not known yet, set aside what is damaged, fold what has gathered."""
        verified, unknown = {}, []
        for path in sorted(_files(self._runs)):
            with contextlib.suppress(OSError):
                stamp = stamp_of(path)
                if known.verified.get(path.name) == stamp:
                    verified[path.name] = stamp
                    continue
            unknown.append(path)
        stamps, flaws = {}, {}
        for path in unknown:
            try:
                stamps[path] = stamp_of(path)  # before it is read: what changes later shows
                flaw = flaw_of_bytes(path)
            except OSError as error:
                flaw = unread(error)
            if flaw:
                flaws[path] = flaw
        right = [path for path in unknown if path not in flaws]
        if right:
            flaws.update(flaws_of_content(_connect(), right, every_row=every_row))
        verified.update({p.name: stamps[p] for p in right if p not in flaws})
        found = [*self._set_aside_before(verified), *self._set_aside(flaws)]
        damage = {each.place: each for each in found}
        index = self._remember(known, Index(verified, known.folded))
        return Scan(sorted(verified), [damage[place] for place in sorted(damage)], index)

    def _set_aside(self, flaws: dict[Path, Flaw]) -> Iterator[Damage]:
        for path, flaw in flaws.items():
            if not flaw.proven and not os.path.lexists(path):  # another process took it meanwhile
                continue
            place = set_aside(path, self._damaged) if flaw.proven else path
            yield Damage(path.name, str(place.relative_to(self.folder)), flaw)

    def _set_aside_before(self, verified: dict[str, Any]) -> Iterator[Damage]:
        """What lies among the damaged and has no whole copy among the runs: a loss that nobody
        has accepted yet by deleting it."""
        for path in _files(self._damaged):
            name = _original(path.name)
            if name not in verified:
                flaw = _flaw_of(path, name) or Flaw(
                    "it is whole: kernelproof history verify puts it back", proven=False
                )
                yield Damage(name, str(path.relative_to(self.folder)), flaw)

    def _remember(self, known: Index, found: Index) -> Index:
        """Keep what was found, if the disk lets us, and fold it if much is new."""
        folded, runs = found.folded, found.verified.keys()
        if folded and not (folded.runs <= runs and folded.is_sound(self._cache)):
            folded = None
        already = len(folded.runs) if folded else 0
        with contextlib.suppress(*_failures()):  # nothing but speed depends on it
            if len(runs) - already > max(FRESH, already // 8):
                self._cache.mkdir(exist_ok=True)
                folded = self._fold(sorted(runs))
        index = replace(found, folded=folded)
        if index != known and runs:
            with contextlib.suppress(OSError):
                self._cache.mkdir(exist_ok=True)
                index.write(self._cache / "index.json")
        return index

    def _fold(self, names: Sequence[str]) -> Folded:
        part = self._cache / f"{uuid.uuid4().hex}.part"
        rows = _rows(self._runs / name for name in names)
        try:
            _connect().execute(
                f"COPY ({rows} ORDER BY {', '.join(SERIES)}, started, run, process) "
                f"TO {_quoted(part)} (FORMAT parquet, COMPRESSION zstd)"
            )
            _flush(part)
            place = self._cache / f"{sha256_of(part)}.parquet"
            os.replace(part, place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        now = place.stat().st_mtime
        for path in _files(self._cache):
            with contextlib.suppress(OSError):
                old = now - path.stat().st_mtime > UNUSED
                if old and path.name != place.name and path.suffix in (".parquet", ".part"):
                    path.unlink()
        return Folded(place.name, stamp_of(place), frozenset(names))


_HEADER_VALUES = ["run", "epoch_us(started)", *list(OF_THE_RUN)[2:]]


def _header(row: Sequence[Any]) -> Run:
    """A run without measurements, from the first columns of one of its rows."""
    run, started, commit, dirty, kernelproof, seed, label = row[: len(OF_THE_RUN)]
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(
        microseconds=started
    )
    return Run(run, moment, commit, dirty, kernelproof, seed, (), label)


def _connect() -> Connection:
    import duckdb

    without = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    return duckdb.connect(config=dict(without))


def _arrays(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Columns by name, as DuckDB reads them fastest."""
    import numpy as np

    series = zip(*(astuple_of(m.series) for m in measurements), strict=True)
    columns: dict[str, Any] = {
        name: np.array(words, dtype=object) for name, words in zip(SERIES, series, strict=True)
    }
    columns["value"] = np.array([m.value for m in measurements], dtype=np.float64)
    columns["process"] = np.array([m.process for m in measurements], dtype=np.int32)
    columns["conformant"] = np.array([m.conformant for m in measurements], dtype=np.bool_)
    columns["verdict"] = np.array([m.verdict for m in measurements], dtype=object)
    return columns


def astuple_of(series: Series) -> tuple[str, ...]:
    """The words of a series, in the order of the columns."""
    return tuple(getattr(series, name) for name in SERIES)


def _rows(paths: Any) -> str:
    """In SQL: the rows of run files, the name of each one's series, and whether it is the first of
    this series in its run."""
    names = [_quoted(path) for path in paths]
    if not names:
        empty = ", ".join(f"NULL::{column.sql} AS {name}" for name, column in COLUMNS.items())
        return f"SELECT {empty}, NULL::VARCHAR AS series, NULL::BOOLEAN AS first WHERE false"
    first = f"process = min(process) OVER (PARTITION BY run, {', '.join(SERIES)})"
    return (
        f"SELECT *, {SERIES_NAME} AS series, {first} AS first "
        f"FROM read_parquet([{', '.join(names)}])"
    )


def _quoted(path: Path) -> str:
    text = str(path.resolve()).replace("'", "''")
    return f"'{text}'"


def _files(folder: Path) -> Iterator[Path]:
    """What lies in a folder, but for the folder of the damaged; nothing if there is none."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found]
    except FileNotFoundError:
        return
    yield from (folder / name for name in names if name != "damaged")


def _flaw_of(path: Path, name: str) -> Flaw | None:
    """What is wrong with one file that had this name."""
    return flaw_of_bytes(path, name) or flaws_of_content(_connect(), [path]).get(path)


def _original(name: str) -> str:
    """The name that a file had before it was set aside: several may have had the same."""
    stem, _, number = name.rpartition(".")
    return stem if number.isdecimal() else name


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clock_of(folder: Path) -> float | None:
    """The time on the disk of a folder, which may be another machine's; None if it is not told."""
    path = folder / f"{uuid.uuid4().hex}.clock"
    try:
        path.touch()
        now = path.stat().st_mtime
        path.unlink()
    except OSError:
        return None
    return now


def _failures() -> tuple[type[Exception], ...]:
    import duckdb

    return OSError, duckdb.Error


def _reason(error: Exception) -> str:
    """The first line of what went wrong; where DuckDB wraps it in JSON, what is wrapped."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    wrapped = re.search(r'"exception_message":("(?:[^"\\]|\\.)*")', line)
    return str(json.loads(wrapped[1])) if wrapped else line
