"""The matrix-product contract: an elementwise error bound for every classical algorithm.

|out^ - out| <= gamma_k |a| |b| in any order of summation, with or without fused multiply-add
(Higham, ASNA, eq. 3.13), so one bound serves tiled, split-k and stream-k kernels alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.matmul.tiled import Product
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]


def product_bound(exact: Product, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (m n): sums, declared casts of operands, underflow, output."""
    with np.errstate(invalid="ignore", over="ignore"):
        k = exact.a.shape[-1]
        operand = rounding.operands.unit if rounding.operands else 0.0
        relative = compose(gamma(k, rounding.accumulate), operand, operand)
        error = relative * (abs(exact.a) @ abs(exact.b)) + k * rounding.underflow
        return {"out": rounding.output_error(error, abs(exact.out))}


def product_spread(exact: Product, rounding: Rounding) -> Mapping[str, Spread]:
    """What the error of ``out`` is made of: k roundings of at most u |a| |b| in each sum (Higham &
    Mary 2019), which average out unless they truncate; declared casts of operands, which the
    elements of a row or column share."""
    with np.errstate(invalid="ignore", over="ignore"):
        k, u = exact.a.shape[-1], rounding.accumulate
        operand = rounding.operands.unit if rounding.operands else 0.0
        drift = gamma(k, u) if rounding.truncating else 0.0
        magnitude = abs(exact.a) @ abs(exact.b)
        spread = Spread(
            last=np.maximum(half_ulp(abs(exact.out), rounding.out), rounding.underflow),
            bias=compose(drift, operand, operand) * magnitude + k * rounding.underflow,
            element=0.0 if rounding.truncating else np.sqrt(k) * u * magnitude,
        )
        return {"out": spread}


PRODUCT = Accuracy(worst_case=product_bound, spread=product_spread)
"""The contract of every classical matrix product."""
