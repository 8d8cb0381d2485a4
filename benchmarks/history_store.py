"""The store of runs with a million measurements: rows written a second, and seconds of each answer.

`python benchmarks/history_store.py` writes docs/measurements/history-store.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.measurement import ANY_DEVICE, Measurement, Run, Series
from kernelproof.conformance.history.overview import lines_of
from kernelproof.conformance.history.store import Store

REPEATS = 5
METRICS = (
    "traffic",
    "sectors",
    "footprint",
    "flops",
    "exps",
    "error",
    "time",
    "time",
    "time",
    "time",
)


def measurements(count: int, run: int) -> list[Measurement]:
    """So many rows: seven metrics of each case, of the time four processes."""
    rows = []
    for row in range(count):
        case, metric = divmod(row, len(METRICS))
        name = METRICS[metric]
        series = Series(
            spec=("attention.flash", "attention.scaled_dot_product", "matmul.tiled")[case % 3],
            implementation=f"mine-{case % 7}",
            backend="interpret" if case % 2 else "cpu",
            case_id=f"float16/b1.hq4.hkv2.tq{128 + case}.tk{128 + case}.d64/causal-top-left/normal",
            metric=name,
            device=ANY_DEVICE
            if metric < 5
            else "AMD EPYC 9654 96-Core Processor, 96 cores, 8 threads",
            toolchain="torch 2.13.0+cpu, triton 3.9.0, meter 4, arithmetic 1",
        )
        value = 1e-3 + 1e-6 * ((row * 2654435761 + run) % 1000) if metric > 4 else 1024.0 * row
        rows.append(Measurement(series, value, max(0, metric - 6), True, "pass"))
    return rows


def made(count: int, run: int) -> Run:
    """One run of the history."""
    started = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=run)
    rows = measurements(count, run)
    return Run(f"{run:032x}", started, f"{run:040x}", False, "1.0", "0", rows, "benchmark")


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(folder: Path, runs: int, rows: int) -> dict[str, Any]:
    """Fill a store and ask it: every question of a new Store, as every command does."""
    writer, spent, computed = Store(folder), 0.0, 0.0
    for number in range(runs):
        run = made(rows, number)
        before = time.process_time()
        spent += seconds(lambda run=run: writer.add(run))
        computed += time.process_time() - before
    last = made(rows, runs - 1)
    one = last.measurements[len(METRICS) - 1].series
    questions: dict[str, Callable[[], Any]] = {
        "log": lambda: lines_of(Store(folder), folder),
        "log of one series": lambda: lines_of(Store(folder), folder, one.name),
        "a series": lambda: Store(folder).measurements(one.name),
        "a pattern of series": lambda: Store(folder).measurements("*tq13[0-4].*:time"),
        "all that a commit has (gate)": lambda: Store(folder).latest_of(last.commit),
        "a series at a commit": lambda: Store(folder).latest(one, last.commit),
    }
    first = seconds(Store(folder).runs)
    answers, computing = {}, {}
    for name, ask in questions.items():
        before = time.process_time()
        answers[name] = statistics.median(seconds(ask) for _ in range(REPEATS))
        computing[name] = (time.process_time() - before) / REPEATS
    Store(folder).add(made(rows, runs))
    return {
        "runs": runs,
        "rows_per_run": rows,
        "ingest_rows_per_second": round(runs * rows / spent),
        "ingest_rows_per_second_of_processor": round(runs * rows / computed),
        "bytes_per_row": round(size(folder / "runs") / runs / rows, 2),
        "first_scan_seconds": round(first, 3),
        "seconds": {name: round(value, 4) for name, value in answers.items()},
        "seconds_of_processor": {name: round(value, 4) for name, value in computing.items()},
        "log_after_one_more_run_seconds": round(seconds(questions["log"]), 4),
        "verify_seconds": round(seconds(Store(folder).verify), 3),
    }


def size(folder: Path) -> int:
    """Bytes in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", help="RUNSxROWS, default 1000x1000, 10000x100")
    parser.add_argument("--folder", default=None, help="of a disk to measure (default temporary)")
    parser.add_argument("--out", default="docs/measurements/history-store.json")
    arguments = parser.parse_args()
    found = []
    for shape in arguments.shape or ["1000x1000", "10000x100"]:
        runs, rows = map(int, shape.split("x"))
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            found.append(measure(folder, runs, rows))
        finally:
            shutil.rmtree(folder)
        print(json.dumps(found[-1], indent=1), flush=True)
    document = {
        "command": "python benchmarks/history_store.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "duckdb": version("duckdb"),
        "stores": found,
    }
    Path(arguments.out).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
