"""One run of the suite inside pytest: planning, running, collecting results, reporting."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.conformance import record
from kernelproof.conformance import report as reporting
from kernelproof.conformance.client import WorkerUnavailable
from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.plugin import option
from kernelproof.conformance.suite import Fuzzed, Planned, Registered, Settings, Suite, UsageError
from kernelproof.conformance.verdict import Result, Verdict

if TYPE_CHECKING:
    from kernelproof.conformance.timing.timed import Timed


class Infrastructure(pytest.exit.Exception):  # type: ignore[name-defined, misc]  # untyped there
    """Ends the run with exit code 9: nothing of it is an implementation's fault."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=ExitCode.INFRASTRUCTURE)


class Session:
    """Registered as a plugin while the suite's checks are part of a pytest run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._results: list[Result] = []
        self._errors: list[str] = []
        self._started = record.now()
        self._progress: reporting.Progress | None = None
        handed = getattr(config, "workerinput", {}).get("kernelproof")
        try:
            if handed:
                given = json.loads(handed)
                settings = Settings.read({**_options(config), "seed": given["seed"]})
                self.suite = Suite(settings, given["description"])
            else:
                self.suite = Suite(Settings.read(_options(config)))
                record.check_writable(option(config, "json"))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        if self.suite.settings.bench:
            _check_bench(config)
        self._is_xdist_worker = bool(handed)
        self._has_processes = bool(getattr(config.option, "numprocesses", None))
        self._console = bool(option(config, "console")) and not self._is_xdist_worker
        self._timed: list[Timed] = []
        self._plan: tuple[list[Planned], list[Result]] | None = None

    @property
    def plan(self) -> tuple[list[Planned], list[Result]]:
        """Checks to run, and results of those outside what is claimed."""
        if self._plan is None:
            self._plan = self.suite.plan()
        return self._plan

    def pytest_sessionstart(self) -> None:
        """Ask the targets what they register, once, before anything is collected."""
        try:
            self.suite.check_selection()
            if self._has_processes:
                self.suite.close()  # those of pytest-xdist have workers of their own
            else:
                self.suite.warm()
        except UsageError as error:
            self.suite.close()
            raise pytest.UsageError(str(error)) from None
        except WorkerUnavailable as error:
            raise Infrastructure(str(error)) from None
        if self._console:
            writer = self._config.get_terminal_writer()
            items = [*self.plan[0], *self.suite.timed()]
            self._progress = reporting.Progress(writer, [*items, *self.suite.fuzzed()])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand descriptions and the run's seed to a worker of pytest-xdist."""
        given = {"description": self.suite.description, "seed": self.suite.settings.seed}
        node.workerinput["kernelproof"] = json.dumps(given)

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Give a check function its items."""
        check = metafunc.function.__name__.removeprefix("test_")
        if check == "performance":
            self._parametrize_performance(metafunc)
            return
        items: Sequence[Planned | Fuzzed | Registered] = (
            self.suite.registrations()
            if check == "registration"
            else self.suite.fuzzed()
            if check == "fuzz"
            else [p for p in self.plan[0] if p.clause.check == check]
        )
        metafunc.parametrize("conformance_check", items, ids=[i.id for i in items], indirect=True)

    def _parametrize_performance(self, metafunc: pytest.Metafunc) -> None:
        """Its items have clocks of their own; without pytest-benchmark there is no such mark."""
        from kernelproof.conformance.timing.told import ToldClock

        items = [
            pytest.param(item, id=item.id, marks=pytest.mark.benchmark(timer=ToldClock()))
            for item in self.suite.timed()
        ]
        metafunc.parametrize("conformance_benchmark", items, indirect=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop what pytest makes of a check without items: a test that only skips."""
        items[:] = [i for i in items if not i.name.endswith("[NOTSET]")]

    def run(self, node: Any, item: Planned | Fuzzed | Registered) -> None:
        """Run one item: the outcome of a pytest test from a verdict."""
        try:
            result = self._result(item)
        except WorkerUnavailable as error:
            raise Infrastructure(str(error)) from None
        node.kernelproof_result = result.to_json()
        for name in ("spec", "implementation", "backend", "case", "clause", "verdict", "ratio"):
            node.user_properties.append((name, node.kernelproof_result[name]))
        if result.verdict.failing:
            pytest.fail(reporting.failure_text(result), pytrace=False)
        if result.verdict in (Verdict.UNMEASURED, Verdict.UNSUPPORTED):
            pytest.skip(f"{result.verdict}: {result.message}")

    def bench(self, node: Any, item: Planned, benchmark: Any) -> None:
        """Time one item. What is wrong with its results, or with its clock, fails it and leaves no
        benchmark."""
        from kernelproof.conformance.timing.told import tell, tell_nothing

        try:
            timed = self.suite.time(item)
        except WorkerUnavailable as error:
            raise Infrastructure(str(error)) from None
        node.kernelproof_result = timed.result.to_json()
        if timed.void:
            tell_nothing(benchmark)
            if timed.result.verdict.failing:
                pytest.fail(reporting.failure_text(timed.result), pytrace=False)
            pytest.skip(f"{timed.result.verdict}: {timed.result.message}")
        self._timed.append(timed)
        tell(benchmark, node.get_closest_marker("benchmark").kwargs["timer"], timed)

    def _result(self, item: Planned | Fuzzed | Registered) -> Result:
        if isinstance(item, Registered):
            return item.result
        return self.suite.fuzz(item) if isinstance(item, Fuzzed) else self.suite.check(item)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect results, from this process or from those of pytest-xdist."""
        if (carried := getattr(report, "kernelproof", None)) is not None:
            self._results.append(Result.from_json(carried))
            if self._progress:
                self._progress.show(self._results[-1])
        elif report.failed:
            self._errors.append(f"{report.nodeid}\n{report.longreprtext}")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Under the command line, our progress stands in for pytest's letters."""
        if not self._console or (report.when != "call" and report.passed):
            return None
        return report.outcome, "", ""

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Failures (under the command line) and the table of implementations."""
        if self._is_xdist_worker or self._config.option.collectonly:
            return
        if self._progress:
            self._progress.clear()
        writer = self._config.get_terminal_writer()
        verbose = self._config.option.verbose > 0
        if self._console:
            reporting.write_failures(writer, self._results, self._errors, verbose)
        if self.suite.settings.bench:
            from kernelproof.conformance.timing.table import write_times

            write_times(writer, self.suite, self._timed, self._results)
        else:
            reporting.write_summary(writer, self.suite, self._results, self.plan[1])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Stop workers, settle the exit code, write the record."""
        self.suite.close()
        if self._is_xdist_worker or self._config.option.collectonly:
            return
        if exitstatus == 0 and not any(r.check != "registration" for r in self._results):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        unmeasured = any(r.verdict is Verdict.UNMEASURED for r in self._results)
        if option(self._config, "strict") and session.exitstatus == 0 and unmeasured:
            session.exitstatus = ExitCode.INCONCLUSIVE
        if path := option(self._config, "json"):
            run = record.RunRecord(self.suite, self._started, [*self._results, *self.plan[1]])
            try:
                record.write(Path(path), run.to_json(int(session.exitstatus)))
            except OSError as error:
                print(
                    f"kernelproof: the record was not written to {path}: {error.strerror}",
                    file=sys.stderr,
                )
                session.exitstatus = ExitCode.INFRASTRUCTURE
        # neither interrupted nor refused
        whole = session.exitstatus in (0, ExitCode.REGRESSION, ExitCode.INCONCLUSIVE)
        if option(self._config, "record") and whole and not self._keep():
            session.exitstatus = session.exitstatus or ExitCode.INFRASTRUCTURE  # a verdict stands

    def _keep(self) -> bool:
        """Save the run, which has been judged by now, in the store; whether that succeeded."""
        from kernelproof.conformance.history.collect import (
            called,
            measurements_of,
            run_of,
            times_of,
        )
        from kernelproof.conformance.history.place import store_folder
        from kernelproof.conformance.history.revision import RevisionError
        from kernelproof.conformance.history.store import Store, StoreError

        processes = int(getattr(self._config.option, "numprocesses", None) or 1)
        measured = measurements_of(self._results, self.suite, processes=processes)
        label = f"test, tier {self.suite.settings.tier}"
        if self.suite.settings.bench:
            label = "bench"
            measured = [
                each
                for timed in self._timed
                for each in times_of(self.suite, called(timed.result), *timed.kept)
            ]
        try:
            run = run_of(measured, self.suite, self._started, label)
            folder = store_folder(option(self._config, "store"))
            Store(folder).add(run)
        except (RevisionError, StoreError) as error:
            print(f"kernelproof: {error}", file=sys.stderr)
            return False
        commit = run.commit[:10] + " with uncommitted changes" * run.dirty
        print(f"{len(measured):,} measurements of {commit or 'no commit'} recorded in {folder}")
        return True


def _check_bench(config: pytest.Config) -> None:
    """Raise UsageError where nothing can be timed."""
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "-n: times of checks that run beside each other are times of both: bench runs alone"
        )
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError(
            "bench hands its times to pytest-benchmark, which is not loaded: install it, or take "
            "-p no:benchmark away"
        )


def _options(config: pytest.Config) -> dict[str, Any]:
    names = {
        "target": "targets",
        "spec": "specs",
        "impl": "implementation",
        "backend": "backends",
        "dtype": "dtypes",
        "case": "cases",
        "clause": "clauses",
        "import-timeout": "import_timeout",
    }
    every = (
        "target",
        "spec",
        "impl",
        "backend",
        "dtype",
        "tier",
        "seed",
        "case",
        "require",
        "returns",
        "map",
        "gradients",
        "fuzz",
        "bench",
        "seconds",
        "clause",
        "timeout",
        "import-timeout",
        "memory",
    )
    return {names.get(name, name): option(config, name) for name in every}
