"""Edits of the attention layer in torch: of itself, and of the operators that it calls.

A layer that materialises everything may move and hold about twice what this one does.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values
from kernelproof.conformance.edits.torch.attention.scaled_dot_product import COSTS

_CALL = "out, _ = eager(q, k, v, mask=mask, causal=causal, scale=scale)"
_JOINED = "return x.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)"
_PRODUCT = "rows @ weight if bias is None"
_CONVERTED = "weight.to(x.dtype)"

_MASK_OF_HEADS_FIRST = f"""if mask is not None:
        b, pairs = len(x_q), (x_q.shape[1], x_kv.shape[1])
        mask = mask.expand(b, heads, *pairs).reshape(heads, b, *pairs).transpose(0, 1)
    {_CALL}"""

VALUES = wrong_values(
    {
        "heads-along-the-sequence": (
            "heads are joined without moving them behind the sequence",
            (_JOINED, "return x.clone().view(x.shape[0], x.shape[2], -1)"),
        ),
        "heads-in-another-order": (
            "heads are joined in another order",
            (_JOINED, _JOINED.replace("x.transpose", "x.roll(1, 1).transpose")),
        ),
        "mask-of-heads-first": (
            "scores are a list (heads, batch), while the mask is one of (batch, heads)",
            (_CALL, _MASK_OF_HEADS_FIRST),
        ),
        "group-modulo": (
            "query head h reads key/value head h mod hkv instead of h // g",
            (
                _CALL,
                "k, v = (x.repeat(1, heads // kv_heads, 1, 1) for x in (k, v))\n    " + _CALL,
            ),
        ),
        "scale-from-width": (
            "scales by 1/sqrt(e) instead of 1/sqrt(d)",
            (_CALL, f"scale = len(w_q) ** -0.5 if scale is None else scale\n    {_CALL}"),
        ),
        "query-bias-ignored": ("b_q is not added", ("w_q, b_q)", "w_q, None)")),
        "value-bias-ignored": ("b_v is not added", ("w_v, b_v)", "w_v, None)")),
        "output-bias-ignored": ("b_o is not added", ("w_o, b_o)", "w_o, None)")),
    }
)

OWN_COSTS = (
    *wrong_costs(
        "traffic",
        {
            "weights-copied-twice": (
                "weights are copied, and the copies are copied",
                (_CONVERTED, f"{_CONVERTED}.clone().clone()"),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "projections-twice": (
                "every projection without a bias is computed twice",
                (
                    _PRODUCT,
                    f"(rows @ weight + rows @ weight) / 2 {_PRODUCT[len('rows @ weight ') :]}",
                ),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of 6 scores is allocated and never read",
                (_CALL, f"scratch = torch.empty(6, *q.shape[:-1], k.shape[2])\n    {_CALL}"),
            ),
        },
    ),
)

EDITED = Edited(
    "torch-multi-head",
    "multi_head",
    (*VALUES, *OWN_COSTS),
    kernels="torch.attention.scaled_dot_product",
    of_kernels=tuple(edit for edit in COSTS if edit.metric == "exps"),
)
