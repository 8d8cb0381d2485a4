"""The gradient of self-attention without parameters.

x is query, key and value at once, so that

dx = dq + dk + dv
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kernelproof.reference.attention.gradients import Gradients, attention_gradients
from kernelproof.reference.attention.scaled_dot_product import Array, Attention


@dataclass(frozen=True)
class TokenGradients:
    """dx: b t d, and the gradients it is the sum of, with one head: b 1 t d each."""

    parts: Gradients
    dx: Array


def dot_product_gradients(
    exact: Attention, d_out: Array, inputs: Mapping[str, Array]
) -> TokenGradients:
    """The gradient with regard to the tokens x: b t d, for d_out: b t d."""
    x, scores, probs, out = (e[:, None] for e in (exact.q, exact.scores, exact.probs, exact.out))
    one_head = replace(
        exact,
        q=x,
        k=x,
        v=x,
        scores=scores,
        probs=probs,
        weights=probs,
        out=out,
        lse=exact.lse[:, None],
    )
    parts = attention_gradients(one_head, d_out[:, None], 1)
    return TokenGradients(parts, (parts.dq + parts.dk + parts.dv)[:, 0])
