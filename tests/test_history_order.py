"""In which order commits came, and which numbers are kept of results."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded import MORNING, A, B, run, series

from kernelproof.conformance.history import environment
from kernelproof.conformance.history.collect import measurements_of, revision_of
from kernelproof.conformance.history.measurement import ANY_DEVICE
from kernelproof.conformance.history.revision import (
    Revision,
    RevisionError,
    commit_places,
    describe,
)
from kernelproof.conformance.history.store import Recorded
from kernelproof.conformance.history.trajectory import ordered_runs, trajectories
from kernelproof.conformance.meters.counts import Access, Counts, Launch
from kernelproof.conformance.targets import parse_target
from kernelproof.conformance.verdict import Result, Verdict

TIME = series("time")


class Repository:
    """A repository whose commits have the dates that they are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "A")
        self.git("config", "user.email", "a@example.org")

    def git(self, *words: str, **variables: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.folder, *words],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, hours: float, *words: str) -> str:
        """A commit so many hours after the morning of the runs; its hash."""
        date = f"{MORNING.timestamp() + 3600 * hours:.0f} +0000"
        words = words or ("commit", "--allow-empty", "-qm", "change")
        self.git(*words, GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


# Revisions ----------------------------------------------------------------------------------------


def test_a_revision_is_dirty_where_a_known_file_differs_or_the_target_is_unknown(repository):
    kernel, notes = repository.folder / "k.py", repository.folder / "notes.txt"
    assert describe(repository.folder) == Revision("", False)  # no commit yet
    kernel.write_text("1")
    head = repository.commit(0)
    assert describe(repository.folder, [kernel]) == Revision(head, True)
    repository.git("add", "k.py")
    head = repository.commit(1)
    notes.write_text("a file that nobody reads")
    assert describe(repository.folder, [kernel]) == Revision(head, False)
    kernel.write_text("2")
    assert describe(repository.folder) == Revision(head, True)


def test_outside_of_a_repository_there_is_no_revision(tmp_path):
    assert describe(tmp_path) == Revision("", False)


def test_a_repository_that_git_refuses_is_told_and_not_taken_for_none(repository):
    repository.commit(0)
    (repository.folder / ".git" / "config").write_text("[core\n")
    with pytest.raises(RevisionError, match="bad config line 1"):
        describe(repository.folder)


def test_a_hook_that_speaks_of_another_repository_changes_nothing(repository, monkeypatch):
    head = repository.commit(0)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert describe(repository.folder) == Revision(head, False)


def test_a_trace_of_git_is_not_taken_for_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_TRACE", "1")
    assert describe(tmp_path) == Revision("", False)


def test_targets_of_two_repositories_have_no_revision(tmp_path):
    targets = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "k.py"
        path.write_text("")
        each = Repository(path.parent)
        each.git("add", "k.py")
        head = each.commit(0)
        targets.append(parse_target(str(path)))
        assert revision_of(targets[-1:]) == Revision(head, False)
    assert revision_of(targets) == Revision("", False)


# Order --------------------------------------------------------------------------------------------


def order(repository: Repository, seen: dict[str, float]) -> list[str]:
    """Commits, sorted; seen: after how many hours each was first measured."""
    moments = {c: run(hours=hours).started for c, hours in seen.items()}
    places = commit_places(repository.folder, moments)
    return sorted(places, key=places.__getitem__)


def test_commits_stand_in_the_order_of_git_whatever_clocks_said(repository):
    first, second, third = (repository.commit(hours) for hours in (5, 1, 3))
    assert order(repository, {third: 0, second: 1, first: 2}) == [first, second, third]


def test_a_commit_of_a_branch_stands_by_its_date(repository):
    first = repository.commit(0)
    repository.git("checkout", "-qb", "side")
    side = repository.commit(2)
    repository.git("checkout", "-q", "main")
    second = repository.commit(1)
    third = repository.commit(3)
    merged = repository.commit(4, "merge", "--no-ff", "-qm", "merge", "side")
    seen = dict.fromkeys([merged, side, third, second, first], 9.0)
    assert order(repository, seen) == [first, second, side, third, merged]


def test_signatures_that_git_is_told_to_show_are_no_dates(repository):
    first, signed = (repository.commit(hours) for hours in (0, 1))
    text = repository.git("cat-file", "commit", signed)
    signature = "gpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----"
    head, _, message = text.partition("\n\n")
    file = repository.folder / "commit"
    file.write_text(f"{head}\n{signature}\n\n{message}\n")
    signed = repository.git("hash-object", "-t", "commit", "-w", str(file))
    repository.git("reset", "--quiet", "--hard", signed)
    repository.git("config", "log.showSignature", "true")
    places = commit_places(repository.folder, dict.fromkeys((first, signed), MORNING))
    assert sorted(places, key=places.__getitem__) == [first, signed]


def test_commits_that_git_does_not_know_stand_by_when_they_were_measured(repository, tmp_path):
    first, second = repository.commit(0), repository.commit(2)
    seen = {second: 5.0, A: 1.0, first: 0.0, B: 9.0}
    assert order(repository, seen) == [first, A, second, B]
    (tmp_path / "plain").mkdir()
    outside = SimpleNamespace(folder=tmp_path / "plain")
    repository.git("--version")
    (tmp_path / ".git").rename(tmp_path / "gone")
    assert order(outside, seen) == [first, A, second, B]


def test_runs_of_one_commit_are_one_point_and_those_of_changes_stand_alone(tmp_path):
    runs = [
        run({TIME: [3.0, 5.0]}, A, hours=0),
        run({TIME: [4.0]}, A, hours=4),
        run({TIME: [7.0]}, A, hours=1, dirty=True),
        run({TIME: [8.0]}, A, hours=2, dirty=True),
        run({TIME: [1.0]}, B, hours=3),
        run({TIME: [6.0]}, "", hours=3.5),
    ]
    recorded = [Recorded(r, m) for r in runs for m in r.measurements]
    (found,) = trajectories(recorded, tmp_path)
    shown = [(point.revision[0], list(point.values)) for point in found.points]
    clean = ("a", [3.0, 5.0, 4.0])
    assert shown == [clean, ("a", [7.0]), ("a", [8.0]), ("b", [1.0]), ("n", [6.0])]
    assert [point.dirty for point in found.points] == [False, True, True, False, False]
    assert found.points[0].value == 4.0
    assert [r.id for r in ordered_runs(reversed(runs), tmp_path)] == [
        runs[n].id for n in (0, 1, 2, 3, 4, 5)
    ]


def test_a_point_is_conformant_if_all_of_its_runs_were(tmp_path):
    right, wrong = run({TIME: [1.0]}), run({TIME: [2.0]}, hours=1)
    failed = replace(wrong.measurements[0], conformant=False, verdict="fail")
    recorded = [Recorded(right, right.measurements[0]), Recorded(wrong, failed)]
    (found,) = trajectories(recorded, tmp_path)
    assert (found.points[0].conformant, found.points[0].verdicts) == (False, ("fail",))


# Numbers from results -----------------------------------------------------------------------------

COUNTS = Counts(
    arguments={"q": Access(read=100, written=20, footprint=64, sectors=5)},
    dots=1000,
    elementwise=10,
    reductions=1,
    exps=7,
    atomics=2,
    launches=[Launch("kernel", (1, 1, 1), {})],
    peak_memory=512,
)
SUITE = SimpleNamespace(
    description=[{"versions": {"torch": "2.13", "triton": "3.9", "meter": "4"}, "threads": 3}],
    implementations=[
        SimpleNamespace(spec=SimpleNamespace(name="attention.flash"), name="mine", target=0)
    ],
)


def result(check: str = "costs", clause: str = "attention.cost.traffic", **words) -> Result:
    known = {"verdict": Verdict.PASS, "case": "float32/case", "dtype": "float32"}
    place = {"spec": "attention.flash", "implementation": "mine", "backend": "interpret"}
    return Result(check=check, clause=clause, **{**place, **known, **words})


def numbers(*results: Result) -> dict[str, float]:
    return {m.series.metric: m.value for m in measurements_of(results, SUITE)}


def counted(**changes) -> Result:
    return result(counts=replace(COUNTS, **changes).to_json())


def test_counts_become_measurements_that_hold_on_any_device():
    every = measurements_of([counted()], SUITE)
    assert {m.series.metric: m.value for m in every} == {
        "traffic": 120,
        "sectors": 160,
        "footprint": 64,
        "flops": 1000,
        "operations": 1011,
        "exps": 7,
        "atomics": 2,
        "launches": 1,
        "memory": 512,
    }
    assert {m.series.device for m in every} == {ANY_DEVICE}
    assert {m.series.toolchain for m in every} == {"torch 2.13, triton 3.9, meter 4"}
    assert {(m.conformant, m.verdict) for m in every} == {(True, "pass")}


MOVED = {"traffic", "sectors", "footprint", "atomics", "launches"}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"opaque": ["sdpa"]}, {"flops", "operations", "exps", "memory"}),
        ({"unpriced": ["svd"]}, {*MOVED, "memory"}),
        ({"unseen": ["NumPy was called"]}, set()),
        ({"peak_memory": None}, {*MOVED, "flops", "operations", "exps"}),
    ],
)
def test_what_the_meters_could_not_see_is_left_out(changes, kept):
    assert set(numbers(counted(**changes))) == kept


def test_a_count_whose_check_could_not_measure_it_is_left_out():
    clause = "attention.cost.flops"
    unmeasured = result(clause=clause, verdict=Verdict.UNMEASURED)
    assert "flops" not in numbers(unmeasured, counted())
    failed = result(clause=clause, verdict=Verdict.FAIL)
    every = measurements_of([failed, counted()], SUITE)
    assert {m.series.metric for m in every if m.verdict == "fail"} == {"flops"}
    assert not any(m.conformant for m in every)


def test_the_error_of_a_case_is_the_largest_ratio_of_its_accuracy():
    ratios = [result("accuracy", f"a{r}", ratio=r) for r in (0.2, 0.7, 0.5)]
    other = [result("properties", "p", ratio=3.0), result("accuracy", "n"), counted()]
    assert numbers(*ratios, *other)["error"] == 0.7
    worst = measurements_of([*ratios, result("accuracy", "b", ratio=float("nan"))], SUITE)
    assert worst[0].value != worst[0].value


def test_an_error_is_of_a_device_with_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(environment, "cpu_model", lambda: "A CPU")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    accuracy = [result("accuracy", "a", ratio=0.5)]
    for processes, threads in ((1, "3 threads"), (2, "4 threads"), (16, "1 thread")):
        (found,) = measurements_of(accuracy, SUITE, processes=processes)
        assert found.series.device == f"A CPU, 8 cores, {threads}"


def test_a_gpu_is_known_by_its_driver_and_clocks(monkeypatch):
    told = "NVIDIA T4, 550.1, [N/A], 585 MHz\nNVIDIA H100, 570.2, Enabled, [N/A]\n"
    monkeypatch.setattr(environment, "_gpu", lambda name: environment.read_gpu(told, name))
    described = {"device": "NVIDIA H100", "versions": {"cuda": "12.8"}}
    identity = environment.device_identity(described, "cuda")
    assert identity == "NVIDIA H100, driver 570.2, MIG Enabled, CUDA 12.8"
    assert environment.device_identity(described, "cpu") != identity


def test_counts_of_a_program_are_those_of_all_its_steps():
    step = replace(COUNTS, arguments={"q": Access(1, 2, 3, 4), "k": Access(read=5)})
    step.operators, step.opaque, step.peak_memory = {"mm": 2}, ["sdpa"], None
    whole = Counts.total([COUNTS, step, step])
    assert whole.arguments == {"q": Access(102, 24, 70, 13), "k": Access(read=10)}
    assert (whole.dots, whole.exps, len(whole.launches)) == (3000, 21, 3)
    assert (whole.operators, whole.opaque, whole.peak_memory) == ({"mm": 4}, ["sdpa"], 512)
    assert Counts.total([COUNTS]) == COUNTS


def test_the_record_of_a_program_counts_every_step(suite_of):
    case = "float32/b2.hq4.hkv2.d32.capacity20/steps-decode20/normal"
    check = suite_of("kernelproof.impls.torch", specs=["cache.contiguous"])
    found = check("torch-contiguous", case, clause="cache.cost.traffic")
    total = Counts.from_json(found.counts).traffic
    assert total > 2 * found.measured  # of the step that was nearest to its bound
