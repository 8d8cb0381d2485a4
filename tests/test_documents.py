"""What the documents say is what the code does."""

from __future__ import annotations

import doctest
import pkgutil
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import kernelproof
from kernelproof.conformance.suite import Settings, Suite
from kernelproof.conformance.verdict import Verdict

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
MODULES = [
    module.name
    for module in pkgutil.walk_packages(kernelproof.__path__, "kernelproof.")
    if not module.name.startswith(("kernelproof.impls.torch", "kernelproof.conformance.test_"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    assert doctest.testmod(import_module(name)).failed == 0


def test_the_readme_kernel_fails_exactly_where_the_readme_says(tmp_path):
    path = tmp_path / "my_kernels.py"
    path.write_text(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1])
    options = {"targets": [str(path)], "tier": "smoke", "seed": "0", "timeout": 60}
    suite = Suite(Settings.read({**options, "import_timeout": 60, "memory": 8}))
    results = [suite.check(planned) for planned in suite.plan()[0]]
    suite.close()
    failing = {r.case.partition("/")[2] for r in results if r.verdict.failing}
    assert failing == {"b1.h2.tq40.tk17.d32/causal-bottom-right/normal"}
    assert all("empty-row-nan" in r.resembles for r in results if r.verdict.failing)


@pytest.mark.parametrize("verdict", Verdict)
def test_the_readme_explains_every_verdict(verdict):
    assert re.search(rf"^\| {verdict} \|", README, re.MULTILINE)


def test_links_between_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_version_is_in_the_changelog():
    assert f"## {kernelproof.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_is_built():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    roots = ("spec", "reference", "impls", "conformance")
    found = {
        "kernelproof." + ".".join(path.parent.relative_to(ROOT).parts)
        for root in roots
        for path in (ROOT / root).rglob("__init__.py")
    }
    data = {"kernelproof.spec.captured"}  # a folder of data and a licence
    assert set(built) - data == {"kernelproof", *found}
