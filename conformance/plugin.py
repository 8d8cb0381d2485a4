"""The pytest plugin. It imports almost nothing until the suite's own checks are asked for."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kernelproof.conformance.session import Session

_PACKAGE = "kernelproof.conformance"
OPTIONS: dict[str, dict[str, Any]] = {
    "target": {"action": "append", "help": "file, module or module:callable (repeatable)"},
    "spec": {"action": "append", "help": "only specs that match this pattern (repeatable)"},
    "impl": {"help": "only implementations that match this pattern"},
    "backend": {
        "action": "append",
        "help": "cpu, interpret or cuda (repeatable); default: all that run here",
    },
    "dtype": {"action": "append", "help": "only this input dtype (repeatable)"},
    "tier": {"help": "smoke, core (default) or full"},
    "seed": {"help": "seed of the inputs, or 'random'; default 0"},
    "clause": {"action": "append", "help": "judge the cases by this clause alone (repeatable)"},
    "fuzz": {"help": "random cases of each implementation, this many, instead of a tier's"},
    "bench": {"action": "store_true", "help": "time calls instead of checking them"},
    "seconds": {"help": "of measuring one case (default 1)"},
    "case": {"action": "append", "help": "only the case with this id (repeatable)"},
    "require": {"help": "fail implementations that declare looser roundings than this preset"},
    "strict": {"action": "store_true", "help": "exit 7 if anything could not be measured"},
    "returns": {"help": "of a module:callable: the outputs it returns, e.g. out"},
    "gradients": {
        "action": "store_true",
        "help": "of a module:callable: judge what torch's autograd makes of it, too",
    },
    "map": {
        "help": "of a module:callable: option=keyword or option:value=keyword, comma-separated"
    },
    "json": {"help": "write the run record to this file"},
    "record": {"action": "store_true", "help": "keep the run in the store"},
    "store": {"help": "folder of the store (default .kernelproof at the root of the repository)"},
    "timeout": {"help": "seconds per call (default 60)"},
    "import-timeout": {"help": "seconds per import of a target (default 60)"},
    "memory": {"help": "GiB of address space per worker (default 8)"},
    "console": {"action": "store_true", "help": "print kernelproof's progress and failures"},
}
_DEFAULTS = {"tier": "core", "seed": "0", "timeout": "60", "import-timeout": "60", "memory": "8"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options ``--kp-NAME``, ini keys ``kernelproof_NAME``, variables ``KERNELPROOF_NAME``."""
    group = parser.getgroup(
        "kernelproof", "kernelproof: conformance of attention and matmul kernels"
    )
    for name, keywords in OPTIONS.items():
        group.addoption(f"--kp-{name}", dest=f"kp_{name}", **keywords)
        kind: Any = {"append": "args", "store_true": "bool"}.get(
            keywords.get("action", ""), "string"
        )
        ini = "implementations" if name == "target" else name.replace("-", "_")
        parser.addini(f"kernelproof_{ini}", keywords["help"], type=kind, default=None)


def option(config: pytest.Config, name: str) -> Any:
    """Command line beats ini beats environment beats default."""
    given = config.getoption(f"kp_{name}")
    if given:
        return given
    ini = "implementations" if name == "target" else name.replace("-", "_")
    if (configured := config.getini(f"kernelproof_{ini}")) not in (None, [], "", False):
        if name == "target":  # files of an ini stand relative to it, whatever the current folder
            return [os.path.relpath(config.rootpath / t) if ".py" in t else t for t in configured]
        return configured
    variable = os.environ.get(f"KERNELPROOF_{ini.upper()}")
    action = OPTIONS[name].get("action")
    if variable and action == "append":
        return variable.split()
    if variable and action == "store_true":
        return variable.lower() not in ("0", "false", "no", "off")
    return variable or _DEFAULTS.get(name)


def pytest_configure(config: pytest.Config) -> None:
    """Set the suite up if this run has its checks among its arguments."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if not any(
        a.startswith(_PACKAGE) or os.path.abspath(a).startswith(folder) for a in config.args
    ):
        return
    if (processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
        # threads of several processes wait for each other's cores; NumPy and torch, here and in
        # workers, read it when they are imported
        threads = max(1, (os.cpu_count() or 1) // processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from kernelproof.conformance.session import Session

    # the user's own naming of tests is no matter here
    config.addinivalue_line("python_files", "test_*.py")
    config.addinivalue_line("python_functions", "test_*")
    config.pluginmanager.register(Session(config), "kernelproof-session")


def session_of(config: pytest.Config) -> Session:
    """The suite's session. Raises UsageError if this run has none."""
    session = config.pluginmanager.get_plugin("kernelproof-session")
    if session is None:
        raise pytest.UsageError(f"wanted pytest --pyargs {_PACKAGE} among the arguments")
    return session  # type: ignore[no-any-return]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the suite's checks their cases."""
    if not {"conformance_check", "conformance_benchmark"}.isdisjoint(metafunc.fixturenames):
        session_of(metafunc.config).parametrize(metafunc)


@pytest.fixture
def conformance_check(request: pytest.FixtureRequest) -> Any:
    """A function that runs the check of this item and turns its verdict into an outcome."""
    return lambda: session_of(request.config).run(request.node, request.param)


@pytest.fixture
def conformance_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> Any:
    """A function that times the call of this item and hands its rounds to pytest-benchmark."""
    return lambda: session_of(request.config).bench(request.node, request.param, benchmark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Carry the result to whoever prints, across processes too."""
    report = yield
    result = getattr(item, "kernelproof_result", None)
    if call.when == "call" and result is not None:
        report.kernelproof = result  # type: ignore[attr-defined]
    return report
