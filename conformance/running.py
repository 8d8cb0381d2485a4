"""In the worker: one call of an implementation, on fresh memory, and what it did beside."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernelproof.conformance.differentiation import NoGradient, differentiate
from kernelproof.conformance.global_state import read_settings, restore_settings, undo_patches
from kernelproof.conformance.loading import first_line
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.meters.memory import PeakMemory
from kernelproof.conformance.meters.meter import Meter
from kernelproof.conformance.meters.operators import OperatorMeter
from kernelproof.impls.registration import Registration

DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("bool", "int32", "int64", "uint8"),
    )
}


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

    supports_higher_order_operators = True  # flex_attention raises under a mode without it

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let torch.compile compile: under any other mode it runs the eager function instead."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator; fill what an aten::empty* returns."""
        result = func(*args, **(kwargs or {}))
        if getattr(func, "overloadpacket", None) in _EMPTY and isinstance(result, torch.Tensor):
            _fill(result)
        return result


def _fill(tensor: torch.Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(float("nan"))
    elif tensor.dtype is torch.bool:
        tensor.fill_(True)
    else:
        tensor.fill_(torch.iinfo(tensor.dtype).max)


_HARNESS = str(Path(__file__).parent)
"""The folder of the files whose frames say nothing of where an implementation raised."""

_FRESH = "integrity.fresh-outputs"


class NoRoom(Exception):
    """This machine, or the worker's limit, has no addresses for what a case lays far apart."""


class Run:
    """One request: the steps of a case, once or twice, on fresh memory each time."""

    def __init__(
        self, registration: Registration, request: Mapping[str, Any], backend: str
    ) -> None:
        self._registration, self._request = registration, request
        self._device = torch.device("cuda" if backend == "cuda" else "cpu")
        self._interpreted = backend == "interpret"
        self._metered = request["metered"] or self._interpreted
        self._sent: dict[str, Any] = {}
        self._problems: list[dict[str, str]] = []
        self._kept: list[tuple[str, torch.Tensor]] = []

    def answer(self, storages: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reply and its storages."""
        with self._settings_are_kept():
            runs = [self._once(number, storages) for number in range(self._request["repeat"])]
            for name, tensor in self._kept:
                if not np.array_equal(self._sent[name], _bytes(tensor)):
                    self._problem(_FRESH, "a later call overwrote an earlier result")
                    break
        return {"runs": runs, "problems": self._problems}, self._sent

    @contextmanager
    def _settings_are_kept(self) -> Iterator[None]:
        """What is done meanwhile is to leave torch, environment and directory alone."""
        before = read_settings()
        yield
        after = read_settings()
        for what in sorted(before.keys() | after.keys()):
            if before.get(what) != after.get(what):
                self._problem(
                    "integrity.global-state", f"left {what} changed to {after.get(what)!r}"
                )
        restore_settings(before)

    def _problem(self, clause: str, message: str) -> None:
        self._problems.append({"clause": clause, "message": message})

    def _once(self, run: int, storages: Mapping[str, Any]) -> list[dict[str, Any]]:
        target: Any = self._registration.target
        before = None
        if (new := self._request["new"]) is not None:
            place, before = self._place(), Meter({})
            with self._watched(before, None, run):
                target, raised = self._guard(lambda: self._registration.target(**new, **place))
            if raised:
                return [{"raised": raised, "constructor": True}]
        steps = []
        for number, step in enumerate(self._request["steps"]):
            steps.append(self._step(run, number, target, step, storages, before))
            if "raised" in steps[-1] and new is None:
                break
        return steps

    def _place(self) -> dict[str, Any]:
        """Keywords of a constructor: which dtype, and which device."""
        place: dict[str, Any] = {"dtype": DTYPES[self._request["dtype"]]}
        if self._device.type != "cpu":  # a class that runs on cpu only need not take it
            place["device"] = self._device
        return place

    def _step(
        self,
        run: int,
        number: int,
        target: Any,
        step: Mapping[str, Any],
        storages: Mapping[str, Any],
        before: Meter | None,
    ) -> dict[str, Any]:
        memory = Memory(storages, self._device)
        try:
            inputs = [memory.view(view) for view in step["inputs"]]
        except NoRoom as error:
            return {"raised": {"kind": "no room", "type": "", "message": str(error)}}
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
        meter = Meter(memory.storages() if self._metered else {}, before)
        peak = PeakMemory(self._device) if self._request["metered"] else None
        gradients = self._request["gradients"]
        act = partial(differentiate, operation, gradients) if gradients else operation
        with self._watched(meter, peak, run):
            result, raised = self._guard(lambda: act(*inputs, **options))
            if self._device.type == "cuda":
                torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        for patch in undo_patches():
            self._problem("integrity.global-state", f"replaced {patch}")
        if changed := memory.changed():
            self._problem(
                "integrity.inputs-unchanged", f"{step['operation']} changed its input {changed[0]}"
            )
        if raised and raised.get("kind") == "invalid":
            return {"invalid": raised["message"], "seconds": seconds}
        if raised:
            return {"raised": raised, "seconds": seconds}
        if gradients:
            # a gradient may be a view of the cotangent: autograd copies nothing that it need not
            result = tuple(x.clone() if memory.holds(x) else x for x in result)
        outputs = self._outputs(f"{run}.{number}", result, memory)
        if self._metered and "outputs" in outputs:
            outputs["counts"] = self._counts(meter, peak, result).to_json()
        # whoever kept a reference to an input instead of a copy will show it
        memory.poison()
        return {**outputs, "seconds": seconds}

    @contextmanager
    def _watched(self, meter: Meter, peak: PeakMemory | None, run: int) -> Iterator[None]:
        """Fresh memory is poison; Triton is interpreted under its meter, others where asked."""
        with ExitStack() as stack:
            if peak:
                stack.enter_context(peak)
            stack.enter_context(Poison())
            if self._interpreted:
                from kernelproof.conformance.interpreter.launching import metered

                # in another order a program finds what it must not depend on: another's results
                stack.enter_context(metered(meter, backwards=run > 0, tiles=self._request["tiles"]))
            if self._metered:
                stack.enter_context(OperatorMeter(meter))
            yield

    def _counts(self, meter: Meter, peak: PeakMemory | None, result: Any) -> Counts:
        outputs = [result] if isinstance(result, torch.Tensor) else list(result or ())
        for number, output in enumerate(outputs):
            if not meter.knows(output):
                meter.miss(f"nothing metered wrote output {number}: NumPy, a thread or other code")
        counts = meter.finish()
        if peak:
            own = sum(output.numel() * output.element_size() for output in outputs)
            counts.peak_memory = max(0, peak.bytes - own)
        return counts

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
            if kind := self._kind(error):
                return None, {"kind": kind, "type": "", "message": first_line(_root(error))}
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if not f.filename.startswith(_HARNESS)] or frames
            where = f"{Path(own[0].filename).name}:{own[0].lineno}"
            return None, {
                "type": type(error).__name__,
                "message": first_line(error),
                "where": where,
            }

    def _kind(self, error: BaseException) -> str | None:
        """What the harness says of a call: it has no gradient, or the interpreter names a bug."""
        if isinstance(error, NoGradient):
            return "invalid"
        if not self._interpreted:
            return None
        from kernelproof.conformance.interpreter.formats import InterpreterLacks
        from kernelproof.conformance.interpreter.memory import OutOfBounds

        root = _root(error)
        return (
            "lacking"
            if isinstance(root, InterpreterLacks)
            else "astray"
            if isinstance(root, OutOfBounds)
            else None
        )

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
                return {"invalid": f"output {number} has no plain memory: {first_line(error)}"}
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


def _root(error: BaseException) -> BaseException:
    """The first of a chain of exceptions: Triton wraps what a kernel raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


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
        self._stretches: dict[tuple[torch.dtype, int], torch.Tensor] = {}

    def view(self, view: Mapping[str, Any]) -> torch.Tensor:
        """The tensor that the judge described: dtype, storage, offset, shape and strides."""
        if view["apart"]:
            return self._view_apart(view)
        storage = self._fresh(view)
        self._made[view["storage"]] = (view["name"], storage)
        return storage.as_strided(view["shape"], view["strides"], view["offset"])

    def _fresh(self, view: Mapping[str, Any]) -> torch.Tensor:
        """The storage of a view, at an address of its own."""
        dtype, raw = DTYPES[view["dtype"]], self._storages[view["storage"]]
        if not raw.size:
            return torch.empty(0, dtype=dtype, device=self._device)
        return torch.from_numpy(raw.copy()).view(dtype).to(self._device)

    def _view_apart(self, view: Mapping[str, Any]) -> torch.Tensor:
        """The same, its parts far apart. Raises NoRoom.

        Nothing but the parts is ever touched: of the stretch in which they lie, no more than they
        becomes memory.
        """
        dtype, apart, offset = DTYPES[view["dtype"]], view["apart"], view["offset"]
        size = view["shape"][0] * apart
        if (dtype, size) not in self._stretches:
            self._stretches[dtype, size] = _stretch(size, dtype, self._device)
        stretch = self._stretches[dtype, size]
        sent = torch.from_numpy(self._storages[view["storage"]].copy()).view(dtype)
        parts = sent.view(view["shape"][0], -1)
        laid = stretch.as_strided(parts.shape, (apart, 1), offset).copy_(parts)
        self._made[view["storage"]] = (view["name"], laid)
        return stretch.as_strided(view["shape"], view["strides"], offset)

    def storages(self) -> dict[str, torch.Tensor]:
        """The storages, whole, by the role of the input that lies in each; without those whose
        parts lie far apart, of which no meter could keep a map."""
        return {name: storage for name, storage in self._made.values() if storage.is_contiguous()}

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


def _stretch(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Addresses for so many elements, which an operating system lends before there is memory."""
    try:
        return torch.empty(size, dtype=dtype, device=device)
    except RuntimeError as error:
        gigabytes = size * dtype.itemsize / 1e9
        raise NoRoom(f"no {gigabytes:.1f} GB of addresses: {first_line(error)}") from None
