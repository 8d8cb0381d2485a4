"""Finding edited implementations: the name of each is the module that it edits, below impls."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from kernelproof.conformance import edits
from kernelproof.conformance.edits.editing import Edited


@cache
def edited_names() -> tuple[str, ...]:
    """All edited modules, below impls.

    >>> "triton.matmul.tiled" in edited_names()
    True
    """
    prefix = edits.__name__ + "."
    modules = (m.name.removeprefix(prefix) for m in walk_packages(edits.__path__, prefix))
    # backend.area.algorithm; what lies above is the machinery
    return tuple(name for name in modules if name.count(".") == 2)


def load_edited(name: str) -> Edited:
    """What is edited of that module."""
    found: Edited = import_module(f"{edits.__name__}.{name}").EDITED
    return found
