"""Which run files are whole: their bytes are what their names say, and their columns ours."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from kernelproof.conformance.history.schema import COLUMNS, SCHEMA_VERSION, VERSION_KEY

if TYPE_CHECKING:
    import duckdb

_NAME = re.compile(r"([0-9a-f]{64})\.parquet")

Stamp: TypeAlias = tuple[int, int, int, int]
"""Size, times of the last change of content and of anything, inode: a file that was not touched
has the same."""


@dataclass(frozen=True)
class Flaw:
    """Why a file cannot be read as a run.

    proven: whether its content was read and is wrong. What could not be read this time, or is of a
    later kernelproof, may be whole: nobody moves it or says that it can be deleted.
    """

    reason: str
    proven: bool = True


def unread(error: Exception) -> Flaw:
    """Of a file that could not be read this time: for want of descriptors, memory, or a right, or
    since the disk did not answer."""
    words = error.strerror if isinstance(error, OSError) else None
    return Flaw(f"it cannot be read: {words or str(error).splitlines()[0]}", proven=False)


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file. Raises OSError."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def sha256_of(path: Path) -> str:
    """In hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flaw_of_bytes(path: Path, name: str = "") -> Flaw | None:
    """Why the bytes of a file are not those of its name, or of another name; None if they are."""
    named = _NAME.fullmatch(name or path.name)
    if named is None:
        return Flaw("a stray file: wanted runs alone, each named by the sha256 of its bytes")
    try:
        found, size = sha256_of(path), path.stat().st_size
    except IsADirectoryError:
        return Flaw("it is a folder")
    except OSError as error:
        return unread(error)
    if found == named[1]:
        return None
    return Flaw(
        f"its {size:,} bytes have the sha256 {found[:12]}...: they were changed or cut short"
    )


def flaws_of_content(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], *, every_row: bool = False
) -> dict[Path, Flaw]:
    """Why files with the right bytes are no runs all the same: by path, of those that are none.

    every_row: read the values, too, and not only what the file says of itself.
    """
    import duckdb

    if not paths:
        return {}
    try:
        return _flaws(connection, paths, every_row)
    except duckdb.InvalidInputException as error:  # DuckDB's word for content that is malformed
        if len(paths) == 1:
            return {paths[0]: Flaw(f"it is no Parquet file: {str(error).splitlines()[0]}")}
    except duckdb.Error as error:
        if len(paths) == 1:
            return {paths[0]: unread(error)}
    # one unreadable file spoils the question for all: halves say which
    middle = len(paths) // 2
    return {
        **flaws_of_content(connection, paths[:middle], every_row=every_row),
        **flaws_of_content(connection, paths[middle:], every_row=every_row),
    }


def _flaws(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], every_row: bool
) -> dict[Path, Flaw]:
    names = [str(path) for path in paths]
    versions = dict(
        connection.execute(
            "SELECT file_name, decode(value) FROM parquet_kv_metadata($1) WHERE decode(key) = $2",
            [names, VERSION_KEY],
        ).fetchall()
    )
    columns: dict[str, list[tuple[str, str]]] = {}
    for name, column, kind in connection.execute(
        "SELECT file_name, name, type FROM parquet_schema($1) WHERE type IS NOT NULL", [names]
    ).fetchall():
        columns.setdefault(name, []).append((column, kind))
    flaws = {}
    for path, name in zip(paths, names, strict=True):
        if flaw := _flaw(versions.get(name), columns.get(name, [])):
            flaws[path] = flaw
    if every_row and (sound := [n for p, n in zip(paths, names, strict=True) if p not in flaws]):
        connection.execute(
            "SELECT bit_xor(hash(COLUMNS(*))) FROM read_parquet($1)", [sound]
        ).fetchall()
    return flaws


def _flaw(version: str | None, columns: Sequence[tuple[str, str]]) -> Flaw | None:
    if version is not None and version.isdecimal() and int(version) > SCHEMA_VERSION:
        return Flaw(
            f"its schema is {version}, and this kernelproof reads {SCHEMA_VERSION}: "
            "pip install --upgrade kernelproof",
            proven=False,
        )
    wanted = {name: column.parquet for name, column in COLUMNS.items()}
    if dict(columns) == wanted and version == str(SCHEMA_VERSION):
        return None
    missing = [name for name, kind in wanted.items() if dict(columns).get(name) != kind]
    if missing:
        return Flaw(f"it has not the columns of a run: wanted {', '.join(missing)} in it")
    return Flaw(f"it has not the columns of a run of schema {SCHEMA_VERSION}")


def set_aside(path: Path, damaged: Path) -> Path:
    """Move a file among the damaged; where that is not allowed it stays. Its new place."""
    try:
        damaged.mkdir(exist_ok=True)
        place, number = damaged / path.name, 0
        while os.path.lexists(place):
            number += 1
            place = damaged / f"{path.name}.{number}"
        path.rename(place)
        return place
    except FileNotFoundError:  # another process has set it aside meanwhile
        return damaged / path.name
    except OSError:  # a store that may only be read
        return path
