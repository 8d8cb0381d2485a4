"""The worker: the process that imports and runs implementations. It is not trusted.

``python -m kernelproof.conformance.worker`` is started by the judge with a socket. It loads one
target, describes what the target registered, and answers run requests until the socket closes.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import inspect
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernelproof.conformance.channel import CHANNEL_LOST, Channel, ChannelClosed
from kernelproof.impls.registration import Registration, registered_in

_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("bool", "int32", "int64", "uint8"),
    )
}


class TargetError(Exception):
    """The target cannot be loaded; the message is one sentence."""


def main() -> None:
    """Serve the judge at the other end of the socket."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, default=0, help="bytes of address space")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.memory and arguments.device == "cpu":
        resource.setrlimit(resource.RLIMIT_AS, (arguments.memory, arguments.memory))
    with Poison():  # what torch sets up at first use (an environment variable) is nobody's change
        torch.empty(1)
    channel = Channel(socket.socket(fileno=arguments.socket), arguments.folder, "worker")
    try:
        _serve(channel, torch.device(arguments.device))
    except ChannelClosed:
        os._exit(CHANNEL_LOST)


def _serve(channel: Channel, device: torch.device) -> None:
    owner = os.getpid()
    registrations: list[Registration] = []
    channel.send({"hello": owner}, {})
    while True:
        request, storages = channel.receive()
        reply: dict[str, Any]
        sent: dict[str, Any] = {}
        if request["kind"] == "load":
            try:
                registrations = load_target(request["target"])
                reply = {"implementations": [describe(r) for r in registrations], **_versions()}
            except TargetError as error:
                reply = {"error": str(error)}
        else:
            run = Run(registrations[request["implementation"]], request, device)
            try:
                reply, sent = run.answer(storages)
            except Exception as error:  # where it is called, an implementation's own are caught
                lines = [
                    f"{f.name}, line {f.lineno}" for f in traceback.extract_tb(error.__traceback__)
                ]
                reply = {"broken": f"{type(error).__name__}: {_first_line(error)} ({lines[-1]})"}
        if os.getpid() != owner:  # an implementation forked and its child came back here
            os._exit(0)
        channel.send({"number": request["number"], **reply}, sent)


def _versions() -> dict[str, Any]:
    return {
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "cuda": torch.cuda.is_available(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


# Loading a target ---------------------------------------------------------------------------


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
        raise TargetError(
            f"{text} cannot be imported: {type(error).__name__}: {_first_line(error)}{where}"
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
            rename=target["map"],
        )
    ]


def _import(target: Mapping[str, Any]) -> ModuleType:
    path = target.get("path")
    if path is None:
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


def _first_line(error: BaseException) -> str:
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
        "backends": _plain(registration.backends),
        "dtypes": _plain(registration.dtypes),
        "limits": {str(name): _limit(value) for name, value in registration.limits.items()},
        "returns": None if registration.returns is None else _plain(registration.returns),
        "precision": _plain(registration.precision),
        "tiles": _plain(registration.tiles),
        "atomics": bool(registration.atomics),
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


# Running it ---------------------------------------------------------------------------------

_EMPTY = {
    getattr(torch.ops.aten, name)
    for name in (
        "empty",
        "empty_like",
        "empty_strided",
        "empty_permuted",
        "new_empty",
        "new_empty_strided",
    )
}


class Poison(TorchDispatchMode):
    """Fresh memory is NaN (integers: their largest), so that what is never written shows."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let torch.compile compile: under any other mode it runs the eager function instead."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator; fill what an aten::empty* returns."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in _EMPTY and isinstance(result, torch.Tensor):
            _fill(result)
        return result


def _fill(tensor: torch.Tensor) -> None:
    if tensor.is_floating_point():
        tensor.fill_(float("nan"))
    elif tensor.dtype is torch.bool:
        tensor.fill_(True)
    else:
        tensor.fill_(torch.iinfo(tensor.dtype).max)


_FRESH = "integrity.fresh-outputs"


class Run:
    """One request: the steps of a case, once or twice, on fresh memory each time."""

    def __init__(
        self, registration: Registration, request: Mapping[str, Any], device: torch.device
    ) -> None:
        self._registration, self._request, self._device = registration, request, device
        self._sent: dict[str, Any] = {}
        self._problems: list[dict[str, str]] = []
        self._kept: list[tuple[str, torch.Tensor]] = []

    def answer(self, storages: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reply and its storages."""
        before = _settings()
        runs = [self._once(f"{number}", storages) for number in range(self._request["repeat"])]
        for name, tensor in self._kept:
            if not np.array_equal(self._sent[name], _bytes(tensor)):
                self._problem(_FRESH, "a later call overwrote an earlier result")
                break
        after = _settings()
        for what in sorted(before.keys() | after.keys()):
            if before.get(what) != after.get(what):
                self._problem(
                    "integrity.global-state", f"left {what} changed to {after.get(what)!r}"
                )
        _restore(before)
        return {"runs": runs, "problems": self._problems}, self._sent

    def _problem(self, clause: str, message: str) -> None:
        self._problems.append({"clause": clause, "message": message})

    def _once(self, prefix: str, storages: Mapping[str, Any]) -> list[dict[str, Any]]:
        target: Any = self._registration.target
        if (new := self._request["new"]) is not None:
            dtype = _DTYPES[self._request["dtype"]]
            target, raised = self._guard(lambda: self._registration.target(**new, dtype=dtype))
            if raised:
                return [{"raised": raised, "constructor": True}]
        steps = []
        for number, step in enumerate(self._request["steps"]):
            steps.append(self._step(f"{prefix}.{number}", target, step, storages))
            if "raised" in steps[-1] and new is None:
                break
        return steps

    def _step(
        self, prefix: str, target: Any, step: Mapping[str, Any], storages: Mapping[str, Any]
    ) -> dict[str, Any]:
        memory = Memory(storages, self._device)
        inputs = [memory.view(view) for view in step["inputs"]]
        options = self._options(memory, step["options"])
        operation = (
            target if self._request["new"] is None else getattr(target, step["operation"], None)
        )
        if operation is None:
            return {
                "raised": {
                    "type": "AttributeError",
                    "message": f"no method {step['operation']!r}",
                    "where": "",
                }
            }
        start = time.perf_counter()
        with Poison():
            result, raised = self._guard(lambda: operation(*inputs, **options))
            if self._device.type == "cuda":
                torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        for patch in undo_patches():
            self._problem("integrity.global-state", f"replaced {patch}")
        if changed := memory.changed():
            self._problem(
                "integrity.inputs-unchanged", f"{step['operation']} changed its input {changed[0]}"
            )
        if raised:
            return {"raised": raised, "seconds": seconds}
        outputs = self._outputs(prefix, result, memory)
        # whoever kept a reference to an input instead of a copy will show it
        memory.poison()
        return {**outputs, "seconds": seconds}

    def _options(self, memory: Memory, given: Mapping[str, Any]) -> dict[str, Any]:
        rename, options = self._registration.rename, {}
        for name, value in given.items():
            if f"{name}:{value}" in rename:
                options[rename[f"{name}:{value}"]] = True
            else:
                options[rename.get(name, name)] = memory.value(value)
        return options

    def _guard(self, act: Callable[[], Any]) -> tuple[Any, dict[str, str] | None]:
        """The result, or what was raised. KeyboardInterrupt and SystemExit are exceptions too."""
        try:
            return act(), None
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if f.filename != __file__] or frames
            where = f"{Path(own[0].filename).name}:{own[0].lineno}"
            return None, {
                "type": type(error).__name__,
                "message": _first_line(error),
                "where": where,
            }

    def _outputs(self, prefix: str, result: Any, memory: Memory) -> dict[str, Any]:
        if result is None:
            result = ()
        elif isinstance(result, torch.Tensor):
            result = (result,)
        elif not isinstance(result, (tuple, list)):
            kind = type(result).__name__
            return {"invalid": f"returned a {kind}: wanted a tensor or a tuple of tensors"}
        outputs: list[dict[str, Any]] = []
        names: list[str] = []
        for number, tensor in enumerate(result):
            if type(tensor) is not torch.Tensor:
                kind = type(tensor).__name__
                return {"invalid": f"output {number} is a {kind}: wanted a plain torch.Tensor"}
            name = f"{prefix}.{number}"
            try:
                self._sent[name] = _bytes(tensor)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                return {"invalid": f"output {number} has no plain memory: {_first_line(error)}"}
            if alias := memory.holds(tensor):
                self._problem(_FRESH, f"output {number} shares memory with input {alias}")
            if any(_overlap(tensor, kept) for earlier, kept in self._kept if earlier not in names):
                self._problem(_FRESH, f"output {number} shares memory with an earlier result")
            names.append(name)
            self._kept.append((name, tensor))
            outputs.append(
                {
                    "storage": name,
                    "dtype": str(tensor.dtype).removeprefix("torch."),
                    "shape": list(tensor.shape),
                    "device": tensor.device.type,
                }
            )
        return {"outputs": outputs}


def _overlap(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether two tensors have a byte in common (or lie across each other)."""
    first, second = _extent(x), _extent(y)
    return first[0] < second[1] and second[0] < first[1]


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    if not tensor.numel():
        return 0, 0
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _bytes(tensor: torch.Tensor) -> Any:
    """A copy of the elements in row-major order, as bytes."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().copy()


class Memory:
    """The inputs of one step: storages as the judge laid them out, at fresh addresses."""

    def __init__(self, storages: Mapping[str, Any], device: torch.device) -> None:
        self._storages, self._device = storages, device
        self._made: dict[str, tuple[str, torch.Tensor]] = {}

    def view(self, view: Mapping[str, Any]) -> torch.Tensor:
        """The tensor that the judge described: dtype, storage, offset, shape and strides."""
        dtype, raw = _DTYPES[view["dtype"]], self._storages[view["storage"]]
        storage = (
            torch.from_numpy(raw.copy()).view(dtype) if raw.size else torch.empty(0, dtype=dtype)
        )
        storage = storage.to(self._device)
        self._made[view["storage"]] = (view["name"], storage)
        return storage.as_strided(view["shape"], view["strides"], view["offset"])

    def value(self, value: Any) -> Any:
        """An option: plain, a tensor, or a tuple of those."""
        if isinstance(value, list):
            return tuple(self.value(each) for each in value)
        return self.view(value) if isinstance(value, dict) else value

    def changed(self) -> list[str]:
        """Names of the inputs whose storage (with what lies around the view) was written to."""
        return [
            name
            for key, (name, storage) in self._made.items()
            if not np.array_equal(_bytes(storage), self._storages[key])
        ]

    def holds(self, tensor: torch.Tensor) -> str | None:
        """The input whose memory this tensor shares."""
        start = tensor.untyped_storage().data_ptr()
        for name, storage in self._made.values():
            own = storage.untyped_storage()
            if own.nbytes() and own.data_ptr() <= start < own.data_ptr() + own.nbytes():
                return name
        return None

    def poison(self) -> None:
        """Overwrite every input."""
        for _, storage in self._made.values():
            _fill(storage)


# OpenMP leaves variables of its own behind at a first call, and so does torch.compile
_LIBRARY_VARIABLES = ("KMP_", "__KMP", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_")
_PATCHABLE = {"torch": torch, "torch.nn.functional": torch.nn.functional}
_ORIGINALS = {(place, n): v for place, m in _PATCHABLE.items() for n, v in vars(m).items()}
_TENSOR = dict(vars(torch.Tensor))


def undo_patches() -> list[str]:
    """Put back what was replaced in torch, and name it. What torch itself replaces is fine."""
    found = []
    for (place, name), value in _ORIGINALS.items():
        now = vars(_PATCHABLE[place]).get(name)
        if now is not value and not str(getattr(now, "__module__", "")).startswith("torch"):
            setattr(_PATCHABLE[place], name, value)
            found.append(f"{place}.{name}")
    for name in [n for n, v in vars(torch.Tensor).items() if _TENSOR.get(n) is not v]:
        if name in _TENSOR:
            setattr(torch.Tensor, name, _TENSOR[name])
        else:
            delattr(torch.Tensor, name)
        found.append(f"torch.Tensor.{name}")
    return found


def _settings() -> dict[str, Any]:
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's flushing of subnormals": bool(_flushes()),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's float32 matmul precision": torch.get_float32_matmul_precision(),
        "the current directory": _directory(),
        **{
            f"the environment variable {name}": value
            for name, value in os.environ.items()
            if not name.startswith(_LIBRARY_VARIABLES)
        },
    }


def _flushes() -> bool:
    """Whether subnormal numbers are flushed to zero."""
    return bool(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1 == 0)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


def _restore(before: Mapping[str, Any]) -> None:
    if _settings() == before:
        return
    torch.set_default_dtype(before["torch's default dtype"])
    torch.set_default_device(before["torch's default device"])
    torch.set_flush_denormal(before["torch's flushing of subnormals"])
    torch.set_grad_enabled(before["torch's grad mode"])
    torch.set_num_threads(before["torch's number of threads"])
    torch.use_deterministic_algorithms(before["torch's deterministic mode"])
    torch.set_float32_matmul_precision(before["torch's float32 matmul precision"])
    os.chdir(before["the current directory"])
    prefix = "the environment variable "
    for name in set(os.environ) - {what.removeprefix(prefix) for what in before}:
        del os.environ[name]
    os.environ.update(
        {w.removeprefix(prefix): v for w, v in before.items() if w.startswith(prefix)}
    )


if __name__ == "__main__":
    main()
