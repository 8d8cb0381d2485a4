"""The contract of pooled heads: a mean of g numbers is off by sums and by a division.

|out^ - out| <= gamma_(g + 1) mean |w|: g - 1 additions in any order, and a division by g, or a
multiplication by 1/g, which is rounded itself (Higham 2002, section 4.2). One head is not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.uptrain import Pooled
from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.rounding import Rounding, gamma

Array = npt.NDArray[Any]


def pooled_bound(exact: Pooled, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (e hkv*d)."""
    group = exact.grouped.shape[2]
    if group == 1:
        return {"out": np.zeros(exact.out.shape)}
    with np.errstate(invalid="ignore", over="ignore"):
        magnitude = abs(exact.grouped).sum(axis=2).reshape(exact.out.shape) / group
        error = gamma(group + 1, rounding.accumulate) * magnitude + group * rounding.underflow
        return {"out": rounding.output_error(error, abs(exact.out))}


POOLED = Accuracy(worst_case=pooled_bound)
"""The contract of the mean over groups of heads."""
