"""What is remembered of a folder of runs. It may be deleted at any time, and is made again."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernelproof.conformance.history.verification import Stamp, sha256_of, stamp_of

_VERSION = 1


@dataclass(frozen=True)
class Folded:
    """One Parquet file with the rows of many runs, sorted by series; a copy that is fast to read.

    name: the sha256 of its bytes. runs: names of the run files of which it was made.
    """

    name: str
    stamp: Stamp
    runs: frozenset[str]

    def is_sound(self, folder: Path) -> bool:
        """Whether the file is there as it was made."""
        path = folder / self.name
        try:
            return stamp_of(path) == self.stamp or f"{sha256_of(path)}.parquet" == self.name
        except OSError:
            return False


@dataclass(frozen=True)
class Index:
    """Which files were whole when they had which stamp, and the folded copy of them."""

    verified: Mapping[str, Stamp] = field(default_factory=dict)
    folded: Folded | None = None

    @classmethod
    def read(cls, path: Path) -> Index:
        """The index in a file; an empty one where there is none that can be believed."""
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                return cls()
            found = json.loads(body)
        except (OSError, ValueError):
            return cls()
        if found["version"] != _VERSION:
            return cls()
        verified: dict[str, Stamp] = {n: _stamp(s) for n, s in found["verified"].items()}
        folded = found["folded"]
        if folded is None:
            return cls(verified)
        runs = frozenset(folded["runs"])
        return cls(verified, Folded(folded["name"], _stamp(folded["stamp"]), runs))

    def write(self, path: Path) -> None:
        """Write whole or not at all. Raises OSError."""
        folded = self.folded
        body = json.dumps(
            {
                "version": _VERSION,
                "verified": self.verified,
                "folded": folded
                and {"name": folded.name, "stamp": folded.stamp, "runs": sorted(folded.runs)},
            },
            separators=(",", ":"),
        ).encode()
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _stamp(given: list[int]) -> Stamp:
    size, modified, changed, inode = given
    return size, modified, changed, inode
