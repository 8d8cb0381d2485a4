"""The contract of attention over projected keys, exact given the projections.

Keys and values are products, in their declared format, off by E_k and E_v: a logit is off by
another |scale| |q| E_kᵀ, and out by P E_v, as in a layer of attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.linformer import ProjectedAttention
from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.computed import cast, known, output_bound, product
from kernelproof.spec.contracts.attention.bound import attended, logit_error, logit_term
from kernelproof.spec.contracts.multi_head.bound import inexact_score_error
from kernelproof.spec.contracts.softmax.bound import blocks_of
from kernelproof.spec.rounding import Rounding

Array = npt.NDArray[Any]


def linformer_bound(exact: ProjectedAttention, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (b h t dv)."""
    with np.errstate(invalid="ignore", over="ignore"):
        keys, values = (
            cast(product(known(projection), known(x), rounding), rounding.intermediates)
            for projection, x in ((exact.proj_k, exact.k), (exact.proj_v, exact.v))
        )
        attention = exact.attention
        of_scores = inexact_score_error(known(attention.q), keys)
        error = logit_error(attention, rounding, blocks_of(len(exact.proj_k)), of_scores)
        out = attended(attention, rounding, logit_term(attention, error), values.error)
        return {"out": output_bound(out, rounding)}


PROJECTED = Accuracy(worst_case=linformer_bound)
"""The contract of attention over projected keys."""
