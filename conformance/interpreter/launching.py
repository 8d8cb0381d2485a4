"""Launches: a kernel's grid run one program instance after another, under a meter.

The language is patched once per launch; upstream patches it again at every call of a nested
function. Tensors are used where they lie: upstream copies their storages there and back.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import autotuner, interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

from kernelproof.conformance.interpreter import host, lacking, triton_compat
from kernelproof.conformance.interpreter.formats import numpy_dtype
from kernelproof.conformance.interpreter.memory import Memory, Pointer, Regions
from kernelproof.conformance.interpreter.reductions import Reduction, Scan
from kernelproof.conformance.meters.counts import Launch
from kernelproof.conformance.meters.meter import Meter

BUILDER = Memory()
_ONE_AT_A_TIME = threading.RLock()  # the builder and the language belong to the process


class Executor(interpreter.GridExecutor):  # type: ignore[misc]
    """One launch of one kernel."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run the grid. Raises what the kernel raises."""
        signature = inspect.signature(self.fn)
        given = {name: value for name, value in kwargs.items() if name in signature.parameters}
        bound = signature.bind(*args, **given)
        bound.apply_defaults()
        for hook in self.pre_run_hooks:
            hook(*args, **given)
        options = {n: v for n, v in kwargs.items() if n not in given}
        grid = self.grid(dict(bound.arguments)) if callable(self.grid) else self.grid
        x, y, z = (*(int(n) for n in grid), 1, 1)[:3]
        constants = {n: bound.arguments[n] for n in self.constexprs}
        BUILDER.counts.launches.append(
            Launch(self.fn.__name__, (x, y, z), _plain({**constants, **options}))
        )
        with _ONE_AT_A_TIME, _language(), np.errstate(all="ignore"):
            self._run(bound.arguments, (x, y, z))

    def _run(self, arguments: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        BUILDER.regions = Regions(dict(_tensors(arguments)), BUILDER.meter)
        BUILDER.set_grid_dim(*grid)
        try:
            values = {
                n: a if n in self.constexprs else interpreter._implicit_cvt(a)
                for n, a in arguments.items()
            }
            step = -1 if BUILDER.backwards else 1
            for place in product(*(range(n)[::step] for n in grid)):
                BUILDER.set_grid_idx(*place)
                self.fn(**values)
        finally:  # keep no tensor longer than the launch does
            BUILDER.regions = Regions({}, BUILDER.meter)


def _plain(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Those constants that JSON can hold."""
    bare = {n: v.value if isinstance(v, tl.constexpr) else v for n, v in constants.items()}
    return {n: v for n, v in bare.items() if isinstance(v, bool | int | float | str)}


def _tensors(arguments: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors among the arguments of a launch, those in tuples and descriptors too."""
    for name, value in arguments.items():
        if isinstance(value, tuple):
            yield from _tensors({f"{name}[{place}]": each for place, each in enumerate(value)})
        elif isinstance(value, TensorDescriptor | triton.runtime.jit.TensorWrapper):
            yield from _tensors({name: value.base})
        elif isinstance(value, torch.Tensor):
            yield name, value


@contextmanager
def _language() -> Iterator[None]:
    """``triton.language`` as interpreted functions, for the time of a launch."""
    scope = interpreter._LangPatchScope()
    try:
        for lang in (tl, tl.core):
            interpreter._patch_builtin(lang, BUILDER, scope)
            interpreter._patch_builtin(lang.tensor, BUILDER, scope)
            interpreter._patch_lang_tensor(lang.tensor, scope)
            interpreter._patch_lang_core(lang, scope)
        interpreter._patch_builtin(tl.math, BUILDER, scope)
        interpreter._patch_builtin(tl.core.tensor_descriptor_base, BUILDER, scope)
        triton_compat.patch_language(scope)
        yield
    finally:
        scope.restore()


def _call_nested(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A function called by a kernel. Raises what it raises, where upstream wraps it."""
    return function.rewrite()(*args, **kwargs)


def _as_argument(value: Any) -> Any:
    """An argument as kernels see it; a tensor as a pointer that knows its storage."""
    argument = triton_compat.as_argument(value)
    base = value.base if isinstance(value, triton.runtime.jit.TensorWrapper) else value
    if isinstance(base, torch.Tensor):
        argument.handle.dtype = Pointer(argument.handle.dtype, BUILDER.regions.of(base))
    return argument


def install() -> None:
    """Put the corrected and metered interpreter in the place of the stock one."""
    interpreter._get_np_dtype = numpy_dtype
    triton_compat.adapt(BUILDER)
    interpreter.GridExecutor = Executor
    interpreter.ReduceOps, interpreter.ScanOps = Reduction, Scan
    interpreter.InterpretedFunction.__call__ = _call_nested
    interpreter._implicit_cvt = _as_argument
    lacking.refuse_libdevice()
    host.install()
    # without a GPU there is nothing to time: the first of the configurations is taken
    autotuner.Autotuner.run = _run_chosen
    autotuner.Autotuner.do_bench = property(lambda self: lambda call, quantiles: [0.0, 0.0, 0.0])


def _run_chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Launch, of the configurations that the kernel keeps for these arguments, one that has the
    tiles which were asked for, if there is one."""
    if not BUILDER.tiles:
        return _upstream_run(self, *args, **kwargs)
    places = ((n.rpartition("."), size) for n, size in BUILDER.tiles.items())
    asked = {n: size for (kernel, _, n), size in places if kernel in ("", self.base_fn.__name__)}
    whole, self.nargs = self.configs, dict(zip(self.arg_names, args, strict=False))
    kept = self.prune_configs(kwargs) if asked else []
    self.configs = [c for c in kept if asked.items() <= c.kwargs.items()][:1] or whole
    try:
        return _upstream_run(self, *args, **kwargs)
    finally:
        self.configs = whole


_upstream_run = autotuner.Autotuner.run


@contextmanager
def metered(
    meter: Meter, *, backwards: bool = False, tiles: Mapping[str, int] | None = None
) -> Iterator[None]:
    """Count what launches do into this meter; program instances run forwards or backwards.

    tiles: sizes by constexpr; of a kernel's configurations the first that has them is taken.
    """
    BUILDER.meter, BUILDER.counts, BUILDER.backwards = meter, meter.counts, backwards
    BUILDER.tiles = tiles or {}
    try:
        yield
    finally:
        idle = Meter({})
        BUILDER.tiles = {}
        BUILDER.meter, BUILDER.counts, BUILDER.backwards = idle, idle.counts, False
        BUILDER.regions = Regions({}, idle)
