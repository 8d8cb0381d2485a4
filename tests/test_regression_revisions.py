"""Two revisions in folders of their own: which ones, what is in them, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from gating import Repo, make_repo

from kernelproof.conformance.regression.revisions import Repository
from kernelproof.conformance.suite import UsageError


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = make_repo(tmp_path / "work")
    made.commit(kernels="1")
    return made


def test_a_folder_without_repository_is_told_so(tmp_path):
    with pytest.raises(UsageError, match=r"is in no git repository that can be read .*run it in"):
        Repository.around(tmp_path)


def test_a_repository_without_commit_has_no_head(tmp_path):
    made = make_repo(tmp_path / "empty")
    with pytest.raises(UsageError, match="has no commit yet"):
        Repository(made.folder).head(None)


def test_the_only_commit_has_no_base(repo):
    repository = Repository(repo.folder)
    with pytest.raises(UsageError, match=r"has no commit before it here.*name one with --base"):
        repository.base(None, repository.head(None))


@pytest.mark.parametrize("option", ["base", "head"])
@pytest.mark.parametrize("name", ["gone", "--all", "HEAD:kernels.py"])
def test_an_unknown_revision_is_named(repo, option, name):
    repository = Repository(repo.folder)
    with pytest.raises(UsageError, match=f"--{option} {name}: .* has no such commit"):
        repository.head(name) if option == "head" else repository.base(name, repository.head(None))


def test_the_base_of_a_branch_is_where_it_left_the_default_branch(repo):
    forked = repo.git("rev-parse", "HEAD")
    repo.git("checkout", "--quiet", "-b", "feature")
    repo.commit(kernels="2")
    repo.commit(kernels="3")
    repository = Repository(repo.folder)
    found = repository.base(None, repository.head(None))
    assert (found.commit, found.why) == (forked, "where it left main")


def test_the_base_on_the_default_branch_is_the_commit_before(repo):
    before = repo.git("rev-parse", "HEAD")
    after = repo.commit(kernels="2")
    repository = Repository(repo.folder)
    found = repository.base(None, repository.head(None))
    assert (found.commit, found.why) == (before, f"the commit before {after[:12]}")


def test_a_revision_descends_from_itself_and_what_came_before_it_alone(repo):
    first, second = repo.git("rev-parse", "HEAD"), repo.commit(kernels="2")
    repo.git("checkout", "--quiet", "--detach", first)
    beside = repo.commit(kernels="3")
    repository = Repository(repo.folder)
    head = repository.head(second)
    assert [repository.descends(c[:12], [head]) for c in (first, second)] == [True, True]
    assert [repository.descends(c, [head]) for c in (beside, "0123456")] == [False, False]


def test_the_base_of_uncommitted_changes_is_the_last_commit(repo):
    repo.commit(kernels="2")
    repo.write(kernels="3")
    repository = Repository(repo.folder)
    found = repository.base(None, repository.head(None))
    assert (found.commit, found.why) == (repo.git("rev-parse", "HEAD"), "the last commit")


def test_what_the_gate_writes_and_stray_files_do_not_make_the_last_commit_the_base(repo):
    repo.commit(kernels="2")
    before = repo.git("rev-parse", "HEAD~1")
    store, report = repo.folder / ".kernelproof", repo.folder / "gate [1].json"
    store.mkdir()
    for file in (store / "run.parquet", report, repo.folder / "build.log"):
        file.write_text("x")
    repository = Repository(repo.folder)
    head = repository.head(None, [store, report])
    found = repository.base(None, head)
    assert (found.commit, head.dirty) == (before, False)
    assert repository.differing(found, head) == ["build.log", "kernels.py"]


def test_a_repository_within_is_no_change(repo):
    before = repo.git("rev-parse", "HEAD")
    repo.commit(kernels="2")
    (repo.folder / "other").mkdir()
    make_repo(repo.folder / "other").commit(kernels="3")
    repository = Repository(repo.folder)
    head = repository.head(None)
    assert (head.dirty, repository.base(None, head).commit) == (False, before)


def test_line_ends_that_git_would_not_give_back_are_no_matter(repo):
    repo.git("config", "core.autocrlf", "true")
    repo.git("config", "core.safecrlf", "true")
    repo.write(more="a\n")
    assert Repository(repo.folder).head(None).dirty


@pytest.mark.parametrize("name", ["new.py", "new.cu"])
def test_a_new_source_is_a_change_that_is_compared_with_the_last_commit(repo, name):
    last = repo.commit(kernels="2")
    (repo.folder / name).write_text("3")
    repository = Repository(repo.folder)
    head = repository.head(None)
    assert (head.dirty, repository.base(None, head).commit) == (True, last)


def test_the_head_has_what_lies_in_the_working_tree_and_leaves_index_and_files_alone(repo):
    (repo.folder / ".gitignore").write_text("ignored.py\n")
    repo.commit(staged="1", gone="1")
    repo.write(kernels="2", new="2", ignored="2", staged="2")
    repo.git("add", "staged.py")
    (repo.folder / "gone.py").unlink()
    before = repo.git("status", "--porcelain")
    repository = Repository(repo.folder)
    head = repository.head(None)
    assert head.dirty
    with repository.checked_out([repository.base(None, head), head]) as (base, own):
        assert sorted(p.name for p in own.glob("*.py")) == ["kernels.py", "new.py", "staged.py"]
        assert [(f / "kernels.py").read_text() for f in (base, own)] == ["1", "2"]
        changed = ["gone.py", "kernels.py", "new.py", "staged.py"]
        assert repository.differing(repository.base(None, head), head) == changed
    assert repo.git("status", "--porcelain") == before


def test_a_clean_working_tree_is_its_commit(repo):
    head = Repository(repo.folder).head(None)
    assert (head.dirty, head.tree) == (False, repo.git("rev-parse", "HEAD"))


def test_variables_of_a_hook_do_not_lead_to_another_repository(repo, tmp_path, monkeypatch):
    other = make_repo(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.folder / ".git" / "index"))
    assert Repository.around(repo.folder).head(None).commit


def test_how_somebody_has_paths_read_is_no_matter(repo, monkeypatch):
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    written = repo.folder / "report.json"
    written.write_text("{}")
    repo.write(kernels="2")
    head = Repository(repo.folder).head(None, [written])
    assert repo.git("ls-tree", "--name-only", head.tree) == "kernels.py"


def test_hooks_of_the_repository_do_not_run(repo):
    hook = repo.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    repository = Repository(repo.folder)
    with repository.checked_out([repository.head(None)]) as (folder,):
        assert (folder / "kernels.py").read_text() == "1"


def worktrees(repo: Repo) -> int:
    """How many working trees git knows."""
    return len(repo.git("worktree", "list").splitlines())


def test_an_exception_leaves_no_worktree(repo, tmp_path):
    repository = Repository(repo.folder)
    with (
        pytest.raises(ZeroDivisionError),
        repository.checked_out([repository.head(None)]) as (one,),
    ):
        assert worktrees(repo) == 2
        _ = 1 / 0
    assert worktrees(repo) == 1
    assert not one.exists()


WAITS = """
import sys, time
from pathlib import Path
from kernelproof.conformance.regression.revisions import Repository
repository = Repository(Path(sys.argv[1]))
head = repository.head(None)
with repository.checked_out([head, head]) as folders:
    print(folders[0], flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_told_to_end_leaves_no_worktree(repo, number, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", WAITS, str(repo.folder)]
    # Ctrl-C may be ignored where the tests were started, as by jobs in the background
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        signal.signal(signal.SIGINT, heard)
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "kernels.py").exists()
        assert worktrees(repo) == 3
        process.send_signal(number)
        assert process.wait(30) != 0
    assert worktrees(repo) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


def test_what_a_killed_process_leaves_git_worktree_prune_removes(repo, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", WAITS, str(repo.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.kill()
        process.wait(30)
    for left in (folder.parent, folder.parents[1] / "1"):
        subprocess.run(["rm", "-r", str(left)], check=True)
    repo.git("worktree", "prune")
    assert worktrees(repo) == 1


@contextmanager
def waiting(repo, temporary):
    """A process that has two revisions checked out, and the folder of one."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", WAITS, str(repo.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_what_a_killed_process_leaves_the_next_one_clears(repo, tmp_path):
    with waiting(repo, tmp_path) as (process, left):
        process.kill()
        process.wait(30)
    assert worktrees(repo) == 3
    repository = Repository(repo.folder)
    with repository.checked_out([repository.head(None)]):
        assert worktrees(repo) == 2
    assert not left.parents[1].exists()
    assert worktrees(repo) == 1


def test_what_a_living_process_has_checked_out_stays(repo, tmp_path):
    with waiting(repo, tmp_path) as (_, own):
        repository = Repository(repo.folder)
        with repository.checked_out([repository.head(None)]):
            assert worktrees(repo) == 4
        assert (own / "kernels.py").exists()
