"""Where series changed over commits: on series whose truth is known, and through the command."""

from __future__ import annotations

import datetime
import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kernelproof.conformance.cli import app
from kernelproof.conformance.history.changes import changes_of, is_short, lines_of, with_counted
from kernelproof.conformance.history.measurement import Measurement, Run, Series
from kernelproof.conformance.history.steps import (
    ALPHA,
    FEWEST,
    clipped,
    find_steps,
    share_of_orders,
    shift,
    step_statistics,
)
from kernelproof.conformance.history.store import Store
from kernelproof.conformance.history.trajectory import Point, Trajectory

BUDGET = float(np.log1p(0.02))
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def stepped(seed, *steps, n=60, noise=0.01):
    x = np.random.default_rng(seed).normal(0, noise, n)
    for place, size in steps:
        x[place:] += size
    return x


def series(metric, backend="cpu"):
    return Series("attention.flash", "mine", backend, "float32/b1/normal", metric, "cpu0", "t1")


def trajectory(metric, values, seed="", **rest):
    points = [
        Point(f"c{i:02d}", False, NOON + datetime.timedelta(days=i), v, True, ())
        for i, v in enumerate(values)
    ]
    return Trajectory(series(metric, **rest), seed, points)


def times(*args, **kwargs):
    """Seconds of three processes at each commit."""
    return [list(1e-3 * np.exp(x + np.array([0, 0.001, 0.3]))) for x in stepped(*args, **kwargs)]


@pytest.mark.parametrize("place, size", [(30, 0.05), (30, -0.03), (57, 0.05), (3, 0.05)])
def test_a_step_is_found_where_it_is(place, size):
    (found,) = find_steps(stepped(1, (place, size)), BUDGET)
    assert abs(found.place - place) <= 1
    assert found.size == pytest.approx(size, abs=0.012)
    assert found.p <= ALPHA


def test_two_steps_are_found_though_the_second_undoes_the_first():
    found = find_steps(stepped(2, (20, 0.06), (40, -0.06)), BUDGET)
    assert [each.place for each in found] == [20, 40]
    assert [each.size > 0 for each in found] == [True, False]


def test_one_step_does_not_displace_the_other():
    found = [find_steps(stepped(seed, (20, 0.03), (40, -0.03), n=80), 0.0) for seed in range(25)]
    places = np.array([[each.place for each in steps] for steps in found if len(steps) == 2])
    assert len(places) > 15
    assert np.abs(places - [20, 40]).mean() < 0.25


def test_sequences_without_steps_have_none():
    heavy = np.random.default_rng(3).standard_t(3, (20, 60)) * 0.01
    assert [find_steps(x, BUDGET) for x in heavy] == [[]] * 20


def test_the_chance_of_a_false_split_is_alpha():
    p = [share_of_orders(stepped([4, i], n=30)) for i in range(200)]
    assert sum(each <= ALPHA for each in p) <= stats.binom.ppf(0.999, 200, ALPHA)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_spike_is_no_step():
    x = stepped(5)
    x[[10, 33]] += 0.5
    assert find_steps(x, BUDGET) == []
    assert abs(clipped(x)).max() < 0.05


def test_a_step_below_the_budget_is_taken_back():
    x = stepped(6, (30, 0.01), noise=0.002)
    assert share_of_orders(x) <= ALPHA
    assert find_steps(x, BUDGET) == []
    assert len(find_steps(x, 0.005)) == 1


def test_few_commits_are_too_few():
    assert find_steps(stepped(7, (4, 0.5), n=FEWEST - 1), BUDGET) == []
    assert len(find_steps(stepped(7, (5, 0.5), n=FEWEST), BUDGET)) == 1
    assert find_steps(np.zeros(30), BUDGET) == []


def test_the_statistic_is_the_standardised_difference_of_means():
    x = np.random.default_rng(8).normal(size=9)
    got = step_statistics(x)
    want = [abs(x[:k].mean() - x[k:].mean()) * np.sqrt(k * (9 - k)) / 9 for k in range(2, 8)]
    assert got == pytest.approx(want)


def test_the_interval_of_a_shift_holds_it_nine_times_in_ten():
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(400):
        low, high = shift(rng.normal(size=8), rng.normal(0.5, 1, 15))[1]
        held += low < 0.5 < high
    assert held / 400 == pytest.approx(0.9, abs=0.05)


def test_every_change_of_a_count_is_one_exactly():
    found = changes_of(trajectory("traffic", [[100], [100], [101], [101], [50]]))
    assert [(c.before, c.after, c.values) for c in found] == [
        ("c01", "c02", (100, 101)),
        ("c03", "c04", (101, 50)),
    ]
    assert {c.p for c in found} == {0}


def test_a_time_names_its_commits_and_sizes_in_seconds():
    (found,) = changes_of(trajectory("time", times(10, (30, np.log(1.05)))))
    assert (found.before, found.after) == ("c29", "c30")
    assert found.values[1] / found.values[0] == pytest.approx(1.05, abs=0.01)
    assert found.interval[0] < 0.05 < found.interval[1]


def test_an_accepted_change_of_a_time_starts_a_segment_in_which_steps_are_looked_for():
    whole = trajectory("time", times(14, (30, 0.03), (45, 0.05)))
    points = list(whole.points)
    for place in (30, 32):  # two commits of one branch, both compared with c29
        points[place] = replace(points[place], verdicts=("accepted slower",))
    found = changes_of(replace(whole, points=points))
    assert [(each.after, each.accepted) for each in found] == [("c30", True), ("c45", False)]
    assert found[0].values[1] / found[0].values[0] == pytest.approx(1.03, abs=0.01)
    assert ("; accepted" in "".join(lines_of(found[0], 0)), found[0].interval) == (True, None)


def test_an_accepted_change_of_a_count_is_named_as_such():
    one = trajectory("traffic", [[100], [101], [102]])
    points = [*one.points[:2], replace(one.points[2], verdicts=("accepted more",))]
    found = changes_of(replace(one, points=points))
    assert [each.accepted for each in found] == [False, True]


def test_void_and_uncommitted_measurements_are_left_out():
    one = trajectory("time", times(11, (30, 0.05)))
    void = [
        Point(p.commit, p.dirty, p.started, p.values, i < 32, ()) for i, p in enumerate(one.points)
    ]
    assert changes_of(Trajectory(one.series, "", void[:30] + void[32:])) == []
    dirty = [Point(p.commit, True, p.started, p.values, True, ()) for p in one.points]
    assert is_short(Trajectory(one.series, "", dirty))


def test_counts_that_changed_between_the_same_commits_stand_beside_a_time():
    time = changes_of(trajectory("time", times(12, (30, 0.05))))
    order = {f"c{i:02d}": i for i in range(60)}
    for place, beside in ((30, True), (31, False), (29, False)):
        counted = changes_of(
            trajectory("traffic", [[8]] * place + [[9]] * (60 - place), backend="interpret")
        )
        explained = with_counted([*time, *counted], order)[0]
        assert list(explained.moved) == (counted if beside else [])


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A repository of 24 commits, every other one measured; the time and the traffic rise at 12."""
    folder = tmp_path_factory.mktemp("repository")

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    commits = []
    for i in range(24):
        git("commit", "-q", "--allow-empty", "-m", f"change {i}")
        commits.append(git("rev-parse", "HEAD"))
    store = Store(folder / ".kernelproof")
    noise = np.random.default_rng(13).normal(0, 0.005, (24, 3))
    for i in range(0, 24, 2):
        slow = i >= 12
        found = [Measurement(series("traffic"), 900.0 if slow else 800.0)]
        for process in range(3):
            seconds = 1e-3 * np.exp(noise[i, process] + 0.04 * slow)
            found.append(Measurement(series("time", "cuda"), float(seconds), process))
        started = NOON + datetime.timedelta(hours=i)
        store.add(Run(f"r{i}", started, commits[i], False, "0", "0", found))
    return folder, commits


def run(history, monkeypatch, capsys, *words):
    from typer.main import get_command

    monkeypatch.chdir(history[0])
    monkeypatch.delenv("KERNELPROOF_STORE", raising=False)
    code = get_command(app).main(["history", "changes", *words], standalone_mode=False)
    printed = capsys.readouterr()
    return code or 0, printed.out, printed.err


def test_the_command_names_commits_size_and_what_moved_with_it(history, monkeypatch, capsys):
    code, out, _ = run(history, monkeypatch, capsys)
    commits = history[1]
    assert code == 0
    assert "attention.flash/mine/cuda/float32/b1/normal:time  +3.8% [+" in out
    assert f"{commits[10][:10]}..{commits[12][:10]}, 1 unmeasured between" in out
    assert "with it: traffic +12% (800 B -> 900 B, cpu)" in out
    assert "2 changes in 2 series" in out


def test_json_has_the_same_and_counts_stand_beside_a_time_that_was_asked_for_alone(
    history, monkeypatch, capsys
):
    code, out, _ = run(history, monkeypatch, capsys, "--series", "*:time", "--json")
    (found,) = json.loads(out)["changes"]
    assert code == 0
    assert (found["before"], found["after"]) == (history[1][10], history[1][12])
    assert found["unmeasured_between"] == 1
    assert [each["metric"] for each in found["moved"]] == ["traffic"]


def test_only_changes_after_a_revision_are_named(history, monkeypatch, capsys):
    for revision, number in (("HEAD~12", 2), (history[1][12], 0)):
        _, out, _ = run(history, monkeypatch, capsys, "--since", revision, "--json")
        assert len(json.loads(out)["changes"]) == number


@pytest.mark.parametrize(
    "words, message",
    [
        (["--since", "nowhere"], "--since nowhere: wanted a revision that git knows"),
        (["--metric", "speed"], "--metric speed: wanted one of traffic, "),
        (["--series", "*:nothing"], "no series matches *:nothing"),
    ],
)
def test_names_that_nobody_knows_are_refused(history, monkeypatch, capsys, words, message):
    code, _, err = run(history, monkeypatch, capsys, *words)
    assert code == 4
    assert message in err


def test_too_few_commits_of_a_time_are_said(history, monkeypatch, capsys, tmp_path):
    store = Store(tmp_path / "store")
    found = [Measurement(series("time"), 1e-3)]
    store.add(Run("r", NOON, history[1][0], False, "0", "0", found))
    code, out, _ = run(history, monkeypatch, capsys, "--store", str(tmp_path / "store"))
    assert code == 0
    assert "1 series of times with fewer than 10 commits" in out
