"""The store of runs: what is written comes back, whoever writes beside and whenever one dies."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from recorded import A, B, run, series

from kernelproof.conformance.history import store as storing
from kernelproof.conformance.history.measurement import METRICS, Measurement, Run
from kernelproof.conformance.history.schema import COLUMNS, SCHEMA_VERSION, VERSION_KEY
from kernelproof.conformance.history.store import Store, StoreError


def names(store: Store) -> set[str]:
    return {each.id for each in store.runs()}


# children are forked from a process that has no threads, as this one may have
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["duckdb", "kernelproof.conformance.history.store", __name__])


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin something in another process."""
    child = CHILDREN.Process(target=work, args=arguments)
    child.start()
    return child


def code_of(child: BaseProcess) -> int | None:
    """How it ended."""
    child.join(timeout=120)
    return child.exitcode


# What is written comes back -----------------------------------------------------------------------


def test_a_run_comes_back_as_it_was(tmp_path):
    values = [0.1, 5e-324, 1e308, 2.0**53 + 2, 0.0, math.inf, math.nan]
    odd = series(name="naïve 'quoted' \"kernel\"\n*", case_id="float32/☃/default")
    written = run(
        {odd: values},
        dirty=True,
        seed="18446744073709551615",
        label="über; 100%",
    )
    last = replace(written.measurements[-1], conformant=False, verdict="slower")
    written = replace(written, measurements=[*written.measurements[:-1], last])
    Store(tmp_path).add(written)
    store = Store(tmp_path)
    assert store.runs() == [replace(written, measurements=())]
    read = [each.measurement for each in store.measurements()]
    assert read[:-1] == list(written.measurements[:-1])
    assert math.isnan(read[-1].value)
    assert replace(read[-1], value=0.0) == replace(last, value=0.0)


def test_a_file_is_named_by_the_sha256_of_its_bytes(tmp_path):
    place = Store(tmp_path / "new" / "folder").add(run())
    assert place.parent == tmp_path / "new" / "folder" / "runs"
    assert place.name == f"{hashlib.sha256(place.read_bytes()).hexdigest()}.parquet"


def test_a_run_without_measurements_is_refused(tmp_path):
    with pytest.raises(StoreError, match="nothing was measured"):
        Store(tmp_path).add(run({}))
    assert not tmp_path.joinpath("runs").exists()


def test_questions_select_series_commits_metrics_and_runs(tmp_path):
    store = Store(tmp_path)
    fast, slow, count = series("time", "fast"), series("time", "slow"), series()
    first, second = run({fast: [1, 2], slow: [3], count: [4]}), run({fast: [5]}, B, hours=1)
    store.add(first)
    store.add(second)

    def values(*glob: str, **chosen: list[str]) -> list[float]:
        return [each.measurement.value for each in store.measurements(*glob, **chosen)]

    assert values("attention.flash/fast/*:time") == [1, 2, 5]
    assert values("*/[fs]*/*:time", commits=[A]) == [1, 2, 3]
    assert values(metrics=["traffic"]) == [4]
    assert values(runs=[second.id]) == [5]
    assert values("*", commits=[]) == []


def test_the_latest_is_of_the_last_run_of_the_clean_commit(tmp_path):
    store, timed = Store(tmp_path), series("time")
    store.add(run({timed: [9]}, hours=3, dirty=True))
    store.add(run({timed: [5, 6]}, hours=2))
    store.add(run({timed: [1, 2, 3]}, hours=1))
    store.add(run({series(): [7]}, hours=4))
    store.add(run({timed: [8]}, B, hours=5))
    assert store.latest(timed, A) == [Measurement(timed, 5, 0), Measurement(timed, 6, 1)]
    assert store.latest_of(A) == {
        timed: store.latest(timed, A),
        series(): [Measurement(series(), 7)],
    }
    assert store.latest(series(name="another"), A) == []


def test_two_machines_merge_by_copying_files(tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for each in (here, there):
        each.add(run(hours=1))
    both = run(hours=2)
    assert here.add(both).name == there.add(both).name
    shutil.copytree(tmp_path / "there" / "runs", tmp_path / "here" / "runs", dirs_exist_ok=True)
    merged = Store(tmp_path / "here")
    assert (len(merged.runs()), merged.damage) == (3, [])


def test_the_view_answers_questions_in_sql(tmp_path):
    store = Store(tmp_path)
    store.add(run({series(): [3], series("time"): [1, 2]}))
    question = (
        "SELECT metric, max(value), any_value(series) FROM measurements GROUP BY 1 ORDER BY 1"
    )
    assert store.connect().execute(question).fetchall() == [
        ("time", 2, series("time").name),
        ("traffic", 3, series().name),
    ]


def test_a_new_store_is_empty_and_makes_nothing(tmp_path):
    store = Store(tmp_path / "none")
    assert (store.runs(), store.measurements(), store.damage) == ([], [], [])
    assert not (tmp_path / "none").exists()


# Clocks -------------------------------------------------------------------------------------------


def test_a_clock_that_goes_backwards_hides_no_run(tmp_path):
    store = Store(tmp_path)
    store.add(run(hours=5))
    assert len(Store(tmp_path).runs()) == 1
    earlier = store.add(run(hours=-5e4))
    os.utime(earlier, (0, 0))
    assert [each.started.year for each in Store(tmp_path).runs()] == [2020, 2026]


@pytest.mark.parametrize(("moved", "gone"), [(-1e6, True), (-60, False), (1e6, False)])
def test_only_an_old_unfinished_file_is_deleted_when_verified(tmp_path, moved, gone):
    store = Store(tmp_path)
    store.add(run())
    part = tmp_path / "tmp" / "unfinished.parquet"
    part.touch()
    now = part.stat().st_mtime
    os.utime(part, (now + moved, now + moved))
    assert store.verify().abandoned == [part.name] * gone
    assert part.exists() is not gone


# Several at once, and the end at any moment -------------------------------------------------------


def write_and_read(folder: Path, runs: list[Run]) -> None:
    store = Store(folder)
    for each in runs:
        store.add(each)
        assert each.id in names(Store(folder))


def test_eight_writers_at_once_lose_nothing(tmp_path):
    runs = [[run(hours=8 * i + j) for j in range(6)] for i in range(8)]
    children = [start(write_and_read, tmp_path, mine) for mine in runs]
    assert [code_of(child) for child in children] == [0] * 8
    store = Store(tmp_path)
    assert names(store) == {each.id for mine in runs for each in mine}
    assert (store.damage, list((tmp_path / "tmp").iterdir())) == ([], [])


STEPS = {
    "before a byte is written": (Store, "_write", True),
    "once the rows are written": (storing, "_flush", True),
    "before it has its name": (os, "replace", True),
    "once it has its name": (os, "replace", False),
}


def die_at(step: str, folder: Path, last: Run) -> None:
    owner, name, before = STEPS[step]
    real = getattr(owner, name)

    def deadly(*arguments: Any) -> None:
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    setattr(owner, name, deadly)
    Store(folder).add(last)


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_that_is_killed_at_any_step_leaves_a_run_whole_or_not_there(tmp_path, step):
    kept, last = run(), run(hours=1)
    Store(tmp_path).add(kept)
    assert code_of(start(die_at, step, tmp_path, last)) == -signal.SIGKILL
    store = Store(tmp_path)
    there = set() if STEPS[step][2] else {last.id}
    assert (names(store), store.damage) == ({kept.id} | there, [])
    store.add(run(hours=2))
    assert store.verify().damage == []


def write_for_ever(folder: Path, number: int, told: Connection) -> None:
    store = Store(folder)
    for count in itertools.count():
        each = replace(run({series("time"): [1.0] * 50}), id=f"{number}.{count}")
        store.add(each)
        told.send(each.id)


def test_a_writer_that_is_killed_at_random_moments_loses_nothing_that_it_had_finished(tmp_path):
    chance, finished = random.Random(5), set()
    for number in range(8):
        hears, told = CHILDREN.Pipe(duplex=False)
        child = start(write_for_ever, tmp_path, number, told)
        told.close()
        finished |= {hears.recv() for _ in range(chance.randint(1, 4))}
        sum(range(chance.randint(0, 1_000_000)))  # it is some part of the way through the next one
        child.kill()
        assert code_of(child) == -signal.SIGKILL
        with contextlib.suppress(EOFError):
            while hears.poll():
                finished.add(hears.recv())
    store = Store(tmp_path)
    assert store.damage == []
    assert finished <= names(store)
    assert len(names(store) - finished) <= 8


# No room ------------------------------------------------------------------------------------------


def write_into_little_room(folder: Path, each: Run) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    with pytest.raises(StoreError, match=r"was not recorded in .*before is unharmed"):
        Store(folder).add(each)


def test_a_disk_that_is_full_costs_the_new_run_alone(tmp_path):
    kept = run()
    Store(tmp_path).add(kept)
    many = run({series(name=f"kernel {i * 7919 % 1009}"): [1 / (i + 1)] for i in range(1000)})
    assert code_of(start(write_into_little_room, tmp_path, many)) == 0
    assert names(Store(tmp_path)) == {kept.id}
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("step", ["_flush", "_write"])
def test_a_disk_without_room_is_told_in_one_sentence(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Store(tmp_path).add(run())
    owner = Store if step == "_write" else storing
    monkeypatch.setattr(owner, step, full)
    with pytest.raises(
        StoreError, match="No space left on device; what was there before is unharmed"
    ):
        Store(tmp_path).add(run(hours=1))
    monkeypatch.undo()
    assert len(Store(tmp_path).runs()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_store_that_cannot_be_made_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"was not recorded in .*file/store: .*Not a directory"):
        Store(tmp_path / "file" / "store").add(run())


# What is remembered -------------------------------------------------------------------------------


@pytest.fixture
def folded(tmp_path, monkeypatch):
    """A folder of five runs that have been folded into one file."""
    monkeypatch.setattr(storing, "FRESH", 2)
    store = Store(tmp_path)
    for hours in range(5):
        store.add(run({series("time"): [hours, hours + 0.5]}, hours=hours))
    assert len(Store(tmp_path).runs()) == 5
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == 1
    return tmp_path


VALUES = [v for hours in range(5) for v in (hours, hours + 0.5)]


def values(folder: Path) -> list[float]:
    return [each.measurement.value for each in Store(folder).measurements()]


def test_what_was_verified_is_not_read_again(folded, monkeypatch):
    looked = []
    monkeypatch.setattr(storing, "flaw_of_bytes", lambda path: looked.append(path.name))
    monkeypatch.setattr(storing, "flaws_of_content", lambda *_, **__: {})
    assert values(folded) == VALUES
    assert looked == []
    new = Store(folded).add(run({series("time"): [9.0]}, hours=9))
    assert values(folded) == [*VALUES, 9.0]
    assert looked == [new.name]


def test_what_is_remembered_may_be_deleted_or_damaged_at_any_time(folded):
    (kept,) = (folded / "cache").glob("*.parquet")
    index = folded / "cache" / "index.json"
    for path in (kept, index):
        for spoil in (Path.unlink, lambda p: flip(p, 200), lambda p: p.write_bytes(b"")):
            spoil(path)
            assert values(folded) == VALUES
    shutil.rmtree(folded / "cache")
    assert values(folded) == VALUES
    assert Store(folded).damage == []


def test_what_goes_between_looking_and_reading_is_looked_for_again(folded):
    store = Store(folded)
    assert store.damage == []
    shutil.rmtree(folded / "cache")
    assert [each.measurement.value for each in store.measurements()] == VALUES
    other = Store(folded)
    new = other.add(run({series("time"): [9.0]}, hours=9))
    assert (other.damage, new.write_bytes(b"spoilt"), len(Store(folded).damage)) == ([], 6, 1)
    assert [each.measurement.value for each in other.measurements()] == VALUES
    assert [each.name for each in other.damage] == [new.name]


def test_a_run_that_was_folded_and_is_gone_is_not_shown(folded):
    first = min((folded / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    assert values(folded) == VALUES[2:]


def test_a_folder_that_keeps_nothing_is_read_all_the_same(folded, monkeypatch):
    shutil.rmtree(folded / "cache")
    (folded / "cache").touch()
    assert values(folded) == VALUES


def flip(path: Path, place: int) -> None:
    """Change one bit of a file, and not its size nor the time that it shows."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# What the documents say ---------------------------------------------------------------------------


def test_the_columns_and_metrics_in_the_documents_are_those_of_the_code():
    text = (Path(__file__).parents[1] / "docs" / "history.md").read_text()
    columns = [f"| `{n}` | {c.sql} | {c.sentence} |" for n, c in COLUMNS.items()]
    metrics = [f"| `{n}` | {m.unit} | {m.kind} | {m.sentence} |" for n, m in METRICS.items()]
    for table in (columns, metrics):
        assert "|\n" + "\n".join(table) + "\n\n" in text
    assert f"## Columns, schema {SCHEMA_VERSION}\n" in text
    assert f"`{VERSION_KEY}`" in text
