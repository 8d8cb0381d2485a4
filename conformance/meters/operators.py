"""What torch operators move and compute: each reads its inputs and writes its outputs, in full.

This is the two-level I/O model: fast memory holds one operator's work and nothing from one to the
next. Views are free. What runs inside a fused or a custom operator stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch._library import custom_ops
from torch.utils._python_dispatch import TorchDispatchMode

from kernelproof.conformance.meters.meter import Meter
from kernelproof.conformance.meters.prices import tensors_in, work_of

Key = int | str
"""Of an argument: its position, or its name where it has none."""


class OperatorMeter(TorchDispatchMode):
    """Counts every torch operator of a call; results are what they are without it."""

    supports_higher_order_operators = True

    def __init__(self, meter: Meter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.meter = meter

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let torch.compile compile: under any other mode it runs the eager function instead."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, then count it; a composite one is counted by its parts."""
        kwargs, operator = kwargs or {}, _read_schema(func)
        if operator.composite:  # only inference mode lets these through undecomposed
            with self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        if operator.python:
            with self:
                return _python_kernel(func, args, kwargs)(*args, **kwargs)
        out = func(*args, **kwargs)
        if not operator.free:
            self._count(func, operator, args, kwargs, out)
        elif operator.name == "lift_fresh" and out.untyped_storage().resizable():
            self.meter.made(out)  # a constant: what NumPy holds is lifted too, but not resizable
        return out

    def _count(self, func: Any, operator: Operator, args: Any, kwargs: Any, out: Any) -> None:
        counts, name = self.meter.counts, operator.name
        counts.operators[name] = counts.operators.get(name, 0) + 1
        if operator.opaque and name not in counts.opaque:
            counts.opaque.append(name)
        if not all(map(_is_plain, tensors_in((args, kwargs, out)))):
            self.meter.miss(f"{name} took or gave a tensor without plain memory")
            return
        if not operator.allocates:
            self._move(operator, args, kwargs, out)
        work = work_of(func, args, kwargs, out)
        if work is not None:
            counts.dots += work.dots
            counts.by_operators += work.dots
            counts.all_by_operators += work.dots + work.elementwise + work.reductions
            counts.elementwise += work.elementwise
            counts.reductions += work.reductions
            counts.exps += work.exps
        elif name not in counts.unpriced:
            counts.unpriced.append(name)

    def _move(self, operator: Operator, args: Any, kwargs: Any, out: Any) -> None:
        """Reads come first: what the operator writes is known only afterwards."""
        given: dict[Key, Any] = {**dict(enumerate(args)), **kwargs}
        read, written = _part_moved(operator.name, args, kwargs, out)
        for key in given.keys() - operator.unread:
            for tensor in tensors_in(given[key]):
                self._read(operator, tensor, read if key == 0 else None)
        for key in given.keys() & operator.written:
            for tensor in tensors_in(given[key]):
                self._write(tensor, written if key == 0 else None)
        for tensor in tensors_in(operator.fresh(out)):
            self._write(tensor, None)

    def _read(self, operator: Operator, tensor: torch.Tensor, elements: int | None) -> None:
        if not (elements := _distinct(tensor) if elements is None else elements):
            return
        if tensor.numel() > 1 and not operator.opaque and not self.meter.knows(tensor):
            self.meter.miss(
                f"{operator.name} read a tensor that no metered operator made "
                "(NumPy, another thread, or made before the call)"
            )
        if source := self.meter.input_at(tensor.data_ptr()):
            source.mark_view(tensor)  # of a row gather all rows: which it took is not looked at
        role = source.name if source else "*"
        self.meter.counts.access(role).read += elements * tensor.element_size()

    def _write(self, tensor: torch.Tensor, elements: int | None) -> None:
        elements = _distinct(tensor) if elements is None else elements
        target = self.meter.input_at(tensor.data_ptr())
        role = target.name if target else "*"
        self.meter.counts.access(role).written += elements * tensor.element_size()
        self.meter.made(tensor)


@dataclass(frozen=True)
class Operator:
    """What the schema of an overload says of its memory.

    composite: made of other operators. python: a custom operator whose kernel is a Python
    function, such as one that launches Triton kernels: what it calls is counted. free: a view, or
    a question about sizes. allocates: makes memory and leaves it unwritten. opaque: moves more
    than it shows. aliased: per result, whether it is an argument's memory.
    """

    name: str
    composite: bool = False
    python: bool = False
    free: bool = False
    allocates: bool = False
    opaque: bool = False
    unread: frozenset[Key] = frozenset()
    written: frozenset[Key] = frozenset()
    aliased: tuple[bool, ...] = (False,)

    def fresh(self, out: Any) -> list[Any]:
        """The results that are new memory."""
        results = out if len(self.aliased) > 1 else (out,)
        return [each for each, old in zip(results, self.aliased, strict=False) if not old]


@cache
def _read_schema(func: Any) -> Operator:
    if isinstance(func, torch._ops.HigherOrderOperator):
        return Operator(func.name(), opaque=True)
    schema, own = func._schema, func.namespace in ("aten", "prim", "prims")
    name = func.overloadpacket.__name__ if own else schema.name
    keyed = [(a.name if a.kwarg_only else place, a) for place, a in enumerate(schema.arguments)]
    written = {key for key, a in keyed if a.alias_info and a.alias_info.is_write}
    unread: set[Key] = {key for key, a in keyed if a.is_out}
    if own and (name in _WRITE_ONLY or name.startswith("new_") or name.endswith("_like")):
        unread.add(0)
    aliased = tuple(each.alias_info is not None for each in schema.returns)
    silent = not any("Tensor" in str(each.type) for each in schema.returns) and name not in _READERS
    view = torch.Tag.inplace_view in func.tags or (not written and (all(aliased) or silent))
    return Operator(
        name,
        composite=_is_composite(func),
        python=schema.name in custom_ops.OPDEFS,
        free=func.namespace == "profiler" or (own and (view or name in _FREE)),
        allocates=own and name.startswith(("empty", "new_empty")),
        opaque=not own or "attention" in name or "transformer" in name,
        unread=frozenset(unread),
        written=frozenset(written),
        aliased=aliased,
    )


def _python_kernel(func: Any, args: Any, kwargs: Any) -> Callable[..., Any]:
    """The function that a custom operator runs for the device of its tensors."""
    defined = custom_ops.OPDEFS[func._schema.name]
    device = next((t.device.type for t in tensors_in((args, kwargs))), "cpu")
    kernels: Any = defined._backend_fns
    kernel: Callable[..., Any] = kernels.get(device) or kernels.get(None) or defined._init_fn
    return kernel


def _is_composite(func: Any) -> bool:
    """Backward formulas that are composite and have a kernel too run as one operator."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return has(func.name(), _COMPOSITE) and not any(has(func.name(), k) for k in ("CPU", "CUDA"))


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether the elements lie where sizes and strides say."""
    ordinary = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_nested
    return ordinary and tensor.layout is torch.strided


def _distinct(tensor: torch.Tensor) -> int:
    """Elements, those that an expanded dimension repeats counted once."""
    if not tensor.numel():
        return 0
    return prod(n for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s)


def _part_moved(name: str, args: Any, kwargs: Any, out: Any) -> tuple[int | None, int | None]:
    """How many elements of its first argument an operator reads and writes; None is all."""
    if name in _GATHERS:
        return tensors_in(out)[0].numel(), None
    if name in _SCATTERS:
        touched = _SCATTERS[name](args)
        accumulates = any(each is True for each in args) or "reduce" in kwargs
        adds = accumulates or name.endswith(("add_", "reduce_"))
        return touched if adds else 0, touched
    return 0 if kwargs.get("beta") == 0 else None, None  # addmm ignores what beta = 0 scales


def _indexed(target: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> int:
    """Elements of ``target[indices]``, found without making it: others measure memory."""
    dim, taken, shapes = 0, 1, [torch.Size()]
    for index in indices:
        mask = index is not None and index.dtype is torch.bool
        span = index.dim() if index is not None and mask else 1
        if index is not None:
            taken *= prod(target.shape[dim : dim + span])
            shapes.append(torch.Size([int(index.sum())]) if mask else index.shape)
        dim += span
    rows: torch.Size = torch.broadcast_shapes(*shapes)
    return target.numel() // max(1, taken) * rows.numel()


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_FREE = ("_unsafe_view", "lift", "record_stream")
_READERS = ("_local_scalar_dense", "equal")
_RANDOM = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "geometric_")
_WRITE_ONLY = ("fill_", "zero_", "copy_", "_foreach_zero_", "_foreach_copy_", *_RANDOM)
_GATHERS = ("index", "_unsafe_index", "index_select", "gather", "embedding", "take")
_SCATTERS: dict[str, Callable[[Any], int]] = {  # in place: how many elements they touch
    **dict.fromkeys(["scatter_", "scatter_add_", "scatter_reduce_"], lambda args: args[2].numel()),
    **dict.fromkeys(["index_copy_", "index_add_", "index_reduce_"], lambda args: args[3].numel()),
    "index_put_": lambda args: _indexed(args[0], args[1]),
}
