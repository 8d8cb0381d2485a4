"""Finding specs: the name of a spec is its dotted path below this package."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import kernelproof.spec
from kernelproof.spec.derivative import SUFFIX, derivative
from kernelproof.spec.language import Spec
from kernelproof.spec.sheets import Sheet

_SHARED = ("captured", "contracts")
_SHEETS = "sizing"


@cache
def spec_names() -> tuple[str, ...]:
    """All specs, without importing them.

    >>> "matmul.tiled" in spec_names()
    True
    """
    areas = [a.name for a in iter_modules(kernelproof.spec.__path__) if a.ispkg]
    return tuple(
        name for area in areas if area not in (*_SHARED, _SHEETS) for name in _modules(area)
    )


@cache
def sheet_names() -> tuple[str, ...]:
    """All worksheets: formulas alone, without kernels."""
    return tuple(_modules(_SHEETS))


def _modules(area: str) -> list[str]:
    paths = [f"{path}/{area}" for path in kernelproof.spec.__path__]
    return [f"{area}.{module.name}" for module in iter_modules(paths)]


def matching_specs(patterns: Sequence[str]) -> list[str]:
    """The specs that some pattern fits. Raises LookupError, with the nearest name, for a pattern
    that fits none."""
    for pattern in patterns:
        if not fnmatch.filter(spec_names(), pattern):
            load_spec(pattern)
    return [name for name in spec_names() if matches(name, patterns)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether some pattern fits a name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def with_derivatives(names: Iterable[str]) -> list[str]:
    """The specs, each with the name of its derivative behind it if it has one."""
    return [
        each
        for name in names
        for each in (name, *[f"{name}{SUFFIX}"] * (load_spec(name).backward is not None))
    ]


@cache
def load_spec(name: str) -> Spec:
    """The spec of that name, or its derivative (``attention.flash.gradients``).

    Raises LookupError with the nearest name for an unknown one, and for a worksheet or a pattern of
    worksheets, which nothing implements.
    """
    forward = name.removesuffix(SUFFIX)
    if forward != name and forward in spec_names() and load_spec(forward).backward:
        return derivative(load_spec(forward))
    if sheets := fnmatch.filter(sheet_names(), name):
        raise LookupError(
            f"{sheets[0]} is a worksheet without implementations: kernelproof explain {sheets[0]} "
            "shows its numbers"
        )
    if name not in spec_names():
        known = (*spec_names(), *sheet_names())
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(known)}"
        raise LookupError(f"unknown spec {name!r}: {hint}")
    spec: Spec = import_module(f"kernelproof.spec.{name}").spec
    return spec


@cache
def load_sheet(name: str) -> Sheet:
    """The worksheet of that name, one of ``sheet_names()``."""
    sheet: Sheet = import_module(f"kernelproof.spec.{name}").sheet
    return sheet
