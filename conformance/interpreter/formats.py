"""Number formats: which NumPy type holds a Triton type, and how values are rounded to it.

What the layer models, and what it does not:

- bfloat16 and fp8 are held in the types of ml_dtypes. An operation on them is computed in float32
  and rounded to nearest even, once per operation.
- A conversion to fp8 saturates: finite values and infinities beyond the range become the largest
  finite number, NaN stays NaN (``cvt.rn.satfinite`` of PTX). What torch
  gives differs by version.
- A dot accumulates in float32 (float64, int32), in the order of the CPU's BLAS. TF32 operands
  lose their low 13 bits (truncation, which is what the tensor core does to float32 registers).
- Not modelled: accumulation that truncates, flushed subnormals, the approximations of ex2 and
  division on a GPU. The bounds allow for all three.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import triton.language as tl

Array = npt.NDArray[Any]


class InterpreterLacks(Exception):
    """A feature that kernels may use on a GPU and the interpreter has not."""


_NUMPY: dict[Any, Any] = {
    tl.int1: np.bool_,
    tl.bfloat16: ml_dtypes.bfloat16,
    tl.float8e4nv: ml_dtypes.float8_e4m3fn,
    tl.float8e5: ml_dtypes.float8_e5m2,
    tl.float8e4b8: ml_dtypes.float8_e4m3fnuz,
    tl.float8e5b16: ml_dtypes.float8_e5m2fnuz,
    tl.float16: np.float16,
    tl.float32: np.float32,
    tl.float64: np.float64,
    **{
        getattr(tl, f"{s}int{n}"): getattr(np, f"{s}int{n}")
        for s in ("", "u")
        for n in (8, 16, 32, 64)
    },
}
_NARROW = {
    np.dtype(_NUMPY[t])
    for t in (tl.bfloat16, tl.float8e4nv, tl.float8e5, tl.float8e4b8, tl.float8e5b16)
}
_EIGHT_BIT = {dtype for dtype in _NARROW if dtype.itemsize == 1}
FLOATS = {*_NARROW, np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)}
_LARGEST = {dtype: float(ml_dtypes.finfo(dtype).max) for dtype in _EIGHT_BIT}
_RAW = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def numpy_dtype(dtype: Any) -> Any:
    """The NumPy dtype of the elements of a Triton type; pointers are unsigned 64-bit."""
    if isinstance(dtype, tl.block_type):
        dtype = dtype.element_ty
    if isinstance(dtype, tl.pointer_type):
        return np.dtype(np.uint64)
    if dtype not in _NUMPY:
        raise InterpreterLacks(f"the type {dtype}")
    return np.dtype(_NUMPY[dtype])


def is_float(array: Array) -> bool:
    """Whether an array holds numbers of any floating-point format."""
    return array.dtype in FLOATS


def is_narrow(array: Array) -> bool:
    """Whether an array holds numbers of a format that NumPy itself does not have."""
    return array.dtype in _NARROW


def raw(array: Array) -> Array:
    """The same bytes as unsigned integers, for code that knows no other types."""
    return array.view(_RAW[array.dtype.itemsize]) if is_narrow(array) else array


def raw_dtype(dtype: Any) -> Any:
    """The dtype that :func:`raw` gives."""
    return np.dtype(_RAW[dtype.itemsize]) if dtype in _NARROW else dtype


def garbage(shape: tuple[int, ...], dtype: Any) -> Array:
    """What a masked lane without ``other`` holds: anything on a GPU; here NaN, or the largest."""
    if dtype in FLOATS:
        return np.full(shape, np.nan, np.float32).astype(dtype)
    return np.full(shape, True if dtype == np.bool_ else np.iinfo(dtype).max, dtype)


def convert(array: Array, dtype: Any, *, toward_zero: bool = False) -> Array:
    """Round to another format: to nearest even, or toward zero; fp8 saturates."""
    if array.dtype == dtype:
        return array
    if not is_float(array) or dtype not in FLOATS:
        return _between_integers(array, dtype)
    wide = array.astype(np.float64)
    if dtype in _EIGHT_BIT:
        wide = np.clip(wide, -_LARGEST[dtype], _LARGEST[dtype])  # NaN stays NaN
    if dtype in _NARROW:
        nearest = _to_odd(wide).astype(dtype)
    else:
        nearest = array.astype(dtype)
    if not toward_zero:
        return nearest
    beyond = abs(nearest.astype(np.float64)) > abs(wide)
    inward = np.nextafter(nearest, np.zeros_like(nearest))
    return np.where(beyond, inward, nearest)


def _between_integers(array: Array, dtype: Any) -> Array:
    """Integers and booleans from and to anything, by way of float32 for narrow formats."""
    if is_narrow(array):
        array = array.astype(np.float32)
    if dtype in _NARROW:
        return convert(array.astype(np.float32), dtype)
    return array.astype(dtype)


def _to_odd(wide: Array) -> Array:
    """float64 to float32, inexact results to the neighbour with an odd significand: a second
    rounding to a format of fewer than 23 bits is then the only one."""
    near = wide.astype(np.float32)
    inexact = near.astype(np.float64) != wide
    if not inexact.any():
        return near
    down = np.where(
        abs(near.astype(np.float64)) > abs(wide), np.nextafter(near, np.float32(0)), near
    )
    odd = (down.view(np.uint32) | np.uint32(1)).view(np.float32)
    return np.where(inexact & np.isfinite(near), odd, near)


def to_tf32(array: Array) -> Array:
    """float32 numbers without their low 13 bits; NaN stays NaN."""
    kept = (array.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isnan(array), array, kept)


def to_bf16(array: Array) -> Array:
    """float32 numbers rounded to bfloat16, in float32."""
    return convert(array, numpy_dtype(tl.bfloat16)).astype(np.float32)
