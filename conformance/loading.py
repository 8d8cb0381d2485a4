"""In the worker: importing a target, and telling the judge what it registers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from kernelproof.impls.registration import Registration, registered_in


class TargetError(Exception):
    """The target cannot be loaded; the message is one sentence."""


def load_target(target: Mapping[str, Any]) -> list[Registration]:
    """Import a target and return what it registers. Raises TargetError."""
    text = target["text"]
    try:
        module = _import(target)
    except TargetError:
        raise
    except SystemExit as error:
        raise TargetError(
            f"{text} exited with code {error.code!r} while it was imported: "
            "wanted a module that only defines kernels; move the rest under "
            "if __name__ == '__main__'"
        ) from None
    except BaseException as error:
        where = _where(error, target.get("path"))
        what = error.msg if isinstance(error, SyntaxError) else first_line(error)
        how = f": {_AS_MODULE}" if "no known parent package" in what else ""
        raise TargetError(
            f"{text} cannot be imported: {type(error).__name__}: {what}{where}{how}"
        ) from None
    if not target.get("callable"):
        return registered_in(module)
    found: Any = module
    for part in target["callable"].split("."):
        if not hasattr(found, part):
            raise TargetError(f"{text}: {module.__name__} has no attribute {part!r}")
        found = getattr(found, part)
    if not callable(found):
        raise TargetError(f"{text} is a {type(found).__name__}: wanted a function or a class")
    decorated = [r for r in registered_in(module) if r.target is found]
    if decorated:
        return decorated
    return [
        Registration(
            spec=target["spec"],
            name=target["callable"],
            target=found,
            dtypes=tuple(target["dtypes"]),
            returns=tuple(target["returns"]) if target["returns"] else None,
            gradients=tuple(target["dtypes"]) * target["gradients"],
            rename=target["map"],
        )
    ]


def _import(target: Mapping[str, Any]) -> ModuleType:
    path = target.get("path")
    if path is None:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(target["module"])
    folder, name = str(Path(path).parent), Path(path).stem
    if name in sys.modules:  # a kernel file called torch.py must not replace torch
        name = f"{name}_"
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{target['text']} is no Python file: wanted a path that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_opened: set[str] = set()


def watch_sources() -> None:
    """From now on, remember each Python file that is opened: one may be run without an import."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".py"):
            _opened.add(os.path.abspath(arguments[0]))

    sys.addaudithook(note)


def imported_files(folder: str) -> list[str]:
    """Files below a folder that modules of this process were read from, relative to it, and sources
    that were opened since :func:`watch_sources`.

    Those of kernelproof, which judges, are no target's.
    """
    files = _opened | {
        getattr(module, "__file__", None)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in _OURS
    }
    inside = {os.path.relpath(os.path.realpath(f), os.path.realpath(folder)) for f in files if f}
    return sorted(file for file in inside if not file.startswith(os.pardir))


_OURS = ("__main__", "kernelproof")
_AS_MODULE = "name it as the module that it is, package.module, from the folder of its package"


def first_line(error: BaseException) -> str:
    """The message of an exception, or its first line."""
    return (str(error).strip() or "no message").splitlines()[0][:300]


def _where(error: BaseException, path: str | None) -> str:
    """The last line of the target's own file in the traceback."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f" (line {lines[-1]})" if lines else ""


def describe(registration: Registration) -> dict[str, Any]:
    """What the judge needs to know, as JSON."""
    takes, takes_any = _parameters(registration.target)
    return {
        "spec": registration.spec,
        "name": registration.name,
        "kind": "class" if inspect.isclass(registration.target) else "function",
        "methods": [n for n in dir(registration.target) if not n.startswith("_")],
        "backends": _plain(registration.backends),
        "dtypes": _plain(registration.dtypes),
        "limits": {str(name): _limit(value) for name, value in registration.limits.items()},
        "returns": None if registration.returns is None else _plain(registration.returns),
        "precision": _plain(registration.precision),
        "tiles": _plain(registration.tiles),
        "atomics": bool(registration.atomics),
        "gradients": _plain(registration.gradients),
        "deviates": _plain(registration.deviates),
        "takes": takes,
        "takes_any": takes_any,
        "rename": _plain(registration.rename),
    }


def _parameters(target: Callable[..., Any]) -> tuple[list[str], bool]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # a C function: only --map can tell
        return [], False
    keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    any_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return [p.name for p in parameters if p.kind in keyword], any_keyword


def _limit(value: Any) -> Any:
    if isinstance(value, range):
        return {"start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return [_plain(value)]


def _plain(value: Any) -> Any:
    """JSON for what a registration holds; anything else by its repr, for the judge to refuse."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return repr(value)
