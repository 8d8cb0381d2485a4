"""The run record: one JSON document per run; ``record.schema.json`` describes it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kernelproof import __version__
from kernelproof.conformance.standing import standings
from kernelproof.conformance.suite import Suite, UsageError
from kernelproof.conformance.verdict import Result

SCHEMA_VERSION = 2


def now() -> datetime.datetime:
    """The present, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def check_writable(path: str | None, option: str = "--json") -> None:
    """Raise UsageError before the run where a file could not be written after it."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: the folder {folder} does not exist")
    if Path(path).is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path}: wanted a file that can be written")


@dataclass(frozen=True)
class RunRecord:
    """What one run did, on what, and what came out."""

    suite: Suite
    started: datetime.datetime
    results: Sequence[Result]

    def to_json(self, exit_code: int) -> dict[str, Any]:
        """The document."""
        settings = self.suite.settings
        versions = [d["versions"] for d in self.suite.description if "versions" in d]
        return {
            "schema": SCHEMA_VERSION,
            "kernelproof": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round((now() - self.started).total_seconds(), 3),
            "exit_code": exit_code,
            "tier": settings.tier,
            "seed": settings.seed,
            "targets": [t.text for t in settings.targets],
            "environment": {
                "system": platform.platform(),
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
                "gpu": next((d["device"] for d in self.suite.description if d.get("device")), None),
                "python": platform.python_version(),
                "numpy": version("numpy"),
                **{
                    name: versions[0][name] if versions else None
                    for name in ("torch", "triton", "meter", "arithmetic")
                },
            },
            "implementations": [
                {
                    "spec": each.spec.name,
                    "name": each.name,
                    "target": settings.targets[each.target].text,
                    "backends": list(each.backends),
                    "dtypes": list(each.dtypes),
                    "precision": {d: each.precision_at(d).name for d in each.dtypes},
                    "returns": list(each.returns),
                    "limits": each.limits,
                    "deviates": each.deviates,
                    "atomics": each.atomics,
                    "gradients": list(each.gradients),
                    "tiles": dict(each.tiles),
                }
                for each in self.suite.implementations
            ],
            "summary": [s.to_json() for s in standings(self.suite, self.results)],
            "checks": [r.to_json() for r in self.results],
        }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write whole or not at all; into a device or a pipe, directly. Raises OSError."""
    path = path.resolve()  # a link is followed, not replaced
    if path.exists() and not path.is_file():
        with path.open("w") as stream:
            json.dump(document, stream, indent=1, allow_nan=False)
        return
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as file:
        try:
            json.dump(document, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
