"""Times that come from other programs, and the record for other programs."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from recorded import A, run, series

from kernelproof.conformance.history.exporting import write_csv, write_pytest_benchmark
from kernelproof.conformance.history.importing import ImportFailure, read_files
from kernelproof.conformance.history.schema import COLUMNS
from kernelproof.conformance.history.store import Store

# what asv 0.6.6 wrote of a small project, its name of the environment and hashes shortened
ASV = """
{"commit_hash": "bf0f6fd05a382dffe33c9583bb5b92e906aed9dc", "env_name": "py3.11", "date":
1795305679000, "params": {"arch": "x86_64", "cpu": "Intel(R) Xeon(R) Processor", "machine": "vm",
"num_cpu": "2", "os": "Linux", "ram": "25276502016", "python": "3.11"}, "python": "3.11",
"requirements": {"numpy": "2.4", "scipy": ""}, "env_vars": {}, "result_columns": ["result",
"params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
"stats_q_75", "stats_number", "stats_repeat", "samples", "profile"], "results": {
"work.Suite.time_sum": [[2.9909970180597156e-06, 2.2269996406976134e-06, 6.038997526047751e-06,
NaN], [["10", "1000"], ["'list'", "'tuple'"]], "706929d1d4c4c7eb", 1795305681942, 1.3113,
[-Infinity, -Infinity, -Infinity, null], [Infinity, Infinity, Infinity, null], [2.991e-06,
2.227e-06, 6.039e-06, null], [2.991e-06, 2.227e-06, 6.039e-06, null], [1, 1, 1, null], [1, 1, 1,
null]], "work.mem_list": [[2104], [], "537d2234ec7d", 1795305683265, 0.31579],
"work.peakmem_list": [[27361280], [], "ec0a5e334d17", 1795305683581, 0.62698],
"work.time_broken": [null, [], "90a3e0df77a7", 1795305684209, 0.27973], "work.time_nothing":
[[5.520014383364469e-07], [], "67111243a380", 1795305684489, 0.24123], "work.timeraw_import":
[[0.023474932997487485], [], "d0e11e1abfbb", 1795305684731, 0.43797], "work.track_answer": [[42],
[], "be1f80a8f4f1", 1795305685169, 0.36753]}, "durations": {"<build>": 8.58e-05}, "version": 2}
"""

BENCHMARKS = """
import pytest

@pytest.mark.parametrize("n", [10, 100])
def test_sum(benchmark, n):
    benchmark(sum, range(n))
"""


@pytest.fixture
def asv(tmp_path):
    """A folder of results as asv leaves it."""
    described = {"param_names": ["n", "kind"], "type": "time", "unit": "seconds"}
    machine = tmp_path / "results" / "vm"
    machine.mkdir(parents=True)
    (machine / "bf0f6fd0-py3.11.json").write_text(ASV)
    (machine / "machine.json").write_text('{"machine": "vm", "version": 1}')
    (machine.parent / "benchmarks.json").write_text(
        json.dumps({"version": 2, "work.Suite.time_sum": described})
    )
    return machine.parent


def test_results_of_asv_are_imported_and_what_is_not_is_named(asv):
    (found,) = read_files([str(asv)])
    measured = {
        (m.series.implementation, m.series.case_id): m.value for m in found.run.measurements
    }
    assert measured == {
        ("work.Suite.time_sum", "n=10,kind='list'"): 2.9909970180597156e-06,
        ("work.Suite.time_sum", "n=10,kind='tuple'"): 2.2269996406976134e-06,
        ("work.Suite.time_sum", "n=1000,kind='list'"): 6.038997526047751e-06,
        ("work.time_nothing", "default"): 5.520014383364469e-07,
        ("work.timeraw_import", "default"): 0.023474932997487485,
    }
    assert found.left_out == [
        "work.Suite.time_sum (n=1000,kind='tuple'): it was skipped",
        "work.mem_list: a benchmark of kind mem; only times are imported",
        "work.peakmem_list: a benchmark of kind peakmem; only times are imported",
        "work.time_broken (default): it failed",
        "work.track_answer: a benchmark of kind track; only times are imported",
    ]
    assert found.run.commit == "bf0f6fd05a382dffe33c9583bb5b92e906aed9dc"
    assert found.run.started.isoformat() == "2026-11-22T00:01:21.942000+00:00"
    last = found.run.measurements[-1].series
    assert last.device == "vm: Intel(R) Xeon(R) Processor, 2 cores"
    assert last.toolchain == "python 3.11, numpy 2.4, scipy, benchmark d0e11e1abfbb"


def test_a_single_file_of_asv_goes_by_the_names_of_its_benchmarks(asv, tmp_path):
    alone = tmp_path / "alone.json"
    alone.write_text(ASV)
    (found,) = read_files([str(alone)])
    assert len(found.run.measurements) == 5
    assert found.run.measurements[0].series.case_id == "param1=10,param2='list'"


@pytest.fixture(scope="module")
def benchmarked(tmp_path_factory):
    """What pytest-benchmark writes, now."""
    folder = tmp_path_factory.mktemp("benchmarked")
    (folder / "test_sums.py").write_text(BENCHMARKS)
    words = ["-p", "no:cacheprovider", "--benchmark-json=out.json", "--benchmark-max-time=0.01"]
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-min-rounds=1", *words]
    # in a process of pytest-xdist, or what it starts, pytest-benchmark writes nothing
    alone = {n: value for n, value in os.environ.items() if not n.startswith("PYTEST_")}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=alone)
    return folder / "out.json"


def test_json_of_pytest_benchmark_is_imported(benchmarked):
    document = json.loads(benchmarked.read_text())
    (found,) = read_files([str(benchmarked)])
    assert [m.value for m in found.run.measurements] == [
        each["stats"]["median"] for each in document["benchmarks"]
    ]
    assert [m.series.name for m in found.run.measurements] == [
        "pytest-benchmark/test_sums.py/host/test_sum[10]:time",
        "pytest-benchmark/test_sums.py/host/test_sum[100]:time",
    ]
    assert found.run.started.isoformat() == document["datetime"]
    assert (found.run.commit, found.run.dirty, found.left_out) == ("", False, [])


def test_a_file_that_is_imported_twice_is_the_same_run(benchmarked, asv):
    first, again = (read_files([str(benchmarked), str(asv)]) for _ in range(2))
    assert [each.run.id for each in first] == [each.run.id for each in again]
    assert len({each.run.id for each in first}) == 2


BROKEN = {
    "text": ("not json", "is no JSON: Expecting value"),
    "a list": ("[]", "wanted the JSON of --benchmark-json, or a result file of asv (version 2)"),
    "an old file of asv": (
        '{"commit_hash": "a", "results": {}}',
        "an older one of asv: asv update",
    ),
    "half a benchmark": (
        '{"machine_info": {"python_implementation": "", "python_version": ""}, "benchmarks": [{}]}',
        "is not what pytest-benchmark writes: KeyError: 'fullname'",
    ),
    "values without parameters": (
        ASV.replace('[["10", "1000"], ["\'list\'", "\'tuple\'"]]', '[["10"]]'),
        "is not what asv (version 2) writes: ValueError",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_read_is_named_with_what_was_wanted(tmp_path, asv, what):
    content, sentence = BROKEN[what]
    path = tmp_path / "given.json"
    path.write_text(content)
    with pytest.raises(ImportFailure) as failure:
        read_files([str(asv), str(path)])
    assert f"{path}" in str(failure.value)
    assert sentence in str(failure.value)


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(ImportFailure, match="wanted a folder with results of asv"):
        read_files([str(tmp_path)])


def test_a_time_that_is_none_is_left_out_by_name(benchmarked, tmp_path):
    document = json.loads(benchmarked.read_text())
    document["benchmarks"][0]["stats"]["median"] = 0
    path = tmp_path / "zero.json"
    path.write_text(json.dumps(document))
    (found,) = read_files([str(path)])
    assert len(found.run.measurements) == 1
    assert found.left_out == ["test_sums.py::test_sum[10]: 0 is no time"]


@pytest.fixture
def store(tmp_path):
    """Two runs; the later has two times and a count."""
    store = Store(tmp_path / "store")
    store.add(run({series("time"): [9.0]}))
    timed = {series("time"): [1.0, 2.0, 4.0], series("time", "other"): [3.0], series(): [12]}
    store.add(run(timed, hours=1, dirty=True))
    return store


def test_csv_has_every_column_and_every_number_whole(store, tmp_path):
    store.add(run({series("error"): [0.1, math.inf]}, hours=2, label='say "it", twice'))
    assert write_csv(store, "*", tmp_path / "out.csv") == 8
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [float(row["value"]) for row in rows[-2:]] == [0.1, math.inf]
    assert rows[0]["started"] == "2026-05-04T09:30:00.123456Z"
    assert rows[-1]["label"] == 'say "it", twice'
    assert write_csv(store, "*:traffic", tmp_path / "out.csv") == 1


def test_what_is_exported_for_pytest_benchmark_is_compared_by_it(store, tmp_path):
    chosen = write_pytest_benchmark(store, "*", "", tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert chosen == store.runs()[-1]
    assert [each["stats"]["median"] for each in document["benchmarks"]] == [2.0, 3.0]
    assert document["benchmarks"][0]["extra_info"]["traffic"] == 12
    assert document["commit_info"] | {"id": A, "dirty": True} == document["commit_info"]
    words = ["-m", "pytest_benchmark", "compare", "out.json", "--columns=median,rounds"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
    assert "attention.flash/mine/cpu/float32" in done.stdout
    assert "2.0000" in done.stdout, done.stderr


def test_what_was_exported_comes_back_as_the_series_it_was(store, tmp_path):
    written = write_pytest_benchmark(store, "*", "", tmp_path / "out.json")
    (found,) = read_files([str(tmp_path / "out.json")])
    timed = store.measurements(metrics=["time"], runs=[written.id])
    assert list(found.run.measurements) == [each.measurement for each in timed]
    assert (found.run.commit, found.run.dirty, found.run.started) == (A, True, written.started)


def test_an_export_that_fails_leaves_the_file_that_was_there(store, tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("mine")

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="no"):
        write_pytest_benchmark(store, "*", "", path)
    assert path.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "store"]
