"""The CI recipe: its shell parts, run with a stand-in for what they call."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CI = ROOT / "ci"


class Place:
    """A folder with a git repository and stand-ins that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder / "work", folder / "calls"
        self.commands = folder / "bin"
        self.folder.mkdir()
        self.commands.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "a")
        self.git("config", "user.email", "a@b")
        self.commit("one")

    def git(self, *words: str) -> str:
        ran = subprocess.run(
            ["git", *words], cwd=self.folder, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def commit(self, text: str) -> str:
        (self.folder / "kernels.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")

    def stand_in(self, name: str, script: str) -> None:
        file = self.commands / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{script}\n')
        file.chmod(0o755)

    def run(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.commands}:{os.environ['PATH']}"
        kept = {"HOME": str(self.folder), "PATH": path}
        return subprocess.run(
            [CI / script, *words],
            cwd=self.folder,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def judging(tested: int, gated: int) -> str:
    return f"case $1 in test) exit {tested};; gate) exit {gated};; esac"


@pytest.mark.parametrize(
    ("tested", "gated", "code"), [(0, 0, 0), (1, 0, 1), (0, 7, 7), (1, 8, 1), (0, 8, 8)]
)
def test_the_first_command_that_fails_gives_the_exit_code_and_both_run(
    place: Place, tested: int, gated: int, code: int
) -> None:
    place.stand_in("kernelproof", judging(tested, gated))
    base = place.git("rev-parse", "HEAD")
    ran = place.run("check.sh", KERNELPROOF_TARGETS="a.py b.py", KERNELPROOF_BASE=base)
    assert ran.returncode == code, ran.stderr
    test, gate = place.called()
    assert test.startswith("kernelproof test a.py b.py --json kernelproof-out/run.json")
    assert gate.startswith(f"kernelproof gate a.py b.py --base {base} --store .kernelproof")
    assert gate.endswith("--markdown kernelproof-out/gate.md")


def test_without_targets_it_says_what_it_wanted(place: Place) -> None:
    ran = place.run("check.sh")
    assert ran.returncode != 0
    assert "wanted files or modules of kernels" in ran.stderr


def test_without_a_base_only_the_suite_runs_and_it_says_so(place: Place) -> None:
    place.stand_in("kernelproof", judging(0, 1))
    ran = place.run("check.sh", KERNELPROOF_TARGETS="a.py")
    assert ran.returncode == 0
    assert len(place.called()) == 1
    assert "no base to compare with" in ran.stdout


def test_a_pull_request_is_compared_with_the_first_parent_of_its_merge(place: Place) -> None:
    base = place.git("rev-parse", "HEAD")
    place.git("checkout", "-q", "-b", "change")
    place.commit("two")
    place.git("checkout", "-q", "main")
    place.git("merge", "-q", "--no-ff", "-m", "merge", "change")
    place.stand_in("kernelproof", judging(0, 0))
    place.run("check.sh", KERNELPROOF_TARGETS="a.py", GITHUB_EVENT_NAME="pull_request")
    assert f"--base {base}" in place.called()[1]


def test_a_change_that_is_checked_out_itself_is_compared_with_where_it_left_its_base(
    place: Place, tmp_path: Path
) -> None:
    base = place.git("rev-parse", "HEAD")
    place.git("checkout", "-q", "-b", "change")
    place.commit("two")
    place.commit("three")
    place.git("checkout", "-q", "main")
    place.git("commit", "-q", "--allow-empty", "-m", "meanwhile")
    clone = tmp_path / "clone"
    place.git("clone", "-q", "--depth", "1", "-b", "change", f"file://{place.folder}", str(clone))
    place.stand_in("kernelproof", judging(0, 0))
    place.folder = clone
    event = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "main"}
    ran = place.run("check.sh", KERNELPROOF_TARGETS="a.py", **event)
    assert ran.returncode == 0, ran.stderr
    assert f"--base {base}" in place.called()[1]


def test_a_shallow_clone_fetches_the_base_that_it_lacks(place: Place, tmp_path: Path) -> None:
    base = place.git("rev-parse", "HEAD")
    place.commit("two")
    shallow = tmp_path / "shallow"
    place.git("clone", "-q", "--depth", "1", f"file://{place.folder}", str(shallow))
    place.stand_in("kernelproof", f"{judging(0, 0)}")
    place.folder = shallow
    ran = place.run("check.sh", KERNELPROOF_TARGETS="a.py", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert ran.returncode == 0, ran.stderr
    assert place.git("cat-file", "-t", base) == "commit"


def test_a_base_that_cannot_be_fetched_is_infrastructure(place: Place) -> None:
    place.stand_in("kernelproof", judging(0, 0))
    ran = place.run("check.sh", KERNELPROOF_TARGETS="a.py", KERNELPROOF_BASE="no-such-revision")
    assert ran.returncode == 9
    assert len(place.called()) == 1


@pytest.mark.parametrize(("own", "method"), [("", "POST"), ("17", "PATCH")])
def test_a_pull_request_gets_one_comment_which_the_next_run_replaces(
    place: Place, own: str, method: str
) -> None:
    place.stand_in("gh", f'case "$*" in *--paginate*) echo "{own}";; esac')
    (place.folder / "gate.md").write_text("slower\n")
    ran = place.run("comment.sh", "gate.md", "5", GITHUB_REPOSITORY="o/r", GH_TOKEN="t")
    assert ran.returncode == 0, ran.stderr
    where = f"repos/o/r/issues/comments/{own}" if own else "repos/o/r/issues/5/comments"
    assert f"--method {method} {where} " in place.called()[1]


@pytest.mark.parametrize(("own", "method"), [("", "POST"), ("17", "PUT")])
def test_a_merge_request_gets_one_note_which_the_next_run_replaces(
    place: Place, own: str, method: str
) -> None:
    notes = f'[{{"id": {own or 3}, "body": "{"<!-- kernelproof gate -->" if own else "hi"}"}}]'
    place.stand_in("curl", f"case \"$*\" in *--request*) ;; *) echo '{notes}';; esac")
    (place.folder / "gate.md").write_text("slower\n")
    variables = {"CI_API_V4_URL": "https://x", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "2"}
    ran = place.run("note.sh", "gate.md", KERNELPROOF_TOKEN="t", **variables)
    assert ran.returncode == 0, ran.stderr
    assert f"--request {method}" in place.called()[1]
    assert place.called()[1].endswith(f"/notes/{own}" if own else "/notes")


@pytest.mark.parametrize("script", ["comment.sh", "note.sh"])
def test_without_a_verdict_nothing_is_commented(place: Place, script: str) -> None:
    place.stand_in("gh", "")
    place.stand_in("curl", "")
    ran = place.run(script, "gate.md", "5")
    assert ran.returncode == 0
    assert "no comment" in ran.stdout or "no note" in ran.stdout
    assert place.called() == []


def test_the_action_hands_every_variable_to_the_script_that_reads_it() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    script = (CI / "check.sh").read_text()
    for name, value in steps["Test and gate"]["env"].items():
        assert f"${{{name}:" in script
        assert value.removeprefix("${{ inputs.").removesuffix(" }}") in action["inputs"]
    restore, keep = steps["Restore the history"]["with"], steps["Keep the history"]["with"]
    assert restore["key"] == keep["key"]
    assert keep["key"].startswith(restore["restore-keys"])


def test_the_documented_jobs_are_yaml_and_call_what_is_there() -> None:
    blocks = (ROOT / "docs" / "ci.md").read_text().split("```yaml\n")[1:]
    github, gitlab = (yaml.safe_load(block.partition("```")[0]) for block in blocks)
    inputs = github["jobs"]["kernelproof"]["steps"][-1]["with"]
    assert inputs.keys() <= yaml.safe_load((ROOT / "action.yml").read_text())["inputs"].keys()
    called = [*gitlab["kernelproof"]["script"], *gitlab["kernelproof"]["after_script"]]
    for line in called:
        script = line.partition("/opt/kernelproof/")[2].split()[0]
        assert (ROOT / script).exists(), line
