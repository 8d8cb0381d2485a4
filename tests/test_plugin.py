"""The pytest plugin in other people's runs, and the shape of the package."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kernelproof
import kernelproof.conformance
import kernelproof.impls
import kernelproof.reference
import kernelproof.spec
from kernelproof.spec.catalogue import spec_names

Run = Callable[..., Any]
ROOT = Path(__file__).parents[1]
PLUGIN = "kernelproof.conformance.plugin"
SMALL = "float32/b1.h1.tq3.tk5.d16/default/normal"
PYTEST = ("-P", "-m", "pytest", "-p", "no:cacheprovider")

# In other people's runs ---------------------------------------------------------------------------


def test_a_run_without_the_suite_imports_neither_numpy_nor_torch_nor_the_suite(
    run_python: Run, tmp_path: Path
) -> None:
    (tmp_path / "test_unused.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        f"    assert {PLUGIN!r} in sys.modules\n"
        "    heavy = {'numpy', 'torch', 'scipy', 'psutil', 'rich', 'typer', 'safetensors'}\n"
        "    assert not heavy & set(sys.modules)\n"
        "    assert 'kernelproof.conformance.session' not in sys.modules\n"
    )
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = run_python(*PYTEST, "-p", PLUGIN, cwd=tmp_path, **alone)
    assert (ran.code, "1 passed" in ran.text) == (0, True), ran.text


def test_a_strict_run_with_warnings_as_errors_stays_clean(run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nstrict = true\nfilterwarnings = error\n")
    (tmp_path / "test_unused.py").write_text("def test_nothing():\n    assert True\n")
    ran = run_python("-W", "error", *PYTEST, cwd=tmp_path)
    assert (ran.code, "1 passed" in ran.text) == (0, True), ran.text
    assert "warnings summary" not in ran.text


def test_the_suite_runs_beside_other_tests_under_another_ini_file(
    run_python: Run, kernels: Path, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nstrict = true\nfilterwarnings = error\naddopts = -ra -v\n"
        f"kernelproof_case = {SMALL}\n"
    )
    (tmp_path / "conftest.py").write_text("import json\n")
    (tmp_path / "test_accuracy.py").write_text("def test_accuracy():\n    assert True\n")
    words = ["--pyargs", "kernelproof.conformance", "test_accuracy.py"]
    target = f"--kp-target={kernels / 'honest.py'}"
    ran = run_python("-W", "error", *PYTEST, *words, target, cwd=tmp_path)
    assert (ran.code, "3 passed" in ran.text) == (0, True), ran.text
    assert f"test_accuracy[attention.scaled_dot_product/honest/cpu/{SMALL}] PASSED" in ran.text
    assert "test_accuracy.py::test_accuracy PASSED" in ran.text
    assert "passes honest attention.scaled_dot_product" in ran.text


def test_a_failing_check_is_a_failing_test_with_its_whole_story(
    run_python: Run, kernels: Path, tmp_path: Path
) -> None:
    words = ["--pyargs", "kernelproof.conformance", f"--kp-case={SMALL}", "--kp-impl=unscaled"]
    target = f"--kp-target={kernels / 'wrong.py'}"
    ran = run_python(*PYTEST, *words, target, cwd=tmp_path)
    assert ran.code == 1
    for wanted in ("scale-missing", f"case    {SMALL}", "replay  kernelproof test"):
        assert wanted in ran.out


def test_a_mistake_in_an_option_is_a_usage_error_of_pytest(run_python: Run, tmp_path: Path) -> None:
    words = ["--pyargs", "kernelproof.conformance", "--kp-tier=smole"]
    ran = run_python(*PYTEST, *words, cwd=tmp_path)
    assert (ran.code, "--tier smole: wanted one of" in ran.text) == (4, True), ran.text


JUDGE = """
import atexit, sys
watched = ("torch", "triton", "honest", "wrong", "kernelproof.conformance.worker")
atexit.register(lambda: print("LOADED", [m for m in watched if m in sys.modules]))
from kernelproof.conformance.cli import main
main()
"""


def test_the_judge_never_imports_an_implementation_nor_torch(
    run_python: Run, kernels: Path, tmp_path: Path
) -> None:
    words = [kernels / "honest.py", kernels / "wrong.py", "--case", SMALL]
    ran = run_python("-P", "-c", JUDGE, "test", *words, cwd=tmp_path)
    assert "3 failing" in ran.text
    assert "LOADED []" in ran.out


# The shape of the package -------------------------------------------------------------------------

LAYERS = {
    "kernelproof.reference": kernelproof.reference,
    "kernelproof.spec": kernelproof.spec,
    "kernelproof.impls": kernelproof.impls,
    "kernelproof.conformance": kernelproof.conformance,
}
ALLOWED = {
    "kernelproof.reference": {"kernelproof.reference"},
    "kernelproof.spec": {"kernelproof.reference", "kernelproof.spec"},
    "kernelproof.impls": {"kernelproof.impls"},
    "kernelproof.conformance": {*LAYERS, "kernelproof"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the four layers: its dotted name and its source."""
    for layer, package in LAYERS.items():
        (folder,) = map(Path, package.__path__)
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((layer, *(p for p in parts if p != "__init__")))
            yield name, ast.parse(path.read_text(), path)


SOURCES = dict(modules())


def imports(tree: ast.Module) -> set[str]:
    """Names of all imported modules; ``from a import b`` counts as a and as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def layer_of(module: str) -> str:
    return next((layer for layer in LAYERS if f"{module}.".startswith(f"{layer}.")), "kernelproof")


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    for name, tree in SOURCES.items():
        own = {m for m in imports(tree) if m.split(".")[0] == "kernelproof"}
        layers = {layer_of(m) for m in own} - {"kernelproof"}
        assert layer_of(name) != layer or layers <= ALLOWED[layer], name


@pytest.mark.parametrize("layer", ["kernelproof.reference", "kernelproof.spec"])
def test_definitions_use_no_torch_and_no_pytest(layer: str) -> None:
    for name, tree in SOURCES.items():
        if layer_of(name) == layer:
            roots = {m.split(".")[0] for m in imports(tree)}
            assert not roots & {"torch", "triton", "pytest"}, name


def test_only_the_workers_side_of_the_suite_and_simulations_import_torch() -> None:
    suite = {n: imports(t) for n, t in SOURCES.items() if layer_of(n) == "kernelproof.conformance"}
    simulations = {name for name in suite if ".simulation" in name}
    torch = {name for name, found in suite.items() if "torch" in found}
    assert "kernelproof.conformance.worker" in torch
    for name in suite.keys() - torch - simulations:
        assert not suite[name] & (torch - simulations), name
    # a judge names the rounding bug that a failure resembles, after its verdict
    users = {name for name in suite.keys() - simulations if suite[name] & simulations}
    assert users == {"kernelproof.conformance.power", "kernelproof.conformance.diagnosis"}


def test_a_judge_has_not_loaded_torch(run_python: Any, tmp_path: Path) -> None:
    code = "import sys, kernelproof.conformance.judge; sys.exit('torch' in sys.modules)"
    assert run_python("-c", code, cwd=tmp_path).code == 0


def test_registering_needs_only_the_standard_library() -> None:
    found = {m.split(".")[0] for m in imports(SOURCES["kernelproof.impls.registration"])}
    assert found <= sys.stdlib_module_names


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_says_what_it_is_for(name: str) -> None:
    docstring = ast.get_docstring(SOURCES[name])
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_every_algorithm_has_one_stem_in_spec_reference_and_implementations() -> None:
    for stem in spec_names():
        assert f"kernelproof.reference.{stem}" in SOURCES
        made = {f"kernelproof.impls.{kind}.{stem}" for kind in ("torch", "triton")}
        assert made & set(SOURCES), stem


def test_the_public_interface_is_what_all_says() -> None:
    assert kernelproof.__all__ == ["__version__", "implementation"]
    assert all(hasattr(kernelproof, name) for name in kernelproof.__all__)


def test_packages_in_the_build_configuration_are_the_folders_on_disk() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {"kernelproof"}
    for layer in LAYERS:
        root = ROOT / layer.rpartition(".")[2]
        for path in root.rglob("__init__.py"):
            folders.add(".".join((layer, *path.parent.relative_to(root).parts)))
    data = {n for n, patterns in build["package-data"].items() if "*.py" not in patterns}
    without_code = {n for n in data if n.rpartition(".")[2] == "captured"}
    assert set(build["packages"]) == folders | without_code
    assert len(build["packages"]) == len(set(build["packages"]))


def test_data_files_in_the_build_configuration_exist() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, names in build["package-data"].items():
        parts = package.split(".")[1:]
        folder = ROOT.joinpath(*parts) if parts else ROOT / "src" / "kernelproof"
        assert all((folder / name).is_file() for name in names), package


@pytest.mark.parametrize("folder", ["spec", "reference", "impls", "conformance"])
def test_a_root_folder_imported_by_its_own_name_says_what_to_do(
    run_python: Run, folder: str
) -> None:
    ran = run_python("-c", f"import {folder}", cwd=ROOT)
    assert ran.code == 1
    assert f"this folder is the package kernelproof.{folder}, but" in ran.text
    assert "pip install" in ran.text
