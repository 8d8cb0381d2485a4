"""kernelproof history as a user meets it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import typer
from recorded import A, B, C, run, series
from test_history_damage import cut

from kernelproof.conformance.cli import app
from kernelproof.conformance.history.chart import bar
from kernelproof.conformance.history.store import Store

SMALL = "float32/b1.h1.tq3.tk5.d16/default/normal"
COUNTED = "float32/b1.h2.tq1.tk300.d64/default/normal"
TIME = series("time")


@pytest.fixture
def history(tmp_path, monkeypatch, capsys):
    """Run ``kernelproof history ARGUMENTS`` in a folder: code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERNELPROOF_STORE", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = ["history", *map(str, arguments)]
        code = typer.main.get_command(app).main(words, standalone_mode=False)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def store(tmp_path):
    """Four runs of three commits in the default place; the second is of uncommitted changes."""
    store = Store(tmp_path / ".kernelproof")
    store.add(run({TIME: [1.0e-3, 1.2e-3, 1.1e-3], series(): [100]}, A, hours=0, label="first"))
    store.add(run({TIME: [1.4e-3], series(): [100]}, A, hours=1, dirty=True))
    store.add(run({TIME: [2.2e-3, 2.2e-3, 2.0e-3], series(): [118]}, B, hours=2))
    store.add(run({TIME: [1.1e-3], series(): [118]}, C, hours=3))
    return store


# log ----------------------------------------------------------------------------------------------


def test_log_has_a_line_per_run_the_latest_first(history, store):
    code, out, _ = history("log")
    head, *lines = out.splitlines()
    assert (code, head.split()[:2]) == (0, ["date", "(UTC)"])
    assert [line.split()[2] for line in lines] == ["c" * 10, "b" * 10, "a" * 10 + "+", "a" * 10]
    assert lines[-1].split() == ["2026-05-04", "09:30", "a" * 10, "2", "-", "a", "CPU", "first"]


def test_log_as_json_says_what_was_judged(history, tmp_path):
    verdicts = {"pass": True, "slower": True, "fail": False}
    one = run({series(name=word): [1] for word in verdicts})
    for measurement, (word, conformant) in zip(one.measurements, verdicts.items(), strict=True):
        vars(measurement).update(verdict=word, conformant=conformant)
    Store(tmp_path / ".kernelproof").add(one)
    code, out, _ = history("log", "--json")
    (line,) = json.loads(out)
    assert (code, line["series"], line["nonconformant"]) == (0, 3, 1)
    assert line["verdicts"] == {"pass": 1, "slower": 1, "fail": 1}
    assert (line["commit"], line["started"]) == (A, "2026-05-04T09:30:00+00:00")
    words = "1 fail, 1 pass, 1 slower, 1 of wrong results"
    assert words in history("log")[1]


def test_log_counts_what_it_does_not_show(history, store):
    code, out, _ = history("log", "--limit", 1)
    assert (code, len(out.splitlines())) == (0, 3)
    assert "and 3 more; --limit shows them" in out


def test_log_can_be_asked_for_some_series(history, store):
    store.add(run({series("flops"): [5]}, C, hours=9))
    assert len(json.loads(history("log", "--json", "--series", "*:flops")[1])) == 1


# show ---------------------------------------------------------------------------------------------


def test_show_draws_a_series_commit_by_commit(history, store):
    code, out, _ = history("show", TIME.name)
    name, about, _, *rows = out.rstrip().splitlines()
    assert (code, about) == (0, "a CPU; torch 2.13")
    assert name.startswith(f"{TIME.name} (median seconds of a call in one process)")
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == ["a" * 10, "a" * 10 + "+", "b" * 10, "c" * 10]
    assert [row[3] for row in cells] == ["1.1", "1.4", "2.2", "1.1"]
    assert [row[5] for row in cells[1:]] == ["+27%", "+57%", "-50%"]
    assert [len(row.split()[-1]) for row in rows] == [7, 1, 8, 1]  # cells of the chart
    assert all("●" in row for row in rows)


def test_show_draws_a_chart_for_each_device(history, store):
    store.add(run({series("time", device="another CPU"): [3e-3]}, B, hours=2))
    out = history("show", "*:time")[1]
    assert [line for line in out.splitlines() if "CPU; " in line] == [
        "a CPU; torch 2.13",
        "another CPU; torch 2.13",
    ]


def test_show_lists_the_series_that_a_pattern_fits(history, store):
    code, out, err = history("show", "attention.flash/*")
    assert (code, out.splitlines()) == (0, [TIME.name, series().name])
    assert "2 series match attention.flash/*: name one of them" in err


def test_a_name_with_the_characters_of_patterns_is_itself(history, store):
    odd = series(name="tiles[16]*?")
    store.add(run({odd: [7], series(name="tiles1xx"): [8]}))
    code, out, _ = history("show", odd.name)
    assert (code, "tiles1xx" in out, out.count("●")) == (0, False, 1)


def test_show_does_not_compare_with_a_wrong_result(history, store):
    wrong = run({TIME: [9e-3]}, "d" * 40, hours=4)
    vars(wrong.measurements[0]).update(conformant=False)
    store.add(wrong)
    store.add(run({TIME: [1.1e-3]}, "e" * 40, hours=5))
    rows = history("show", TIME.name)[1].rstrip().splitlines()
    assert rows[-2].endswith("(wrong result)")
    assert rows[-1].split()[5] == "="


def test_errors_at_different_seeds_are_not_one_line(history, store):
    for hours, seed in enumerate("0011"):
        store.add(run({series("error"): [0.5 + hours]}, hours=hours, seed=seed))
    out = history("show", "*:error")[1]
    assert out.count("seed 0") == out.count("seed 1") == 1


def test_a_bar_spans_the_processes_and_marks_their_median():
    assert bar([1, 2, 3, 4, 5], 3, 1, 5) == f"{'─' * 20}●{'─' * 19}"
    assert bar([2], 2, 2, 2).strip() == "●"
    assert bar([1, float("inf")], float("inf"), 1, 5).rstrip()[-1] == "›"


# Mistakes -----------------------------------------------------------------------------------------

MISTAKES = {
    "no store": (["log", "--store", "no"], 8, "no holds no runs: kernelproof test --record"),
    "a misspelt series": (["show", TIME.name[:-1]], 4, f"did you mean {TIME.name}?"),
    "a pattern of no series": (
        ["log", "--series", "zz*"],
        4,
        "no series matches zz*: the store has 2 of other names; nearest: attention.flash/mine",
    ),
    "a part of a series": (["show", ":tim"], 4, f"of other names; nearest: {TIME.name}"),
    "no such format": (["export", "--format", "xml", "f"], 4, "--format xml: wanted csv or"),
    "no such run": (
        ["export", "--format", "pytest-benchmark", "--run", "x", "f"],
        5,
        "no run x... has times of such series",
    ),
    "no times": (
        ["export", "--format", "pytest-benchmark", "--series", "*:traffic", "f"],
        5,
        "no run has times of such series",
    ),
    "no folder": (["export", "--format", "csv", "no/f"], 9, "no does not exist"),
    "a folder": (["export", "--format", "csv", "."], 9, "is a folder: wanted a file"),
    "nothing to import": (["import", "gone.json"], 4, "gone.json cannot be read: No such file"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_and_a_code(history, store, what):
    words, code, sentence = MISTAKES[what]
    ended, _, err = history(*words)
    assert (ended, sentence in err, len(err.splitlines())) == (code, True, 1), err
    assert not Path("f").exists()


COMMANDS = {
    "log": ["log"],
    "show": ["show", TIME.name],
    "export": ["export", "--format", "csv", "out.csv"],
    "verify": ["verify"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_what_is_sound_and_then_names_what_is_not(history, store, command):
    (file,) = [p for p in (store.folder / "runs").iterdir() if b"first" in p.read_bytes()]
    cut(file)
    code, out, err = history(*COMMANDS[command])
    assert (code, bool(out)) == (9, True)
    assert f"runs/damaged/{file.name} was set aside: its " in err
    assert "put whole copies into" in err


def test_verify_counts_what_is_sound(history, store):
    assert history("verify")[:2] == (0, "4 runs, 12 measurements, all sound\n")


def test_the_store_lies_at_the_root_of_the_repository_or_where_the_variable_says(
    history, store, tmp_path, monkeypatch
):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    below = tmp_path / "src" / "kernels"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert history("verify")[0] == 0
    monkeypatch.setenv("KERNELPROOF_STORE", "elsewhere")
    assert history("verify")[0] == 8
    Store("elsewhere").add(run())
    assert history("verify")[1].startswith("1 run, 1 measurement")
    assert history("verify", "--store", tmp_path / ".kernelproof")[1].startswith("4 runs")


# Recording ----------------------------------------------------------------------------------------


def commit(folder: Path, message: str) -> str:
    """Commit everything there; the commit."""
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", message]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    told = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def test_a_recorded_run_has_its_commit_its_numbers_and_its_verdicts(
    run_cli, kernels, tmp_path, history
):
    for name in ("wrong.py", "honest.py"):
        (tmp_path / name).write_text((kernels / name).read_text())
    head = commit(tmp_path, "both")
    (tmp_path / "honest.py").write_text((kernels / "honest.py").read_text() + "# changed\n")
    words = ["test", "wrong.py", "honest.py", "--case", SMALL, "--case", COUNTED]
    ran = run_cli(*words, "--record", "-n", "1", cwd=tmp_path)
    assert ran.code == 1, ran.text
    assert f"of {head[:10]} with uncommitted changes recorded in {tmp_path}/.kern" in ran.text
    (line,) = json.loads(history("log", "--json")[1])
    assert [line[n] for n in ("commit", "dirty", "seed")] == [head, True, "0"]
    recorded = [each.measurement for each in Store(tmp_path / ".kernelproof").measurements()]
    honest = {m.series.metric: m for m in recorded if m.series.implementation == "honest"}
    assert {"error", "traffic", "flops", "exps", "memory", "launches"} <= honest.keys()
    assert {(m.conformant, m.verdict) for m in honest.values()} == {(True, "pass")}
    wrong = [m for m in recorded if m.series.implementation == "unscaled"]
    assert [(m.series.metric, m.conformant, m.verdict) for m in wrong] == [("error", False, "fail")]


def test_a_run_that_could_not_be_recorded_exits_9_and_says_why(run_cli, kernels, tmp_path):
    (tmp_path / "full").touch()
    words = ["test", kernels / "honest.py", "--case", SMALL, "--record", "--store", "full"]
    ran = run_cli(*words, cwd=tmp_path)
    assert ran.code == 9, ran.text
    assert "the run was not recorded in full:" in ran.text
