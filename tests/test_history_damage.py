"""Files of the store that somebody or something has spoilt."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from recorded import run, series
from test_history_store import flip

from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.history import cli, verification
from kernelproof.conformance.history.schema import COLUMNS, SCHEMA_VERSION, VERSION_KEY
from kernelproof.conformance.history.store import Store, StoreError


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def named_by_content(path: Path) -> Path:
    """Rename a file to what its bytes deserve."""
    name = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"{name}.parquet"))


def parquet(path: Path, columns: str, version: int = SCHEMA_VERSION) -> Path:
    """Write a file with one row."""
    metadata = f"KV_METADATA {{{VERSION_KEY}: '{version}'}}"
    duckdb.execute(f"COPY (SELECT {columns}) TO '{path}' (FORMAT parquet, {metadata})")
    return path


OURS = ", ".join(f"NULL::{column.sql} AS {name}" for name, column in COLUMNS.items())
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (cut, "they were changed or cut short"),
    "emptied": (lambda p: p.write_bytes(b""), "its 0 bytes have the sha256 e3b0c44298fc"),
    "one bit of a value": (lambda p: flip(p, 60), "they were changed or cut short"),
    "one bit of the description": (lambda p: flip(p, -30), "they were changed or cut short"),
    "longer": (lambda p: p.write_bytes(p.read_bytes() + b"\n"), "they were changed"),
}
STRAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "no Parquet": (
        lambda folder: named_by_content(folder.joinpath("x").write_text("x") and folder / "x"),
        "it is no Parquet file",
    ),
    "other columns": (
        lambda folder: named_by_content(parquet(folder / "x", "1 AS value")),
        "it has not the columns of a run: wanted run, started, commit",
    ),
    "a column of another type": (
        lambda folder: named_by_content(
            parquet(folder / "x", OURS.replace("NULL::DOUBLE AS value", "1::INTEGER AS value"))
        ),
        "it has not the columns of a run: wanted value in it",
    ),
    "of another program": (
        lambda folder: (folder / "notes.txt").write_text("mine"),
        "a stray file: wanted runs alone",
    ),
    "a folder": (lambda folder: (folder / f"{'0' * 64}.parquet").mkdir(), "it is a folder"),
}


def refuse_bytes(code: int) -> Callable[..., object]:
    def refuse(path: Path) -> str:
        raise OSError(code, os.strerror(code))

    return refuse


def want_memory(*_: object) -> object:
    raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block")


PASSING: dict[str, tuple[str, Callable[..., object], str]] = {
    "no descriptors": ("sha256_of", refuse_bytes(errno.EMFILE), "Too many open files"),
    "no right": ("sha256_of", refuse_bytes(errno.EACCES), "Permission denied"),
    "no answer": ("sha256_of", refuse_bytes(errno.EIO), "Input/output error"),
    "no memory": ("_flaws", want_memory, "Out of Memory Error: could not allocate block"),
}


@pytest.fixture
def three(tmp_path):
    """A store of three runs, verified once, and the file of the second."""
    files = [Store(tmp_path).add(run({series("time"): [h]}, hours=h)) for h in range(3)]
    assert len(Store(tmp_path).runs()) == 3
    return tmp_path, files[1]


def values(store: Store) -> list[float]:
    return [each.measurement.value for each in store.measurements()]


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_file_is_named_and_set_aside_and_the_others_are_read(three, what):
    folder, file = three
    spoil, reason = SPOILT[what]
    spoil(file)
    content = file.read_bytes()
    for _ in range(2):  # it is told again until somebody does something about it
        store = Store(folder)
        assert values(store) == [0, 2]
        (damage,) = store.damage
        assert str(damage).startswith(f"runs/damaged/{file.name} was set aside: ")
        assert reason in str(damage)
    assert (folder / "runs" / "damaged" / file.name).read_bytes() == content


@pytest.mark.parametrize("what", STRAY)
def test_what_is_no_run_is_named_and_set_aside(three, what):
    folder, _ = three
    make, reason = STRAY[what]
    make(folder / "runs")
    store = Store(folder)
    assert values(store) == [0, 1, 2]
    (damage,) = store.damage
    assert reason in str(damage)
    assert not os.path.lexists(folder / "runs" / damage.name)
    assert os.path.lexists(folder / damage.place)


@pytest.mark.parametrize("what", PASSING)
def test_a_file_that_cannot_be_read_this_time_is_told_and_stays(three, monkeypatch, capsys, what):
    folder, file = three
    name, refuse, reason = PASSING[what]
    index = folder / "cache" / "index.json"
    index.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(verification, name, refuse)
        store = Store(folder)
        assert store.runs() == []
        told = f"runs/{file.name} is left out: it cannot be read: {reason}"
        assert told in [str(each) for each in store.damage]
        assert cli.ending(store) == ExitCode.INFRASTRUCTURE
        assert "delete" not in capsys.readouterr().err
        assert Store(folder).verify().runs == 0
    assert not (folder / "runs" / "damaged").exists()
    store = Store(folder)
    assert (store.damage, values(store)) == ([], [0, 1, 2])


def test_a_link_whose_disk_is_away_stays(three):
    folder, _ = three
    link = folder / "runs" / f"{'0' * 64}.parquet"
    link.symlink_to("gone")
    store = Store(folder)
    assert values(store) == [0, 1, 2]
    (damage,) = store.damage
    assert str(damage) == f"runs/{link.name} is left out: it cannot be read: {os.strerror(2)}"
    assert link.is_symlink()


def test_a_folder_of_runs_that_cannot_be_listed_is_an_error_of_the_store(three, monkeypatch):
    folder, _ = three
    monkeypatch.setattr(os, "scandir", refuse_bytes(errno.EMFILE))
    for ask in (Store.runs, Store.verify, lambda store: store.damage):
        with pytest.raises(StoreError, match=r"cannot be read: .*Too many open files"):
            ask(Store(folder))


def test_a_bit_that_flips_without_a_trace_is_found_by_verify(three, monkeypatch):
    folder, file = three
    flip(file, 60)
    # as on a disk that fails: neither size nor times nor the inode have changed
    monkeypatch.setattr(Store, "_scan", lambda self: self._look(verification_index(folder)))
    assert Store(folder).damage == []
    monkeypatch.undo()
    found = Store(folder).verify()
    assert (found.runs, found.measurements) == (2, 2)
    assert [each.name for each in found.damage] == [file.name]


def verification_index(folder: Path):
    from kernelproof.conformance.history.index import Index

    files = (folder / "runs").glob("*.parquet")
    return Index({file.name: verification.stamp_of(file) for file in files})


def test_deleting_a_damaged_file_accepts_the_loss(three):
    folder, file = three
    cut(file)
    (damage,) = Store(folder).damage
    (folder / damage.place).unlink()
    store = Store(folder)
    assert (store.damage, values(store)) == ([], [0, 2])


def test_a_whole_copy_put_in_its_place_mends_the_store(three, tmp_path):
    folder, file = three
    copy = shutil.copy(file, tmp_path / "copy")
    cut(file)
    assert len(Store(folder).damage) == 1
    shutil.copy(copy, file)
    store = Store(folder)
    assert (store.damage, values(store)) == ([], [0, 1, 2])


def test_a_file_that_was_set_aside_while_it_was_being_copied_is_put_back_by_verify(three):
    folder, file = three
    content = file.read_bytes()
    cut(file)
    (damage,) = Store(folder).damage
    (folder / damage.place).write_bytes(content)  # the rest arrives
    assert "it is whole: kernelproof history verify puts it back" in str(Store(folder).damage[0])
    found = Store(folder).verify()
    assert (found.restored, found.damage) == ([file.name], [])
    assert values(Store(folder)) == [0, 1, 2]


def test_files_of_one_name_that_were_damaged_twice_are_both_kept(three):
    folder, file = three
    copy = file.read_bytes()
    for length in (10, 20):
        file.write_bytes(copy[:length])
        assert [each.name for each in Store(folder).damage] == [file.name] * (length // 10)
    kept = sorted((folder / "runs" / "damaged").iterdir())
    assert [len(path.read_bytes()) for path in kept] == [10, 20]


def test_a_file_of_a_later_version_is_named_and_stays_where_it_is(three):
    folder, _ = three
    later = named_by_content(parquet(folder / "runs" / "x", "1 AS anything", SCHEMA_VERSION + 1))
    store = Store(folder)
    assert values(store) == [0, 1, 2]
    assert [str(each) for each in store.damage] == [
        f"runs/{later.name} is left out: its schema is {SCHEMA_VERSION + 1}, and this kernelproof "
        f"reads {SCHEMA_VERSION}: pip install --upgrade kernelproof"
    ]
    assert later.exists()


def test_a_store_that_may_only_be_read_tells_of_damage_all_the_same(three, monkeypatch):
    folder, file = three
    cut(file)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "rename", refuse)
    store = Store(folder)
    assert values(store) == [0, 2]
    assert str(store.damage[0]).startswith(f"runs/{file.name} is left out: ")


def test_a_file_that_another_reader_sets_aside_meanwhile_is_told_by_both(three, monkeypatch):
    folder, file = three
    cut(file)
    first, second = Store(folder), Store(folder)
    real = verification.sha256_of

    def late(path: Path) -> str:
        monkeypatch.setattr(verification, "sha256_of", real)
        assert len(second.damage) == 1
        return real(path)

    monkeypatch.setattr(verification, "sha256_of", late)
    assert [each.name for each in first.damage] == [file.name]
    assert values(first) == values(second) == [0, 2]
