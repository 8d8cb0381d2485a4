"""Functions of Triton that kernels call past the builder, and that the interpreter has not."""

from __future__ import annotations

import inspect
import sys
from types import FunctionType
from typing import Any


def refuse_libdevice() -> None:
    """Let the functions of libdevice say that they are lacking.

    Upstream's return None. Kernels hold on to them by their own names, so those that a kernel
    imports are changed in place.
    """
    from triton.language.extra import libdevice

    for name, function in vars(libdevice).items():
        if isinstance(function, FunctionType):
            function.__code__ = _refuse.__code__
            function.__kwdefaults__ = {"function": name}
    for backend in ("cuda", "hip"):
        module = sys.modules.get(f"triton.language.extra.{backend}.libdevice")
        for name, _ in inspect.getmembers(module, inspect.isfunction):
            setattr(module, name, _named(name))


def _named(name: str) -> Any:
    return lambda *arguments, **others: _refuse(*arguments, function=name)


def _refuse(*arguments: Any, function: str, **others: Any) -> None:
    from kernelproof.conformance.interpreter.formats import InterpreterLacks

    raise InterpreterLacks(f"libdevice ({function})")
