"""The record for other programs: CSV, and JSON that pytest-benchmark compares."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.importing import OWN_KEY
from kernelproof.conformance.history.measurement import Measurement, Run, Series
from kernelproof.conformance.history.schema import COLUMNS, SERIES
from kernelproof.conformance.history.store import Store, StoreError


def write_csv(store: Store, series_glob: str, path: Path) -> int:
    """All measurements of series whose name matches, with a line of headings; how many there are.

    Raises StoreError or OSError.
    """
    utc = "strftime(make_timestamp(epoch_us(started)), '%Y-%m-%dT%H:%M:%S.%fZ') AS started"
    chosen = ", ".join(utc if name == "started" else name for name in COLUMNS)
    ordered = f"ORDER BY started, run, {', '.join(SERIES)}, process"
    with _whole(path) as part:
        to = str(part).replace("'", "''")
        rows = store.ask(
            f"COPY (SELECT {chosen} FROM measurements WHERE series GLOB $1 {ordered}) "
            f"TO '{to}' (FORMAT csv, HEADER true)",
            [series_glob],
        )
    return int(rows[0][0])


def write_pytest_benchmark(store: Store, series_glob: str, run_id: str, path: Path) -> Run | None:
    """The times of one run, a benchmark each whose rounds are the processes; what else was measured
    of the case stands in its extra_info. The run is returned, or None where none has such times.

    run_id: how its id begins; of several the last. Raises StoreError or OSError.
    """
    timed = [
        each
        for each in store.measurements(series_glob, metrics=["time"])
        if each.run.id.startswith(run_id)
    ]
    if not timed:
        return None
    run = timed[-1].run
    wanted = [each.measurement for each in timed if each.run.id == run.id]
    everything = store.measurements(runs=[run.id])
    document = _document(run, wanted, [each.measurement for each in everything])
    with _whole(path) as part:
        part.write_text(json.dumps(document, indent=1))
    return run


def _document(
    run: Run, timed: Sequence[Measurement], everything: Sequence[Measurement]
) -> dict[str, Any]:
    processes: dict[Series, list[float]] = {}
    for each in timed:
        processes.setdefault(each.series, []).append(each.value)
    beside: dict[tuple[str, ...], dict[str, float]] = {}
    for each in everything:
        if each.series.metric != "time":
            beside.setdefault(_case(each.series), {}).setdefault(each.series.metric, each.value)
    devices = sorted({series.device for series in processes})
    return {
        "machine_info": {
            "node": "",
            "machine": platform.machine() if not devices else devices[0],
            "python_implementation": "",
            "python_version": "",
            "system": "",
            "cpu": {"brand_raw": ", ".join(devices)},
        },
        "commit_info": {
            "id": run.commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": run.dirty,
            "project": "kernelproof",
            "branch": "(unknown)",
        },
        "benchmarks": [
            _benchmark(series, values, beside.get(_case(series), {}))
            for series, values in processes.items()
        ],
        "datetime": run.started.isoformat(),
        "version": _version(),
    }


def _benchmark(series: Series, values: list[float], beside: dict[str, float]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats = Stats()  # type: ignore[no-untyped-call]  # it has no annotations
    for value in values:
        stats.update(value)  # type: ignore[no-untyped-call]
    name = series.name.removesuffix(":time")
    return {
        "group": f"{series.spec}/{series.case_id}",
        "name": name,
        "fullname": f"kernelproof::{name}",
        "params": None,
        "param": None,
        "extra_info": {**beside, OWN_KEY: {**asdict(series), "processes": values}},
        "options": {},
        "stats": {**stats.as_dict(), "data": values, "iterations": 1},  # type: ignore[no-untyped-call]
    }


def _case(series: Series) -> tuple[str, ...]:
    return series.spec, series.implementation, series.backend, series.case_id


def _version() -> str:
    from importlib.metadata import version

    return version("pytest-benchmark")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes the file once it is complete; a device is written to
    directly. Raises StoreError."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise StoreError(f"{path} is a folder: wanted a file to write to")
        yield path
        return
    if not path.parent.is_dir():
        raise StoreError(f"{path}: the folder {path.parent} does not exist")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
