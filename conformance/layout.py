"""How inputs lie in memory: from an array to a storage, an offset and strides."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from kernelproof.spec.domain import FAR, REPEATING
from kernelproof.spec.language import Tensor

Array = npt.NDArray[Any]

NUMPY_DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "bool": np.bool_,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
}


class View(NamedTuple):
    """A tensor as it travels: its storage (one-dimensional), offset, shape and strides.

    apart: elements from each part along the first axis to the next, where they lie far apart; the
    storage then holds the parts side by side.
    """

    storage: Array
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    apart: int = 0


_MIXED = ("transposed", "sliced", "columns", "offset")


def layout_of(layout: str, position: int) -> str:
    """The layout of the input at this position, where a case says ``mixed``."""
    return _MIXED[position % len(_MIXED)] if layout == "mixed" else layout


def layout_of_input(layout: str, position: int, tensor: Tensor) -> str:
    """The same of this input: only pages lie far apart, and a table of integers keeps its values,
    which mean something."""
    if layout == "far" and tensor.axes[0] != "pages":
        return "contiguous"
    if layout in REPEATING and tensor.dtype in ("int32", "int64"):
        return "contiguous"
    return layout_of(layout, position)


def lay_out(array: Array, layout: str) -> View:
    """Put an array into a storage of the given layout; all that lies around it is poison.

    Of a repeated or expanded array only the first part along that axis is kept.
    """
    if layout in ("transposed", "columns") and array.ndim > 1:
        axes = (-2, -3) if layout == "transposed" and array.ndim > 2 else (-1, -2)
        view = lay_out(np.swapaxes(array, *axes), "contiguous")
        order = list(view.strides)
        order[axes[0]], order[axes[1]] = view.strides[axes[1]], view.strides[axes[0]]
        return View(view.storage, 0, array.shape, tuple(order))
    axis = {"expanded": 0, "repeated": 1}.get(layout)
    if axis is not None and array.ndim > axis + 1 and array.shape[axis]:
        view = lay_out(array.take(0, axis), "contiguous")
        return View(view.storage, 0, array.shape, (*view.strides[:axis], 0, *view.strides[axis:]))
    if layout == "far" and array.ndim > 1 and array.shape[0] > 1:
        view = lay_out(array, "contiguous")
        apart = -(-(FAR + 1) // (array.shape[0] - 1))
        apart += -apart % 16  # as allocators align pages
        return View(view.storage, 0, array.shape, (apart, *view.strides[1:]), apart)
    if layout == "sliced":
        whole = _poison([size + 3 for size in array.shape], array.dtype)
        whole[tuple(slice(1, 1 + size) for size in array.shape)] = array
        strides = _row_major(whole.shape)
        return View(whole.reshape(-1), sum(strides), array.shape, strides)
    before = 7 if layout == "offset" else 0
    storage = _poison([before + array.size + before], array.dtype)
    storage[before : before + array.size] = array.reshape(-1)
    return View(storage, before, array.shape, _row_major(array.shape))


def read_back(view: View) -> Array:
    """The array that a view shows."""
    size = view.storage.itemsize
    strides = [stride * size for stride in view.strides]
    if view.apart:
        strides[0] = view.storage.nbytes // view.shape[0]
    return np.ndarray(
        view.shape,
        view.storage.dtype,
        buffer=view.storage,
        offset=view.offset * size,
        strides=strides,
    )


def _poison(shape: list[int], dtype: Any) -> Array:
    """The largest integer, True, or NaN."""
    kind = np.dtype(dtype).kind
    return np.full(shape, np.iinfo(dtype).max if kind in "iu" else kind == "b" or np.nan, dtype)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides[: len(shape)]))
