"""Registrations and targets that cannot be used: one sentence each; the rest of the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HONEST = """
import torch
from kernelproof import implementation

@implementation("attention.scaled_dot_product", name=NAME, returns=["out"])
def kernel(q, k, v):
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
"""

# What the decorator is told ---------------------------------------------------------------------

CLAIMS = [
    ("misspelt spec", "unknown spec 'attention.scaled_dot_produkt': did you mean "),
    ("made-up spec", "unknown spec 'attention.zzz'"),
    (
        "layer without its heads",
        "attention.multi_head is always given heads, kv_heads: take heads as a keyword",
    ),
    ("empty spec", "unknown spec ''"),
    ("spec that is a number", "unknown spec"),
    ("misspelt dtype", "'floot16': did you mean 'float16'?"),
    ("dtype of torch", "'torch.float32'"),
    ("no dtype", "dtypes"),
    ("misspelt backend", "'gpu'"),
    ("no backend", "backends"),
    ("misspelt limit", "unknown limit 'dd': did you mean 'd'?"),
    ("impossible limit", "its limits leave no accuracy case of attention.scaled_dot_product"),
    ("limit that is a string", "its limits leave no accuracy case"),
    ("impossible option limit", "its limits leave no accuracy case"),
    ("option limit without the default", "(most often: limit causal: the default): widen"),
    ("misspelt output", "'output': did you mean 'out'?"),
    ("output twice", "out"),
    ("no output", "returns"),
    ("misspelt preset", "unknown precision 'strikt32'"),
    ("misspelt field", "unknown precision field 'acumulate'"),
    ("preset of no dtype", "float31"),
    ("narrow accumulator", "every spec wants accumulators of at least float32"),
    ("precision that is a number", "precision=16"),
    ("misspelt clause", "did you mean 'attention.nan."),
    ("tiles that are numbers", "tiles"),
    ("gradients of a spec without", "matmul.naive has none to judge: leave them out"),
    ("gradients at another dtype", "but float16 is not among its dtypes: wanted True, or some"),
    ("gradients that are a number", "but 1 is not among its dtypes"),
    ("function for a program", "is a program: register a class with methods append, attend"),
    ("class for a function", "register a function"),
    ("half a program", "attend"),
    ("twice", "two implementations of attention.scaled_dot_product are called 'twice'"),
    ("bad_claims.defined_twice", "are called 'bad_claims.defined_twice'"),
]


@pytest.fixture(scope="module")
def bad_claims(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "bad_claims.py")


@pytest.fixture(scope="module")
def complaints(bad_claims: Any) -> list[str]:
    (result,) = bad_claims.problems().values()
    assert result.verdict == "invalid"
    return result.message.split("; ")


@pytest.mark.parametrize(("name", "words"), CLAIMS)
def test_an_untrue_claim_is_refused_by_name(complaints: list[str], name: str, words: str) -> None:
    (complaint,) = [c for c in complaints if c.startswith(f"{name}: ") or repr(name) in c]
    assert words in complaint
    assert "\n" not in complaint


def test_only_untrue_claims_are_refused(bad_claims: Any, complaints: list[str]) -> None:
    names = {i.name for i in bad_claims.suite.implementations}
    assert names == {"right", "twice", "bad_claims.defined_twice"}
    assert len(complaints) == len(CLAIMS)
    assert bad_claims("right").verdict == "pass"


# What stands in the file --------------------------------------------------------------------------

DECORATED = """
from kernelproof import implementation
@implementation{call}
def f(a, b):
    return a @ b
"""
UNLOADABLE = {
    "import_error.py": ("import no_such_module", "No module named 'no_such_module' (line 1)"),
    "syntax_error.py": ("x = 1\ndef f(:\n    pass", "SyntaxError: invalid syntax (line 2)"),
    "bad_indent.py": ("x = 1\n  y = 2", "IndentationError: unexpected indent (line 2)"),
    "null_bytes.py": ("x = 1\0", "null_bytes.py cannot be imported: "),
    "in_a_package.py": ("from . import helper", "(line 1): name it as the module that it is"),
    "raises.py": ("x = 1\n\nraise RuntimeError('first\\nsecond')", "RuntimeError: first (line 3)"),
    "silent.py": ("raise ValueError", "ValueError: no message (line 1)"),
    "exits.py": ("import sys\nsys.exit(0)", "exited with code 0 while it was imported"),
    "interrupts.py": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "no_spec.py": (
        DECORATED.format(call="()"),
        "missing 1 required positional argument: 'spec' (line 3)",
    ),
    "keyword.py": (
        DECORATED.format(call="('matmul.tiled', backend='cpu')"),
        "got an unexpected keyword argument 'backend' (line 3)",
    ),
    "kernels.py.txt": ("x = 1", "is no Python file: wanted a path that ends in .py"),
    "plain.py:kernal": ("NUMBER = 3", "plain has no attribute 'kernal'"),
    "plain.py:NUMBER": ("NUMBER = 3", "plain.py:NUMBER is a int: wanted a function or a class"),
    "no_such_package.kernels": ("", "cannot be imported: ModuleNotFoundError: No module named"),
}
LOAD = """
import json, sys
from kernelproof.conformance.targets import parse_target
from kernelproof.conformance.loading import TargetError, load_target
for text in sys.argv[1:]:
    try:
        load_target(parse_target(text).to_json())
        print(json.dumps("loaded"))
    except TargetError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def refusals(
    run_python: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What a worker says of targets that it cannot load; one process loads them all."""
    folder = tmp_path_factory.mktemp("unloadable")
    for name, (source, _) in UNLOADABLE.items():
        (folder / name.partition(":")[0]).write_text(source)
    texts = [f"./{name}" if ".py" in name else name for name in UNLOADABLE]
    ran = run_python("-P", "-c", LOAD, *texts, cwd=folder)
    assert ran.code == 0, ran.text
    return dict(zip(UNLOADABLE, map(json.loads, ran.out.splitlines()), strict=True))


@pytest.mark.parametrize("name", UNLOADABLE)
def test_a_target_that_cannot_be_loaded_says_why(refusals: dict[str, str], name: str) -> None:
    assert UNLOADABLE[name][1] in refusals[name]
    assert name.partition(":")[0] in refusals[name]
    assert "\n" not in refusals[name]


FILES = {
    "raises.py": ("raise RuntimeError('no luck')", "invalid", "RuntimeError: no luck (line 1)"),
    "dies.py": ("import os\nos._exit(7)", "crash", "its import ended the process with exit code 7"),
    "hangs.py": ("while True:\n    pass", "timeout", "its import gave no answer within 4 s"),
    "bare.py": (DECORATED.format(call=""), "invalid", "registers no implementation: decorate"),
    "torch.py": (HONEST.replace("NAME", "'from torch.py'"), "pass", ""),
    "first.py": ("print('o' * 5_000_000)" + HONEST.replace("NAME", "'same'"), "pass", ""),
    "second.py": (HONEST.replace("NAME", "'same'"), "invalid", "are called 'same' (in "),
}


@pytest.fixture(scope="module")
def targets(suite_of: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("targets")
    for name, (source, *_) in FILES.items():
        (folder / name).write_text(source)
    return suite_of(*(folder / name for name in FILES), import_timeout=4)


@pytest.fixture(scope="module")
def problems(targets: Any) -> Any:
    return targets.problems()


@pytest.mark.parametrize("name", FILES)
def test_each_target_of_a_run_gets_its_own_verdict(problems: Any, name: str) -> None:
    result, (_, verdict, words) = problems[name], FILES[name]
    assert (result.verdict, words in result.message) == (verdict, True), result.message
    assert bool(result.message) == bool(words)


@pytest.mark.parametrize("name", ["from torch.py", "same"])
def test_a_good_target_beside_bad_ones_still_runs(targets: Any, name: str) -> None:
    assert targets(name).verdict == "pass"


# The whole command --------------------------------------------------------------------------------


def test_a_run_with_a_bad_target_exits_1_and_still_shows_the_good_one(
    run_cli: Callable[..., Any], kernels: Path, tmp_path: Path
) -> None:
    (tmp_path / "raises.py").write_text("raise RuntimeError('no luck')")
    (tmp_path / "dies.py").write_text("import os\nos._exit(7)")
    ran = run_cli(
        *("test", "raises.py", kernels / "honest.py", "dies.py"),
        *("--tier", "smoke", "--dtype", "float32"),
        cwd=tmp_path,
    )
    assert ran.code == 1, ran.text
    assert "raises.py cannot be imported: RuntimeError: no luck (line 1)" in ran.text
    assert "dies.py: its import ended the process with exit code 7" in ran.text
    assert "conformant honest attention.scaled_dot_product" in ran.text
    assert "2 failing" in ran.text


REFUSED = {
    "a missing file": (["missing.py"], "missing.py does not exist: wanted a Python file"),
    "a folder": (["./"], "./ is a folder: wanted a Python file or a module name"),
    "a name that cannot be one": (["my kernels"], "wanted kernels.py, package.module, or either"),
    "a callable without a spec": (["plain.py:kernel"], "name one with --spec"),
    "a module's callable without a spec": (["torch:matmul"], "name one with --spec"),
    "an empty callable": (["plain.py:", "--spec", "matmul.tiled"], "plain.py:"),
    "an option that the spec has not": (
        ["plain.py:kernel", "--spec", "attention.scaled_dot_product", "--map", "casual=is_causal"],
        "'casual': did you mean 'causal'?",
    ),
    "a map without an equals sign": (
        ["plain.py:kernel", "--spec", "attention.scaled_dot_product", "--map", "causal"],
        "--map 'causal': wanted option=keyword",
    ),
    "an output that the spec has not": (
        ["plain.py:kernel", "--spec", "attention.scaled_dot_product", "--returns", "aut"],
        "'aut': did you mean 'out'?",
    ),
    "a map for a whole file": (
        ["plain.py", "--map", "causal=is_causal"],
        "--returns, --map and --gradients describe a target module:callable; plain.py is none",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_target_that_names_nothing_usable_is_refused(
    run_cli: Callable[..., Any], tmp_path: Path, what: str
) -> None:
    (tmp_path / "plain.py").write_text("NUMBER = 3\ndef kernel(q, k, v):\n    return q\n")
    words, sentence = REFUSED[what]
    ran = run_cli("test", *words, "--tier", "smoke", cwd=tmp_path)
    assert (ran.code, sentence in ran.text) == (4, True), ran.text
    assert "INTERNALERROR" not in ran.text
    assert "Traceback" not in ran.text
