"""The gate on small repositories: every kind of change, and every mistake in asking."""

from __future__ import annotations

import datetime
import os
from pathlib import Path, PurePath

import pytest
import typer
from gating import CASE, JUDGED, TODAY, Forged, Repo, make_repo, products, result

from kernelproof.conformance import cli
from kernelproof.conformance.regression import comparing
from kernelproof.conformance.regression.decision import Rule
from kernelproof.conformance.regression.gate import judge
from kernelproof.conformance.regression.outcome import Policy
from kernelproof.conformance.regression.revisions import Repository
from kernelproof.conformance.regression.sides import Asked, SetupFailed
from kernelproof.conformance.regression.timed import Reading
from kernelproof.conformance.regression.verdicts import Word
from kernelproof.conformance.suite import UsageError
from kernelproof.conformance.verdict import Verdict

OPTIONS = {"tier": "smoke", "seed": "0", "timeout": 60, "import_timeout": 60, "memory": 8}
OPTIONS |= {"cases": [CASE, JUDGED], "backends": ["cpu"]}
BASE = {
    "copies": "a @ b",
    "slower": "a @ b",
    "noisy": "a @ b",
    "faster": "a @ b",
    "hasty": "a @ b",
    "vanished": "a @ b",
    "mended": "a @ b * 2",
    "broken": "a @ b",
}
HEAD = {
    "copies": "a.clone() @ b",
    "slower": "(a @ b)",
    "noisy": "a @ b",
    "faster": "a @ b",
    "hasty": "a @ b",
    "mended": "a @ b",
    "broken": "a @ b * 2",
    "new": "a @ b",
}
FORGED = {"slower": 1.05, "faster": 0.9, "hasty": 0.5, "broken": None, "still": 1.2}


def gate(repo, *targets, stopwatch=None, policy=None, base=None, head=None, **asked):
    """Judge two revisions of a repository."""
    repository = Repository(repo.folder)
    after = repository.head(head)
    revisions = repository.base(base, after), after
    options = {**OPTIONS, **asked.pop("options", {})}
    question = Asked(targets, PurePath(), options=options, **asked)
    watch = stopwatch or Forged()
    rule = policy or Policy(timed=stopwatch is not None)
    return judge(repository, revisions, question, rule, watch, lambda _: None, TODAY)


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Repo:
    """Kernels with one change each, not committed, and one that is left alone."""
    made = make_repo(tmp_path_factory.mktemp("changes"))
    made.commit(kernels=products(**BASE), still=products(still="a @ b"))
    made.write(kernels=products(**HEAD))
    return made


@pytest.fixture(scope="module")
def ran(repo):
    """One run on all of them, with times that are forged."""
    watch = Forged(FORGED, noise={"noisy": 0.2}, errors={"hasty": 0.6})
    found = gate(
        repo, "kernels.py", "still.py", stopwatch=watch, policy=Policy(rule=Rule(confirm=20))
    )
    return found, watch


def words(run, name, kind=None):
    """The verdicts on an implementation, by metric."""
    found = {f.series.metric: f for f in run.findings if f.series.implementation == name}
    return {metric: each.word for metric, each in found.items() if kind in (None, metric)}


def test_an_extra_copy_is_more_traffic(ran):
    (found,) = (
        f
        for f in ran[0].findings
        if f.series.implementation == "copies" and f.series.metric == "traffic"
    )
    assert found.word is Word.MORE
    assert found.head == found.base + 2 * 4 * 100 * 130


def test_a_slow_down_is_found_with_its_size_and_what_was_visible(ran):
    found = next(
        f
        for f in ran[0].findings
        if f.series.name.endswith("time") and f.series.implementation == "slower"
    )
    assert found.word is Word.SLOWER
    assert found.change == pytest.approx(0.05, abs=0.005)
    assert found.interval[0] < found.change < found.interval[1]
    assert 0.02 < found.sees < 0.04


def test_a_speed_up_is_found(ran):
    assert words(ran[0], "faster", "time") == {"time": "faster"}


def test_a_speed_up_that_costs_accuracy_is_none(ran):
    found = next(
        f for f in ran[0].findings if f.word is Word.VOID and f.series.implementation == "hasty"
    )
    assert found.reason == "faster, but its error is 0.6 of the bound, on base 0.2"


def test_noise_that_hides_the_budget_is_inconclusive(ran):
    assert words(ran[0], "noisy", "time") == {"time": "inconclusive"}


def test_an_implementation_that_vanished_is_missing_in_every_metric(ran):
    assert set(words(ran[0], "vanished").values()) == {"missing"}
    assert {"time", "traffic", "error"} <= set(words(ran[0], "vanished"))


def test_a_new_implementation_has_no_baseline(ran):
    assert set(words(ran[0], "new").values()) == {"no-baseline"}


def test_what_failed_on_base_alone_has_no_baseline_and_is_told(ran):
    assert words(ran[0], "mended", "error") == {"error": "no-baseline"}
    assert any("failed on base and pass on head" in note for note in ran[0].notes)


def test_what_fails_on_head_is_told_by_the_suite_and_its_numbers_are_void(ran):
    assert {r.implementation for r in ran[0].failing} == {"broken"}
    assert words(ran[0], "broken", "error") == {"error": "void"}
    assert words(ran[0], "broken", "time") == {"time": "void"}


def test_unchanged_code_is_a_control_whatever_its_times_say(ran):
    found = next(
        f
        for f in ran[0].findings
        if f.series.implementation == "still" and f.series.metric == "time"
    )
    assert (found.word, found.control) == (Word.PASS, True)
    assert any(note.startswith("A/A control: 1 series of unchanged code") for note in ran[0].notes)


def test_only_suspects_are_measured_again(ran):
    rounds = [names for side, names in ran[1].asked if side == "head"]
    assert set(rounds[-1]) == {"slower", "noisy", "faster", "hasty"}
    assert rounds.count(("still",)) == 5


def test_base_and_head_take_turns_in_an_order_that_varies(ran):
    sides = [side for side, names in ran[1].asked if names != ("still",)]
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    assert set(pairs) == {("base", "head"), ("head", "base")}


def test_the_run_fails_and_leaves_the_repository_as_it_was(ran, repo):
    assert ran[0].code == 1
    assert ran[0].head.dirty
    assert repo.git("worktree", "list").count("\n") == 0
    assert repo.git("status", "--porcelain") == "M kernels.py"


def test_a_file_that_was_renamed_is_compared_with_what_it_was(tmp_path):
    made = make_repo(tmp_path)
    (tmp_path / "deep").mkdir()
    made.commit(**{"deep/kernels": products(mine="a @ b")})
    made.git("mv", "deep/kernels.py", "flash.py")
    made.commit(flash=products(mine="a.clone() @ b"))
    run = gate(made, "flash.py")
    assert (run.code, Word.NO_BASELINE in run.counts) == (1, False)
    assert {f.series.metric for f in run.findings if f.word is Word.MORE} == {"traffic", "memory"}


def test_a_target_in_a_submodule_is_told_how_to_be_checked_out(tmp_path):
    library, made = make_repo(tmp_path / "library"), make_repo(tmp_path / "work")
    library.commit(kernels=products(mine="a @ b"))
    local = ("-c", "protocol.file.allow=always")
    made.git(*local, "submodule", "--quiet", "add", str(library.folder), "lib")
    made.commit()
    made.commit(other="")
    with pytest.raises(UsageError, match=r"lies in a submodule.*--setup 'git submodule update"):
        gate(made, "lib/kernels.py")


def test_a_target_that_is_new_has_no_baseline_and_one_that_is_gone_is_missing(tmp_path):
    made = make_repo(tmp_path)
    made.commit(old=products(mine="a @ b"))
    (tmp_path / "old.py").unlink()
    made.commit(new=f"{products(mine='(a) @ (b)')}{'# another file' * 50}")
    assert gate(made, "old.py").code == 8
    fresh = gate(made, "new.py")
    assert ({f.word for f in fresh.findings}, fresh.code) == ({Word.NO_BASELINE}, 8)


class OneBadProcess(Forged):
    """A stopwatch whose first process of base gets it wrong."""

    def time(self, side, planned):
        first = side.name not in {name for name, _ in self.asked}
        readings = super().time(side, planned)
        if side.name == "base" and first:
            failed = result(verdict=Verdict.CRASH, message="out of memory")
            return [Reading(None, failed) for _ in readings]
        return readings


def test_one_bad_process_of_base_is_inconclusive(tmp_path):
    made = make_repo(tmp_path)
    made.commit(kernels=products(mine="a @ b"))
    made.write(kernels=products(mine="(a @ b)"))
    run = gate(made, "kernels.py", stopwatch=OneBadProcess())
    (found,) = (f for f in run.findings if f.series.metric == "time")
    assert (found.word, found.reason) == (Word.INCONCLUSIVE, "base: crash: out of memory")
    assert run.code == 7


def test_a_worse_error_of_what_was_timed_is_more_whatever_the_time_says(tmp_path):
    made = make_repo(tmp_path)
    made.commit(kernels=products(mine="a @ b"))
    made.write(kernels=products(mine="(a @ b)"))
    run = gate(made, "kernels.py", stopwatch=Forged(errors={"mine": 0.6}))
    found = {f.series.metric: f for f in run.findings if f.word is not Word.PASS}
    assert {m: (f.word, f.base, f.head) for m, f in found.items()} == {
        "error": (Word.MORE, 0.2, 0.6)
    }
    assert run.code == 1


def test_a_less_accurate_kernel_that_declares_less_in_the_same_change_is_more(tmp_path):
    made = make_repo(tmp_path)
    made.commit(kernels=products(mine="a @ b"))
    worse = products(mine="a @ b * 1.00001")
    made.write(kernels=worse.replace('name="mine"', 'name="mine", precision="tf32"'))
    run = gate(made, "kernels.py")
    (found,) = (f for f in run.findings if f.series.metric == "error")
    assert (found.word, found.change, run.code) == (Word.MORE, None, 1)
    assert found.reason.startswith("declares tf32 ")


@pytest.mark.parametrize("before", ["", ', deviates={"matmul.cost.traffic": "it copies"}'])
def test_more_copies_are_more_traffic_whatever_bound_they_are_declared_to_break(tmp_path, before):
    made = make_repo(tmp_path)
    declared = ', deviates={"matmul.cost.traffic": "it copies"}'
    name = 'name="mine"'
    made.commit(kernels=products(mine="a.clone() @ b").replace(name, name + before))
    made.write(kernels=products(mine="a.clone().clone() @ b").replace(name, name + declared))
    run = gate(made, "kernels.py")
    assert "traffic" in {f.series.metric for f in run.findings if f.word is Word.MORE}
    assert Word.MISSING not in {f.word for f in run.findings}


@pytest.mark.parametrize("broken", ["base", "head"])
def test_a_side_that_cannot_be_imported_is_told(tmp_path, broken):
    made = make_repo(tmp_path)
    good, bad = products(mine="a @ b"), "raise ValueError('no GPU')"
    made.commit(kernels=bad if broken == "base" else good)
    made.commit(kernels=good if broken == "base" else bad)
    run = gate(made, "kernels.py")
    if broken == "head":
        assert run.code == 1
        assert "ValueError: no GPU" in run.failing[0].message
        assert {f.word for f in run.findings} == {Word.VOID}
    else:
        assert run.code == 9
        assert any("base cannot be compared with" in note for note in run.notes)
        assert {f.word for f in run.findings} == {Word.NO_BASELINE}


def test_modules_are_imported_from_each_side_through_path_and_setup_can_build(tmp_path):
    made = make_repo(tmp_path)
    (tmp_path / "src" / "gated").mkdir(parents=True)
    (tmp_path / "src" / "gated" / "__init__.py").write_text("")
    text = products(mine="a @ b").replace("a @ b", "a.clone() @ b if EXTRA else a @ b")
    (tmp_path / "src" / "gated" / "kernels.py").write_text("from gated.built import EXTRA\n" + text)
    (tmp_path / "extra").write_text("EXTRA = False")
    made.commit()
    (tmp_path / "extra").write_text("EXTRA = True")
    run = gate(made, "gated.kernels", paths=("src",), setup="cp extra src/gated/built.py")
    assert {f.series.metric for f in run.findings if f.word is Word.MORE} == {"traffic", "memory"}


def test_a_module_of_elsewhere_is_refused(tmp_path):
    made = make_repo(tmp_path)
    made.commit(other="")
    made.write(other="# a change")
    with pytest.raises(UsageError, match=r"was not imported from the checked-out .*--path src"):
        gate(made, "kernelproof.impls.torch.matmul.tiled")


def test_a_module_that_is_installed_from_the_repository_is_refused(tmp_path, monkeypatch):
    made = make_repo(tmp_path)
    (tmp_path / "src" / "lib").mkdir(parents=True)
    text = products(mine="mul(a, b)")
    lazily = text.replace("return", "from lib import mul\n    return")
    made.commit(kernels=lazily, **{"src/lib/__init__": "def mul(a, b): return a @ b\n"})
    made.write(**{"src/lib/__init__": "def mul(a, b): return a.clone() @ b\n"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"), prepend=os.pathsep)
    with pytest.raises(UsageError, match=r"imports src/lib/__init__.py, which was not .*--path"):
        gate(made, "kernels.py")
    assert gate(made, "kernels.py", paths=("src",)).code == 1


class Lazy(Forged):
    """A stopwatch whose processes import a module that the checks did not."""

    def time(self, side, planned):
        side.keep_read(planned[0].implementation.target, ["fast.py"])
        return super().time(side, planned)


def test_what_is_imported_only_where_times_are_measured_is_code_that_changed(tmp_path):
    made = make_repo(tmp_path)
    made.commit(kernels=products(mine="a @ b"), fast="1")
    made.write(fast="2")
    slow = {"mine": 1.5}
    run = gate(made, "kernels.py", stopwatch=Lazy(slow))
    (found,) = (f for f in run.findings if f.series.metric == "time")
    assert (found.word, found.control, run.code) == (Word.SLOWER, False, 1)


def test_a_source_that_is_run_without_an_import_is_code_that_changed(tmp_path):
    made = make_repo(tmp_path)
    reads = "from pathlib import Path\nexec(Path(__file__).with_name('how.py').read_text())\n"
    made.commit(
        how="def product(a, b): return a @ b", kernels=reads + products(mine="product(a, b)")
    )
    made.write(how="def product(a, b): return (a @ b)")
    run = gate(made, "kernels.py", stopwatch=Forged(factors={"mine": 1.2}))
    assert Word.SLOWER in {f.word for f in run.findings}


def test_a_setup_that_fails_is_told_with_the_end_of_its_output(tmp_path):
    made = make_repo(tmp_path)
    made.commit(kernels=products(mine="a @ b"))
    made.write(kernels="")
    with pytest.raises(
        SetupFailed, match=r"'echo no nvcc; exit 3' ended with 3 on base.*\nno nvcc"
    ):
        gate(made, "kernels.py", setup="echo no nvcc; exit 3")


# Mistakes in asking ------------------------------------------------------------------------------


@pytest.fixture
def asking(tmp_path, monkeypatch, capsys):
    """Run the command in a repository; the exit code and what it printed on one line."""
    made = make_repo(tmp_path / "work")
    made.commit(kernels=products(mine="a @ b"))
    made.commit(kernels=products(mine="(a @ b)"))
    monkeypatch.chdir(made.folder)

    def ask(*arguments: str, command: str = "gate") -> tuple[int, str]:
        code = typer.main.get_command(cli.app).main([command, *arguments], standalone_mode=False)
        told = capsys.readouterr()
        return code, " ".join((told.out + " " + told.err).split())

    return ask


MISTAKES = {
    "no target": ([], "wanted targets: files or modules of this repository"),
    "a file that does not exist": (["gone.py"], "target gone.py: gone.py does not exist"),
    "a file that does not exist beside one": (
        ["kernels.py", "typo.py"],
        "target typo.py: typo.py does not exist",
    ),
    "a file outside": (["/etc/x.py"], "target /etc/x.py lies outside the repository"),
    "an unknown base": (["kernels.py", "--base", "v9"], "--base v9: "),
    "an unknown head": (["kernels.py", "--head", "v9"], "has no such commit"),
    "a budget in words": (["kernels.py", "--budget", "some"], "--budget some: wanted a share"),
    "no budget": (["kernels.py", "--budget", "0%"], "--budget 0%: wanted a share such as 2%"),
    "too few processes": (["kernels.py", "--processes", "3"], "--processes 3: wanted 5 or more"),
    "an unknown verdict": (["kernels.py", "--fail-on", "bad"], "--fail-on bad: unknown verdict"),
    "an allowance of time": (["kernels.py", "--allow", "time=2%"], "--allow time=2%: wanted"),
    "a folder outside": (["kernels.py", "--path", ".."], "--path ..: wanted a folder inside"),
    "a report without folder": (["kernels.py", "--json", "no/r.json"], "--json no/r.json: the"),
    "a comment in a folder": (["kernels.py", "--markdown", "."], "--markdown .: wanted a file"),
    "an unknown tier": (["kernels.py", "--tier", "smole"], "--tier smole: wanted one of smoke"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_asking_is_one_sentence_and_exit_4(asking, what):
    arguments, sentence = MISTAKES[what]
    code, told = asking(*arguments)
    assert (code, sentence in told) == (4, True), told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kernels.py", "--tier", "smok"], "--tier smok: wanted one of smoke"),
        (["kernels.py", "--seconds", "-1"], "--seconds -1.0: wanted above 0"),
        (["kernels.py", "--seconds", "0"], "--seconds 0.0: wanted above 0"),
        (["kernels.py", "--backend", "gpu"], "--backend gpu: wanted one of cpu"),
        (["kernels.py", "--memory", "0.001"], "--memory 0.001: wanted at least 1 GiB"),
        (["gone.py"], "target gone.py: gone.py does not exist"),
        (["kernels.py"], "has no commit before it"),
    ],
)
def test_options_are_checked_before_a_commit_is_sought(asking, arguments, sentence):
    made = Repo(Path.cwd())
    made.git("checkout", "--quiet", "--orphan", "alone")
    made.git("branch", "--quiet", "-D", "main")
    made.commit()
    code, told = asking(*arguments)
    assert (code, sentence in told) == (4, True), told


def test_outside_of_a_repository_the_gate_refuses(asking, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, told = asking("kernels.py")
    assert code == 4
    assert "is in no git repository that can be read" in told


def test_malformed_accepted_changes_are_refused_before_anything_runs(asking):
    Path("kernelproof-accepted.toml").write_text("[[accepted]]\nreason = ''\n")
    code, told = asking("kernels.py")
    assert code == 4
    assert "kernelproof-accepted.toml: entry 1 has no series" in told


def test_bench_with_a_base_tells_the_change_of_each_time_and_no_count(asking, monkeypatch):
    watch = Forged(factors={"mine": 1.2})
    monkeypatch.setattr(comparing, "Processes", lambda: watch)
    code, told = asking("kernels.py", "--base", "HEAD~1", command="bench")
    assert (code, "slower mine matmul.tiled cpu time 1 ms 1.2 ms +20 %" in told) == (1, True), told
    assert "checks:" not in told
    assert "regression: 1 slower; 0 of 1 series did not change" in told


def test_bench_with_a_base_times_no_interpreter_either(asking):
    code, told = asking("kernels.py", "--base", "HEAD~1", "--backend=interpret", command="bench")
    assert (code, "wanted cpu or cuda" in told) == (4, True), told


@pytest.mark.parametrize("option", ["--json=f.json", "--record", "-- -k mine"])
def test_bench_with_a_base_refuses_what_keeps_one_revision(asking, monkeypatch, option):
    arguments = ["kernels.py", "--base", "HEAD~1", *option.split()]
    monkeypatch.setattr("sys.argv", ["kernelproof", "bench", *arguments])
    code, told = asking(*arguments, command="bench")
    assert (code, "bench --base compares two revisions and keeps nothing" in told) == (4, True)


def test_files_are_named_from_the_current_folder(asking, monkeypatch):
    Path("deep").mkdir()
    monkeypatch.chdir("deep")
    code, told = asking("../kernels.py", "--case", CASE, "--no-time", "--json", "../gate.json")
    assert code == 0, told
    assert "no regression:" in told
    assert Path("../gate.json").exists()


def test_an_accepted_change_passes(asking):
    Path("kernels.py").write_text(products(mine="a.clone() @ b"))
    entry = """
[[accepted]]
series = "matmul.tiled/mine/*"
metric = "{metric}"
device = "any"
from = 0
to = 1e9
commit = "{commit}"
reason = "a copy for alignment"
expires = {day}
"""
    made, day = Repo(Path.cwd()), datetime.date.today() + datetime.timedelta(90)
    entry = entry.format(metric="{metric}", commit=made.git("rev-parse", "HEAD"), day=day)
    both = "".join(entry.format(metric=m) for m in ("traffic", "memory"))
    Path("kernelproof-accepted.toml").write_text(both)
    code, told = asking("kernels.py", "--case", CASE, "--no-time")
    assert (code, "2 accepted" in told) == (0, True), told
    # what was merged accepts no second change
    made.commit(kernels=products(mine="a.clone() @ b.clone()"))
    Path("kernels.py").write_text(products(mine="a.clone() @ b.clone().clone()"))
    code, told = asking("kernels.py", "--case", CASE, "--no-time")
    assert (code, "accepted)" in told) == (1, False), told
