"""Finding specs: the name of a spec is its dotted path below this package."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import kernelproof.spec
from kernelproof.spec.language import Spec

_SHARED = ("captured", "contracts")


@cache
def spec_names() -> tuple[str, ...]:
    """All specs, without importing them.

    >>> "matmul.tiled" in spec_names()
    True
    """
    return tuple(
        f"{area.name}.{module.name}"
        for area in iter_modules(kernelproof.spec.__path__)
        if area.ispkg and area.name not in _SHARED
        for module in iter_modules([f"{p}/{area.name}" for p in kernelproof.spec.__path__])
    )


def matching_specs(patterns: Sequence[str]) -> list[str]:
    """The specs that some pattern fits. Raises LookupError, with the nearest name, for a pattern
    that fits none."""
    for pattern in patterns:
        if not fnmatch.filter(spec_names(), pattern):
            load_spec(pattern)
    return [n for n in spec_names() if any(fnmatch.fnmatchcase(n, p) for p in patterns)]


@cache
def load_spec(name: str) -> Spec:
    """The spec of that name. Raises LookupError with the nearest name for an unknown one."""
    if name not in spec_names():
        near = difflib.get_close_matches(name, spec_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(spec_names())}"
        raise LookupError(f"unknown spec {name!r}: {hint}")
    spec: Spec = import_module(f"kernelproof.spec.{name}").spec
    return spec
