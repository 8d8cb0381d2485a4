"""Loads, stores and atomics of Triton programs: checked against the arguments, and counted."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from triton._C.libtriton import interpreter as native
from triton.runtime.interpreter import TensorHandle

from kernelproof.conformance.interpreter.arithmetic import Arithmetic
from kernelproof.conformance.interpreter.formats import (
    InterpreterLacks,
    garbage,
    is_float,
    numpy_dtype,
    raw,
    raw_dtype,
)
from kernelproof.conformance.interpreter.triton_compat import lanes_of
from kernelproof.conformance.meters.counts import Access
from kernelproof.conformance.meters.meter import Input, Meter

Array = npt.NDArray[Any]

_SECTOR_BITS = 5  # 32 bytes, the unit in which a GPU's caches fetch
_LIBRARIES = tuple(
    str(Path(path).parent) + os.sep for path in (triton.__file__, np.__file__, __file__)
)


class OutOfBounds(Exception):
    """An access outside the storages of all arguments; it was not made."""


class Region:
    """The storage of one argument of a launch, and what moves there."""

    def __init__(self, name: str, tensor: torch.Tensor, meter: Meter) -> None:
        storage = tensor.untyped_storage()
        self.name, self.tensor = name, tensor
        self.start = storage.data_ptr()
        self.end = self.start + storage.nbytes()
        self.input: Input | None = meter.input_at(self.start)
        # a temporary under the name of an input is not that input
        own = f"{name} (not the input)" if name in meter.inputs else name
        self.access: Access = meter.counts.access(self.input.name if self.input else own)
        self.known = meter.knows(tensor)
        self.written = False

    def describe(self, address: int) -> tuple[int, str]:
        """An address as an index of the argument, and what its storage holds, in its elements."""
        item = self.tensor.element_size()
        offset = int(self.tensor.storage_offset())
        index, low = (address - self.start) // item - offset, -offset
        high = low + (self.end - self.start) // item
        return index, f"holds elements {low} to {high - 1}" if low < high else "is empty"


class Regions:
    """The storages that one launch may touch, sorted by address."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], meter: Meter) -> None:
        found: dict[int, Region] = {}
        # a table of pointers may lead to inputs of the call that are no arguments of the launch
        for name, tensor in (*tensors.items(), *meter.inputs.items()):
            storage = tensor.untyped_storage()
            start = storage.data_ptr()
            if start not in found:
                found[start] = Region(name, tensor, meter)
            # NumPy lends the same memory as storages of different lengths
            found[start].end = max(found[start].end, start + storage.nbytes())
        self.all = [found[start] for start in sorted(found)]
        self._starts = [region.start for region in self.all]

    def of(self, tensor: torch.Tensor) -> Region:
        """The storage of a tensor among the arguments."""
        return self.all[bisect_right(self._starts, tensor.untyped_storage().data_ptr()) - 1]

    def split(self, addresses: Array) -> Iterator[tuple[Region | None, Array]]:
        """Addresses by the storage that starts before them."""
        places = np.searchsorted(np.array(self._starts, np.int64), addresses, side="right") - 1
        for place in np.unique(places):
            yield self.all[place] if place >= 0 else None, addresses[places == place]


class Pointer(tl.pointer_type):  # type: ignore[misc]
    """A pointer made from an argument, with offsets or without: it stays in that storage."""

    def __init__(self, plain: Any, region: Region) -> None:
        super().__init__(plain.element_ty, plain.address_space, plain.const)
        self.region = region


class Memory(Arithmetic):
    """The builder that programs run on. Nothing else is read or written than tensors of the call.

    A pointer knows its argument, so that one that runs from an argument into the next is caught;
    pointers that a program computes or loads as integers may point into any argument, and into
    any input of the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.regions = Regions({}, Meter({}))
        self.meter = Meter({})
        self.backwards = False
        self.tiles: Mapping[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        """What upstream's builder has not either, such as reductions into a descriptor."""
        if name.startswith(("create_", "get_")):
            raise InterpreterLacks(name.split("_", 1)[1])
        raise AttributeError(name)

    def create_load(self, ptr: Any, *policy: Any) -> Any:
        """A load of every lane."""
        return self._load(ptr, None, None)

    def create_store(self, ptr: Any, val: Any, *policy: Any) -> None:
        """A store of every lane."""
        self._store(ptr, val, None)

    def create_masked_load(
        self, ptrs: Any, mask: Any, other: Any, *policy: Any, **more: Any
    ) -> Any:
        """A load of the lanes that the mask names; the others hold ``other``, or garbage."""
        return self._load(ptrs, mask, other)

    def create_masked_store(
        self, ptrs: Any, value: Any, mask: Any, *policy: Any, **more: Any
    ) -> None:
        """A store of the lanes that the mask names."""
        self._store(ptrs, value, mask)

    def create_atomic_rmw(
        self, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any
    ) -> Any:
        """A read-modify-write of each lane."""
        self._count_atomic(ptr, val, mask)
        try:
            return super().create_atomic_rmw(op, ptr, val, mask, sem, scope)
        except (ValueError, RuntimeError, TypeError) as error:
            raise InterpreterLacks(f"atomic {op} of {val.dtype.scalar}: {error}") from None

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
        """A compare-and-swap of each lane."""
        self._count_atomic(ptr, val, None)
        return super().create_atomic_cas(ptr, cmp, val, sem, scope)

    def create_select(self, condition: Any, lhs: Any, rhs: Any) -> Any:
        """Elements of one tensor or of the other."""
        return _unowned(super().create_select(condition, lhs, rhs), lhs, rhs)

    def create_cat(self, lhs: Any, rhs: Any) -> Any:
        """Elements of one tensor, then of the other."""
        return _unowned(super().create_cat(lhs, rhs), lhs, rhs)

    def create_join(self, lhs: Any, rhs: Any) -> Any:
        """Pairs of elements."""
        return _unowned(super().create_join(lhs, rhs), lhs, rhs)

    def create_bitcast(self, src: Any, dst_type: Any) -> Any:
        """The same bits as another type; a pointer stays one into the same argument."""
        result = super().create_bitcast(src, dst_type)
        if isinstance(src.dtype, Pointer) and isinstance(result.dtype, tl.pointer_type):
            result.dtype = Pointer(result.dtype, src.dtype.region)
        return result

    def _load(self, ptrs: Any, mask: Any, other: Any) -> Any:
        element = ptrs.get_element_ty()
        dtype, active = numpy_dtype(element), _active(ptrs.data, mask)
        self._moved(ptrs, active, dtype.itemsize, write=False)
        rest = garbage(ptrs.data.shape, dtype) if other is None else other.data
        loaded = native.load(ptrs.data, active, raw(rest), raw_dtype(dtype))
        return TensorHandle(loaded.view(dtype), element)

    def _store(self, ptrs: Any, value: Any, mask: Any) -> None:
        active = _active(ptrs.data, mask)
        self._moved(ptrs, active, value.data.dtype.itemsize, write=True)
        native.store(ptrs.data, raw(np.ascontiguousarray(value.data)), active)

    def _count_atomic(self, ptr: Any, val: Any, mask: Any) -> None:
        if is_float(val.data) and val.data.dtype.itemsize < 4 and val.data.dtype != np.float16:
            raise InterpreterLacks(f"atomics of {val.dtype.scalar}")
        active = _active(ptr.data, mask)
        self.counts.atomics += int(np.count_nonzero(active))
        self._moved(ptr, active, val.data.dtype.itemsize, write=False)
        self._moved(ptr, active, val.data.dtype.itemsize, write=True)

    def _moved(self, ptrs: Any, active: Array, size: int, *, write: bool) -> None:
        """Check an access and count it."""
        addresses = ptrs.data if active.all() else ptrs.data[active]
        if not addresses.size:
            return
        addresses = addresses.reshape(-1).view(np.int64)
        if isinstance(ptrs.dtype, Pointer):
            self._move(ptrs.dtype.region, addresses, size, write)
            return
        for region, found in self.regions.split(addresses):
            if region is None or int(found.max()) + size > region.end:
                address = int(found.view(np.uint64).max())
                raise OutOfBounds(
                    f"{_verb(write)} address {address:#x}, "
                    f"which lies in no tensor of the launch ({self._where()})"
                )
            self._move(region, found, size, write)

    def _move(self, region: Region, addresses: Array, size: int, write: bool) -> None:
        low, last = int(addresses.min()), int(addresses.max())
        if low < region.start or last + size > region.end:
            outside = (addresses < region.start) | (addresses > region.end - size)
            index, holds = region.describe(int(addresses[outside][0]))
            raise OutOfBounds(
                f"{_verb(write)} {region.name}[{index}], but its storage {holds} ({self._where()})"
            )
        region.access.sectors += _distinct(addresses >> _SECTOR_BITS)
        self._count(region, addresses, size, write)

    def _count(self, region: Region, addresses: Array, size: int, write: bool) -> None:
        # lanes that share an address are one transfer: a row that is broadcast over a tile
        moved = _distinct(addresses // size) * size
        if write:
            region.access.written += moved
            if not region.written:
                region.written = True
                self.meter.made(region.tensor)
            return
        region.access.read += moved
        if region.input:
            region.input.mark(addresses, size)
        elif not (region.known or region.written):
            self.meter.miss(f"a kernel read {region.name}, which nothing metered has written")

    def _where(self) -> str:
        return f"{_kernel_line()}, program {self.grid_idx}"


def _verb(write: bool) -> str:
    return "stores to" if write else "loads from"


def _active(addresses: Array, mask: Any) -> Array:
    """The lanes of a mask, or all."""
    active: Array = np.ones(addresses.shape, np.bool_) if mask is None else lanes_of(mask)
    return active


def _unowned(result: Any, lhs: Any, rhs: Any) -> Any:
    """What was made of two tensors: pointers into two arguments belong to neither."""
    if isinstance(result.dtype, Pointer) and lhs.dtype is not rhs.dtype:
        result.dtype = tl.pointer_type(result.dtype.element_ty)
    return result


def _distinct(places: Array) -> int:
    """How many different numbers there are."""
    if (places[1:] > places[:-1]).all():
        return int(places.size)
    low, span = int(places.min()), int(places.max() - places.min()) + 1
    if span > 64 * places.size:  # far apart: a byte of a map for each would be slower
        return int(np.unique(places).size)
    seen = np.zeros(span, np.bool_)
    seen[places - low] = True
    return int(np.count_nonzero(seen))


def _kernel_line() -> str:
    """The line of the kernel that is being interpreted, as ``file.py, line 7``."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
