"""Times that others measured: JSON of pytest-benchmark, and results of asv."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernelproof import __version__
from kernelproof.conformance.history.measurement import Measurement, Run, Series
from kernelproof.conformance.history.schema import SERIES

OWN_KEY = "kernelproof"
"""In the extra_info of a benchmark: its series, and the values of its processes."""

BACKEND = "host"
"""Of imported times: the clock of the process that called."""

_NO_COMMIT = ("unversioned", "unknown", "")


class ImportFailure(ValueError):
    """A file that holds nothing we read; the message says what was wanted."""


@dataclass(frozen=True)
class Imported:
    """What a file holds. left_out: names with the reason, of what cannot be imported."""

    path: Path
    run: Run
    left_out: Sequence[str]


def read_files(places: Sequence[str]) -> list[Imported]:
    """Everything in these files, and in all result files below these folders of asv.

    Raises ImportFailure if any of them cannot be read.
    """
    return [_read(path) for place in places for path in _paths(Path(place))]


def _paths(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    found = [
        path
        for path in sorted(place.rglob("*.json"))
        if path.name not in ("benchmarks.json", "machine.json", "asv.conf.json")
    ]
    if not found:
        raise ImportFailure(f"{place}: wanted a folder with results of asv; it has no JSON of them")
    yield from found


def _read(path: Path) -> Imported:
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise ImportFailure(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ImportFailure(f"{path} is no JSON: {error}") from None
    keys = document.keys() if isinstance(document, dict) else ()
    # the same file again gives the same run, which is there already
    empty = Run(
        id=f"imported-{hashlib.sha256(content).hexdigest()[:32]}",
        started=datetime.datetime.fromtimestamp(0, datetime.UTC),
        commit="",
        dirty=False,
        kernelproof=__version__,
        seed="",
        measurements=(),
        label=f"imported from {path.name}",
    )
    for wanted, what, read in (
        ({"machine_info", "benchmarks"}, "pytest-benchmark", _of_pytest_benchmark),
        ({"commit_hash", "result_columns"}, "asv (version 2)", _of_asv),
    ):
        if wanted <= set(keys):
            try:
                return read(path, document, empty)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                told = f"{type(error).__name__}: {error}"
                raise ImportFailure(f"{path} is not what {what} writes: {told}") from None
    old = "commit_hash" in keys and "results" in keys
    hint = ", and this is an older one of asv: asv update" if old else ""
    raise ImportFailure(
        f"{path}: wanted the JSON of --benchmark-json, or a result file of asv (version 2){hint}"
    )


# pytest-benchmark ---------------------------------------------------------------------------------


def _of_pytest_benchmark(path: Path, document: Mapping[str, Any], empty: Run) -> Imported:
    machine, commit = document["machine_info"], document.get("commit_info") or {}
    cpu = machine.get("cpu") or {}
    device = cpu.get("brand_raw") or machine.get("processor") or machine.get("machine") or "unknown"
    if cpu.get("count"):
        device = f"{device}, {cpu['count']} cores"
    toolchain = f"{machine['python_implementation']} {machine['python_version']}"
    measured: list[Measurement] = []
    left_out = []
    for benchmark in document["benchmarks"]:
        own = benchmark.get("extra_info", {}).get(OWN_KEY)
        if isinstance(own, dict) and set(SERIES) <= own.keys():
            series = Series(*(str(own[name]) for name in SERIES))
        else:
            own = {}
            module, _, test = benchmark["fullname"].partition("::")
            named = ("pytest-benchmark", module, BACKEND, test or benchmark["name"], "time")
            series = Series(*named, device=str(device), toolchain=toolchain)
        values = own.get("processes") or [benchmark["stats"]["median"]]
        if all(_is_time(value) for value in values):
            measured += [Measurement(series, float(v), i) for i, v in enumerate(values)]
        else:
            left_out.append(f"{benchmark['fullname']}: {values[0]!r} is no time")
    commit_id = str(commit.get("id") or "")
    run = replace(
        empty,
        started=_moment(document["datetime"]),
        commit="" if commit_id in _NO_COMMIT else commit_id,
        dirty=bool(commit.get("dirty")),
        measurements=measured,
    )
    return Imported(path, run, left_out)


def _moment(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)  # as it was before 3.2


# asv ----------------------------------------------------------------------------------------------


def _of_asv(path: Path, document: Mapping[str, Any], empty: Run) -> Imported:
    machine = document["params"]
    cpu = machine.get("cpu") or machine.get("arch") or "unknown"
    cores = f", {machine['num_cpu']} cores" if machine.get("num_cpu") else ""
    device = f"{machine.get('machine', 'unknown')}: {cpu}{cores}"
    needs = document.get("requirements") or {}
    toolchain = ", ".join(
        [f"python {document['python']}", *(f"{n} {v}".strip() for n, v in sorted(needs.items()))]
    )
    described = _benchmarks(path)
    measured: list[Measurement] = []
    left_out: list[str] = []
    began = []
    for name, cells in document["results"].items():
        columns = dict(zip(document["result_columns"], cells, strict=False))
        kind, names = _kind(name, described)
        if kind != "time":
            left_out.append(f"{name}: a benchmark of kind {kind}; only times are imported")
            continue
        began += [columns["started_at"]] if columns.get("started_at") else []
        # a benchmark whose code changed is another one
        version = str(columns.get("version") or "")[:12]
        tools = f"{toolchain}, benchmark {version}" if version else toolchain
        for case, value in _cases(columns, names):
            if _is_time(value):
                series = Series("asv", name, BACKEND, case, "time", device, tools)
                measured.append(Measurement(series, float(value)))
            else:
                why = "it failed" if value is None else "it was skipped"
                left_out.append(f"{name} ({case}): {why}")
    run = replace(
        empty,
        started=datetime.datetime.fromtimestamp(
            min(began or [document["date"]]) / 1e3, datetime.UTC
        ),
        commit=document["commit_hash"],
        measurements=measured,
    )
    return Imported(path, run, left_out)


def _benchmarks(path: Path) -> Mapping[str, Any]:
    """What benchmarks.json beside the folders of the machines says of the benchmarks, if it is
    there."""
    for folder in path.resolve().parents[:2]:
        try:
            found = json.loads((folder / "benchmarks.json").read_bytes())
        except (OSError, ValueError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _kind(name: str, described: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """The type of a benchmark and the names of its parameters.

    Where asv's own description is missing, its rule: the type is what the name of the function
    begins with.
    """
    known = described.get(name) or {}
    function = name.rpartition(".")[2]
    prefix = function.partition("_")[0].lower()
    kind = known.get("type") or {"timeraw": "time", "time": "time"}.get(prefix, prefix)
    return kind, known.get("param_names") or ()


def _cases(columns: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Each combination of parameters in words, with its value; one word without parameters."""
    axes = columns.get("params") or []
    combinations = list(itertools.product(*axes))
    values = columns.get("result")
    if values is None:  # the whole benchmark failed
        values = [None] * len(combinations)
    for combination, value in zip(combinations, values, strict=True):
        labels = [*names, *(f"param{i}" for i in range(len(names) + 1, len(axes) + 1))]
        words = (f"{n}={v}" for n, v in zip(labels, combination, strict=False))
        yield ",".join(words) or "default", value


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
