"""Arithmetic in which each quantity of a computation has a number format of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kernelproof.spec.rounding import FORMATS, STORED, Format, Precision

PRODUCTS_AT_ONCE = 16
"""Products that a matrix instruction adds before it rounds."""


def round_to(x: Tensor, format: Format, *, truncating: bool = False) -> Tensor:
    """Numbers (float64) in a narrower format: to nearest even or towards zero.

    Subnormals are kept; what is too large becomes infinite (truncated: the largest number).
    """
    if format.name == "float64":
        return x
    if format.name == "float32":  # what torch does itself, it does faster
        near = x.float()
        past = near.double().abs() > x.abs() if truncating else None
        return (near if past is None else near.where(~past, _towards_zero(near))).double()
    exponent = torch.frexp(x).exponent.clamp(min=format.emin + 1)
    places = (format.significand - exponent).double()
    scaled = torch.ldexp(x, places)
    whole = scaled.trunc() if truncating else scaled.round()
    result = torch.ldexp(whole, -places)
    beyond = torch.inf if not truncating else format.largest
    large = result.abs() > format.largest
    result = torch.where(large, torch.copysign(torch.full_like(x, beyond), x), result)
    return torch.where(x.isfinite(), result, x)


def _towards_zero(x: Tensor) -> Tensor:
    return torch.nextafter(x, torch.zeros_like(x))


@dataclass(frozen=True)
class Arithmetic:
    """Formats by quantity; those that are not named have the accumulator's.

    Products are exact, and summed ``together`` at a time; with ``truncating`` the sums, and casts
    to TF32, are cut instead of rounded, as tensor cores do.
    """

    formats: Mapping[str, str]
    default: str = "float32"
    truncating: bool = False
    planted: Mapping[str, str] = field(default_factory=dict)
    together: int = PRODUCTS_AT_ONCE

    @classmethod
    def of(
        cls, precision: Precision, dtype: str, planted: Mapping[str, str] | None = None
    ) -> Arithmetic:
        """That of an implementation which rounds wherever it declares to, and where a bug does.

        What one call leaves for another is in the dtype of the inputs.
        """
        declared = {
            name: dtype if value == "input" else value
            for name in ("operands", *STORED)
            if (value := getattr(precision, name)) is not None
        }
        if "weights" in declared:  # P and dS are cast alike
            declared["score_gradients"] = declared["weights"]
        return cls(
            formats={"left": dtype, **declared, **(planted or {})},
            default="float64" if dtype == "float64" else precision.accumulate,
            truncating=precision.truncating,
            planted=planted or {},
        )

    def names(self, quantity: str) -> bool:
        """Whether a quantity has a format of its own."""
        return quantity in self.formats

    def __call__(self, quantity: str, x: Tensor) -> Tensor:
        """Round a quantity to its format."""
        format = FORMATS[self.formats.get(quantity, self.default)]
        return round_to(x, format, truncating=self.truncating and format.name == "tf32")

    def operand(self, x: Tensor) -> Tensor:
        """A factor of a product, as the matrix instruction reads it."""
        return self("operands", x) if self.names("operands") else x

    def dot(self, quantity: str, a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
        """start + a b (... m k, ... k n), the running sum rounded to the format of ``quantity``.

        A ``sum`` is no matrix product: its terms are not cast.
        """
        format = FORMATS[self.formats.get(quantity, self.default)]
        # torch.broadcast_shapes takes longer than the product of a tile
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        total = a.new_zeros(shape) if start is None else start
        a, b = (a, b) if quantity == "sum" else (self.operand(a), self.operand(b))
        if format.name == "float64":
            return total + a @ b
        cut = self.truncating and quantity not in self.planted
        for first in range(0, a.shape[-1], self.together):
            part = slice(first, first + self.together)
            total = round_to(total + a[..., part] @ b[..., part, :], format, truncating=cut)
        return total
