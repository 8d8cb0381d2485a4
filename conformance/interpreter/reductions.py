"""Reductions and scans, counted; those with a custom function run on whole slices.

Upstream calls a custom combine function once per element. It works on tensors of any shape, so
here it is called once per step along the axis, on all other elements together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import triton.language as tl
from triton.runtime import interpreter

from kernelproof.conformance.interpreter.formats import convert, is_float, is_narrow
from kernelproof.conformance.interpreter.triton_compat import MINIMA

Array = npt.NDArray[Any]


def add_in_pairs(array: Array, axis: int, keep_dims: bool) -> Array:
    """A sum as a tree of additions, each rounded to the format of its operands (16 bits and less).

    NumPy would add float16 in float32; a GPU rounds every partial sum.
    """
    parts = np.moveaxis(array, axis, 0)
    while len(parts) > 1:
        half = len(parts) // 2
        parts = np.concatenate([parts[:half] + parts[half : 2 * half], parts[2 * half :]])
    return np.moveaxis(parts, 0, axis) if keep_dims else parts[0]


def _count(array: Array, operations: int) -> None:
    """Additions or comparisons of floats; the builder of the moment counts."""
    if is_float(array):
        interpreter.interpreter_builder.counts.reductions += operations


def _combine(function: Any, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    result = function.fn(*left, *right)
    return result if isinstance(result, tuple) else (result,)


class Reduction(interpreter.ReduceOps):  # type: ignore[misc]
    """``tl.reduce`` and what is made of it."""

    def sum(self, input: Any) -> Any:
        """A sum; 16-bit and 8-bit floats are rounded after every addition."""
        data = input.handle.data
        if is_float(data) and data.dtype.itemsize < 4:
            flat, axis = (data.reshape(-1), 0) if self.axis is None else (data, self.axis)
            total = add_in_pairs(flat, axis, self.keep_dims and self.axis is not None)
            if self.axis is None and self.keep_dims:
                total = total.reshape((1,) * data.ndim)
        else:
            total = np.sum(data, axis=self.axis, keepdims=self.keep_dims)
        _count(data, data.size - np.size(total))
        return self.to_tensor(total, input.dtype)

    def min_max(self, input: Any, val_reduce_op: Any, idx_reduce_op: Any = None) -> Any:
        """A minimum or maximum: NaN gives way to numbers, and of a row of NaN stays."""
        input = input[0] if isinstance(input, tuple) else input
        data, least = input.handle.data, val_reduce_op in MINIMA
        numbers = data.astype(np.float32) if is_narrow(data) else data
        reduce = np.fmin.reduce if least else np.fmax.reduce
        if not is_float(numbers):
            reduce = np.minimum.reduce if least else np.maximum.reduce
        value = reduce(numbers, axis=self.axis, keepdims=self.keep_dims)
        _count(data, data.size - np.size(value))
        found = self.to_tensor(convert(np.asarray(value), data.dtype), input.dtype)
        if idx_reduce_op is None:
            return found
        best = reduce(numbers, axis=self.axis, keepdims=True)
        index = np.argmax(numbers == best, axis=self.axis, keepdims=self.keep_dims)  # the leftmost
        return found, self.to_tensor(index, tl.int32)

    def generic_reduce(self, input: Any) -> Any:
        """A custom function, folded from the first slice to the last."""
        flat, axis = self.unravel(input, self.axis)
        arrays = [np.moveaxis(arg.handle.data, axis, 0) for arg in flat]
        total = tuple(self._tensor(a[0], arg) for a, arg in zip(arrays, flat, strict=True))
        for place in range(1, len(arrays[0])):
            here = (self._tensor(a[place], arg) for a, arg in zip(arrays, flat, strict=True))
            total = _combine(self.combine_fn, total, tuple(here))
        results = []
        for each, arg in zip(total, flat, strict=True):
            data = each.handle.data.reshape(arrays[0].shape[1:])
            if self.keep_dims:
                whole = (1,) * input[0].handle.data.ndim
                data = data.reshape(whole) if self.axis is None else np.expand_dims(data, axis)
            results.append(self.to_tensor(data, arg.dtype))
        return results

    def _tensor(self, data: Array, like: Any) -> Any:
        return self.to_tensor(data, like.dtype)


class Scan(interpreter.ScanOps):  # type: ignore[misc]
    """``tl.associative_scan`` and what is made of it."""

    def cumsum(self, input: Any) -> Any:
        """Running sums."""
        return self._accumulate(np.add, input)

    def cumprod(self, input: Any) -> Any:
        """Running products."""
        return self._accumulate(np.multiply, input)

    def generic_scan(self, input: Any) -> Any:
        """A custom function, folded along the axis; every partial result is kept."""
        arrays = [np.moveaxis(arg.handle.data, self.axis, 0) for arg in input]
        pairs = list(zip(arrays, input, strict=True))
        last = tuple(self.to_tensor(a[0], arg.dtype) for a, arg in pairs)
        kept = [[each.handle.data.reshape(arrays[0].shape[1:]) for each in last]]
        for place in range(1, len(arrays[0])):
            here = tuple(self.to_tensor(a[place], arg.dtype) for a, arg in pairs)
            last = _combine(self.combine_fn, last, here)
            kept.append([each.handle.data.reshape(arrays[0].shape[1:]) for each in last])
        columns = (np.stack(column) for column in zip(*kept, strict=True))
        return [
            self.to_tensor(np.moveaxis(data, 0, self.axis), arg.dtype)
            for data, arg in zip(columns, input, strict=True)
        ]

    def _accumulate(self, op: Any, input: Any) -> Any:
        data = input.handle.data
        _count(data, data.size - data.size // max(data.shape[self.axis], 1))
        return [self.to_tensor(op.accumulate(data, axis=self.axis), dtype=input.dtype)]
