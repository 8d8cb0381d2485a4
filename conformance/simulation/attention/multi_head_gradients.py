"""The backward pass of an attention layer with every rounding in the open."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.gradients import (
    standard_gradients,
    tiled_gradients,
)
from kernelproof.conformance.simulation.attention.multi_head import as_tensor, projected_attention
from kernelproof.conformance.simulation.attention.scaled_dot_product import (
    standard_attention,
    tiled_attention,
)
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.reference.attention.multi_head import join_heads, split_heads
from kernelproof.reference.attention.multi_head_gradients import LayerGradients


def layer_gradients(
    exact: LayerGradients,
    r: Arithmetic,
    *,
    attention: Simulation = tiled_attention,
    gradients: Simulation = tiled_gradients,
) -> dict[str, Tensor]:
    """All gradients, with this attention and its backward pass between the projections."""
    layer = exact.forward
    inner, stored = projected_attention(layer, r), partial(r, "intermediates")
    w_q, w_k, w_v, w_o = map(as_tensor, layer.weights)
    x_q, x_kv, d_out = map(as_tensor, (layer.x_q, layer.x_kv, exact.d_out))

    def joined(heads: Tensor) -> Tensor:
        return stored(torch.from_numpy(join_heads(heads.numpy())))

    d_heads = split_heads(stored(r.dot("projections", d_out, w_o.mT)).numpy(), layer.q.shape[1])
    # what attention leaves is no output here
    left = r.formats.get("intermediates", r.default)
    inner_arithmetic = replace(r, formats={**r.formats, "left": left})
    inside = gradients(replace(exact.inner, forward=inner, d_out=d_heads), inner_arithmetic)
    dq, dk, dv = (joined(inside[name]) for name in ("dq", "dk", "dv"))
    heads = joined(attention(inner, r)["out"])
    through = [stored(r.dot("projections", d, w.mT)) for d, w in ((dk, w_k), (dv, w_v))]
    found = {
        "dx_q": r.dot("projections", dq, w_q.mT),
        "dx_kv": r("sums", through[0] + through[1]),
        "dw_q": _over_tokens(x_q, dq, r),
        "dw_k": _over_tokens(x_kv, dk, r),
        "dw_v": _over_tokens(x_kv, dv, r),
        "dw_o": _over_tokens(heads, d_out, r),
    }
    return {name: r("out", each) for name, each in found.items()}


def _over_tokens(rows: Tensor, gradients: Tensor, r: Arithmetic) -> Tensor:
    return r.dot("projections", rows.flatten(0, 1).mT, gradients.flatten(0, 1))


_standard = partial(layer_gradients, attention=standard_attention, gradients=standard_gradients)
FAMILY = Family(
    usual=layer_gradients,
    wide=layer_gradients,
    eager=_standard,
    others={"standard": _standard},
    size=lambda exact: exact.forward.attention.scores.size + exact.dw_q.size,
)
