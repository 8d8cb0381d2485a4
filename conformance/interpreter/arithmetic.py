"""The arithmetic of Triton programs: what the stock interpreter gets wrong, computed right.

Upstream holds bfloat16 and fp8 as integers and computes on their bits; here they are numbers
(:mod:`.formats`). Everything that is not overridden is upstream's own code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime.interpreter import InterpreterBuilder, InterpreterOptions, TensorHandle

from kernelproof.conformance.interpreter.formats import (
    InterpreterLacks,
    convert,
    is_float,
    numpy_dtype,
    to_bf16,
    to_tf32,
)
from kernelproof.conformance.meters.counts import Counts

Array = npt.NDArray[Any]

_ONE_FLOP = {
    *(np.add, np.subtract, np.multiply, np.divide, np.fmod, np.negative, np.floor, np.ceil),
    *(np.sqrt, np.log, np.log2, np.sin, np.cos),
    *(np.fmax, np.fmin, np.maximum, np.minimum),
}
_EXPS = {np.exp, np.exp2}
_PARTS = {
    ir.INPUT_PRECISION.TF32: (to_tf32, 1),
    ir.INPUT_PRECISION.TF32x3: (to_tf32, 2),
    ir.INPUT_PRECISION.BF16x3: (to_bf16, 2),
    ir.INPUT_PRECISION.BF16x6: (to_bf16, 3),
}
_MX_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


class Arithmetic(InterpreterBuilder):  # type: ignore[misc]  # triton has no types
    """The builder that programs run on, with arithmetic as the hardware has it; it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.options = InterpreterOptions(
            allowed_dot_input_precisions=("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")
        )
        self.counts = Counts()

    # constants

    def get_bf16(self, value: float) -> Any:
        """A constant, rounded by way of float32 as the compiler does."""
        return TensorHandle(
            convert(np.array([value], np.float32), numpy_dtype(tl.bfloat16)), tl.bfloat16
        )

    # conversions

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        """Between any two formats, to nearest even."""
        return TensorHandle(convert(src.data, numpy_dtype(dst_type)), dst_type.scalar)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        """Between floating-point formats; ``rtz`` rounds toward zero."""
        toward_zero = rounding_mode == ir.ROUNDING_MODE.RTZ
        data = convert(src.data, numpy_dtype(dst_type), toward_zero=toward_zero)
        return TensorHandle(data, dst_type.scalar)

    # operations on elements

    def binary_op(self, lhs: Any, rhs: Any, op: Any) -> Any:
        """One NumPy function of two tensors; a comparison gives booleans."""
        x, y, dtype = lhs.data, rhs.data, lhs.dtype.scalar
        if x.dtype == y.dtype == np.bool_:  # int1 wraps around, as an integer of one bit does
            return TensorHandle(
                (op(x.astype(np.int8), y.astype(np.int8)) & 1).astype(np.bool_), tl.int1
            )
        result = op(x, y)
        if result.dtype == np.bool_:
            return TensorHandle(result, tl.int1)
        if op in _ONE_FLOP and is_float(result):
            self.counts.elementwise += result.size
        if (
            not isinstance(dtype, tl.pointer_type)
            and result.dtype.itemsize > numpy_dtype(dtype).itemsize
        ):
            result = result.astype(numpy_dtype(dtype))
        return TensorHandle(result, dtype)

    def unary_op(self, arg: Any, op: Any) -> Any:
        """One NumPy function of a tensor. Exponentials are counted on their own."""
        if op in _EXPS:
            self.counts.exps += arg.data.size
        elif op in _ONE_FLOP and is_float(arg.data):
            self.counts.elementwise += arg.data.size
        return TensorHandle(op(arg.data), arg.dtype.scalar)

    def create_fneg(self, arg: Any) -> Any:
        """-x."""
        return self.unary_op(arg, np.negative)

    def create_rsqrt(self, arg: Any) -> Any:
        """1 / sqrt(x)."""
        self.counts.elementwise += arg.data.size
        return super().create_rsqrt(arg)

    def create_erf(self, arg: Any) -> Any:
        """erf(x)."""
        self.counts.elementwise += arg.data.size
        return super().create_erf(arg)

    def create_maxnumf(self, lhs: Any, rhs: Any) -> Any:
        """The larger number: a NaN gives way."""
        return self.binary_op(lhs, rhs, np.fmax)

    def create_minnumf(self, lhs: Any, rhs: Any) -> Any:
        """The smaller number: a NaN gives way."""
        return self.binary_op(lhs, rhs, np.fmin)

    def create_clampf(self, arg: Any, low: Any, high: Any, propagate_nans: Any) -> Any:
        """x between low and high."""
        if propagate_nans == ir.PROPAGATE_NAN.NONE:
            return self.binary_op(self.binary_op(arg, low, np.fmax), high, np.fmin)
        return self.binary_op(self.binary_op(arg, low, np.maximum), high, np.minimum)

    def create_select(self, condition: Any, lhs: Any, rhs: Any) -> Any:
        """Elements of one tensor or of the other."""
        return TensorHandle(np.where(condition.data, lhs.data, rhs.data), rhs.dtype.scalar)

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        """x y + z, rounded once."""
        self.counts.elementwise += 2 * z.data.size
        return TensorHandle(fused_multiply_add(x.data, y.data, z.data), z.dtype.scalar)

    # integers

    def create_umulhi(self, lhs: Any, rhs: Any) -> Any:
        """The high half of a product of unsigned numbers; 3.6 takes the sign of signed ones."""
        x, y = (TensorHandle(each.data.view(_unsigned(each)), each.dtype) for each in (lhs, rhs))
        high = super().create_umulhi(x, y).data
        return TensorHandle(high.view(lhs.data.dtype), lhs.dtype.scalar)

    def create_histogram(self, data: Any, bins: int, mask: Any) -> Any:
        """How many elements have each value; 3.6 counts one beyond the last bin into it."""
        valid = (data.data >= 0) & (data.data < bins)
        kept = data.data[valid if mask is None else valid & mask.data]
        return TensorHandle(np.bincount(kept, minlength=bins).astype(np.int32), tl.int32)

    # matrix products

    def create_dot(
        self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any
    ) -> Any:
        """a b + d, in the accumulator's format or float32, whichever is wider."""
        x, y, into = a.data, b.data, d.data.dtype
        self.counts.dots += 2 * d.data.size * x.shape[-1]
        if not is_float(x):
            return TensorHandle(np.matmul(x, y, dtype=into) + d.data, d.dtype.scalar)
        wide = np.float64 if into == np.float64 else np.float32
        x, y = x.astype(wide, copy=False), y.astype(wide, copy=False)
        total = _product(x, y, input_precision) if a.data.dtype == np.float32 else x @ y
        return TensorHandle(convert(total + d.data.astype(wide, copy=False), into), d.dtype.scalar)

    def create_dot_scaled(
        self,
        lhs: Any,
        lhs_scale: Any,
        lhs_format: Any,
        rhs: Any,
        rhs_scale: Any,
        rhs_format: Any,
        fast_math: Any,
        lhs_k_pack: Any,
        rhs_k_pack: Any,
        acc: Any,
    ) -> Any:
        """A product of block-scaled operands (OCP Microscaling): each block of k has a scale."""
        x = _scaled(lhs, lhs_scale, lhs_format, -1 if lhs_k_pack else -2, -1)
        y = _scaled(rhs, rhs_scale, rhs_format, -2 if rhs_k_pack else -1, -2)
        self.counts.dots += 2 * acc.data.size * x.shape[-1]
        return TensorHandle(x @ y + acc.data, tl.float32)

    # what the interpreter has not

    def create_extern_elementwise(self, *args: Any) -> Any:
        """Functions of libdevice."""
        raise InterpreterLacks(f"libdevice ({args[2] if len(args) > 2 else 'extern'})")

    def create_inline_asm(self, *args: Any) -> Any:
        """PTX and GCN in a kernel."""
        raise InterpreterLacks("inline assembly")


def _unsigned(handle: Any) -> Any:
    return np.dtype(f"uint{8 * handle.data.dtype.itemsize}")


def fused_multiply_add(x: Array, y: Array, z: Array) -> Array:
    """x y + z, rounded once.

    Up to float32 the product is exact in float64; the sum is rounded to odd there, so that the
    second rounding is the only one (Boldo & Melquiond 2008). float64: in long double, nearly so.
    """
    if z.dtype == np.float64:
        wide = np.longdouble
        return (x.astype(wide) * y.astype(wide) + z.astype(wide)).astype(z.dtype)
    product = x.astype(np.float64) * y.astype(np.float64)
    return convert(_odd_sum(product, z.astype(np.float64)), z.dtype)


def _odd_sum(x: Array, y: Array) -> Array:
    """x + y in float64, an inexact sum to the neighbour whose significand is odd."""
    total = x + y
    other = total - x
    error = (x - (total - other)) + (y - other)  # TwoSum (Knuth)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    fixable = (error != 0) & even & np.isfinite(total) & np.isfinite(error)
    return np.where(fixable, np.nextafter(total, toward), total)


def _product(x: Array, y: Array, precision: Any) -> Array:
    """A product of float32 operands at an input precision: ieee, or as products of their parts.

    Of operands in n parts, n (n + 1) / 2 products count; the smallest are added first, and what
    infinities make of them is dropped, as the compiler does.
    """
    if precision == ir.INPUT_PRECISION.IEEE:
        return x @ y
    narrow, count = _PARTS[precision]
    xs, ys = _parts(x, narrow, count), _parts(y, narrow, count)
    rest: Any = np.float32(0)
    for order in range(count - 1, 0, -1):
        rest = rest + sum(xs[i] @ ys[order - i] for i in range(order + 1))
    return xs[0] @ ys[0] + np.where(np.isnan(rest), np.float32(0), rest)


def _parts(x: Array, narrow: Any, count: int) -> list[Array]:
    """Numbers of a narrower format whose sum is x, nearly; the largest comes first."""
    parts = []
    for _ in range(count):
        parts.append(narrow(x))
        x = x - parts[-1]
    return parts


def _scaled(value: Any, scale: Any, element: Any, packed_axis: int, k_axis: int) -> Array:
    """An operand of dot_scaled in float32: elements times the scale of their block of k."""
    if element == ir.ScaleDotElemTypeTY.E2M1:
        numbers = np.moveaxis(
            _unpack_e2m1(np.moveaxis(value.data, packed_axis, -1)), -1, packed_axis
        )
    else:
        numbers = _as_format(value.data, element).astype(np.float32)
    if scale is None:
        return numbers
    factors = _factors(scale.data)  # those of the right operand lie as n k
    factors = np.repeat(factors, numbers.shape[k_axis] // factors.shape[-1], axis=-1)
    return numbers * (factors if k_axis == -1 else np.swapaxes(factors, -1, -2))


def _factors(scale: Array) -> Array:
    """Scales: fp8 numbers as they are (NVFP4), bytes as 2^(byte - 127), of which 255 is NaN."""
    if is_float(scale):
        return scale.astype(np.float32)
    byte = scale.view(np.uint8).astype(np.int32)
    return np.where(byte == 255, np.nan, np.ldexp(1.0, byte - 127)).astype(np.float32)


def _as_format(data: Array, element: Any) -> Array:
    """fp8 elements may come as plain bytes."""
    formats = {ir.ScaleDotElemTypeTY.E4M3: tl.float8e4nv, ir.ScaleDotElemTypeTY.E5M2: tl.float8e5}
    return data.view(numpy_dtype(formats[element])) if element in formats else data


def _unpack_e2m1(packed: Array) -> Array:
    """Two 4-bit numbers per byte along the last axis, the low half first."""
    halves = np.stack([packed & 0x0F, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    numbers: Array = np.where(halves & 8, np.float32(-1), np.float32(1)) * _MX_E2M1[halves & 7]
    return numbers
