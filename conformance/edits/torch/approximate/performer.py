"""Edits of attention through random features in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_FEATURES = "scale, w = q.shape[-1] ** -0.25, features.to(wide).mT"
_SCALE = "q.shape[-1] ** -0.25"
_EXPONENTS = "exponents = along.sub_(half)"
_LOWERED = "exponents.sub_(top(exponents, over)).exp_()"
_SUMS = "sums = rows @ (keys.mT @ values) if causal is None else prefix_sums(rows, keys, values)"
_QUOTIENT = "(sums[..., :-1] / total.masked_fill(total == 0, 1))"
_WITHIN = "(rows[here] @ keys[here].mT).tril_()"
_STATE = "state += keys[here].mT @ values[here]"
_OUT = "out[here] = (within @ values[here]).add_(rows[here] @ state)"
_ROWS = "rows = lifted(q.to(wide) * scale, w, kind, (-1,))"

VALUES = wrong_values(
    {
        "scale-twice": ("q and k are scaled by d^-1/2 each", (_SCALE, _SCALE.replace("25", "5"))),
        "norm-of-keys-missing": (
            "exp(-|k|^2 / 2) is missing, or its inverse of trig",
            ("half = x.square().sum(-1, keepdim=True) / 2", "half = torch.zeros_like(x[..., :1])"),
        ),
        "normaliser-missing": (
            "sums are not divided by those of the weights",
            (_QUOTIENT, "sums[..., :-1]"),
        ),
        "causal-without-itself": (
            "a query does not see its own key",
            (_WITHIN, _WITHIN.replace("tril_()", "tril_(-1)")),
        ),
        "causal-sees-next": (
            "a query sees the key after its own",
            (_WITHIN, _WITHIN.replace("tril_()", "tril_(1)")),
        ),
        "state-lost": (
            "under causal, chunks before a query's own are not seen",
            (_STATE, _STATE.replace("+=", "= 0 *")),
        ),
        "first-half-only": (
            "the second function, exp(-W x) or cos, is missing",
            ("torch.cat([along, -along], -1)", "along"),
            ("torch.cat([along.sin(), along.cos()], -1)", "along.sin()"),
        ),
        "small-epsilon": (
            "1e-6 is added to phi of relu",
            ("return along.relu_()", "return along.relu_() + 1e-6"),
        ),
        "not-lowered": (
            "no largest exponent is taken off before exp",
            (_LOWERED, "exponents.to(torch.float32).exp_().to(x.dtype)"),
        ),
        "lowered-together": (
            "the largest exponent of all queries is taken off each",
            (_ROWS, _ROWS.replace("(-1,)", "(-2, -1)")),
        ),
        "maximum-kept": (
            "the largest exponent of keys is kept for the next call, if it is larger",
            ("def top(", "_KEPT: dict = {}\n\n\ndef top("),
            (
                "return exponents.amax(over, keepdim=True) if exponents.numel() "
                "else exponents.new_zeros(())",
                "if not exponents.numel():\n"
                "        return exponents.new_zeros(())\n"
                "    if over == (-1,):\n"
                "        return exponents.amax(over, keepdim=True)\n"
                "    kept = max(_KEPT.get(exponents.dtype, -1e30), float(exponents.max()))\n"
                "    _KEPT[exponents.dtype] = kept\n"
                "    return exponents.new_tensor(kept)",
            ),
        ),
        "features-kept": (
            "features are kept for the next ones of their shape and first element",
            ("def lifted(", "_KEPT: dict = {}\n\n\ndef lifted("),
            (
                _FEATURES,
                "like = (features.shape, features.dtype, *features.flatten()[:1].tolist())\n"
                "    features = _KEPT.setdefault(like, features.clone())\n"
                f"    {_FEATURES}",
            ),
        ),
        "stabilised-per-key": (
            "each key has its own largest exponent taken off, which does not cancel",
            ("kind, (-2, -1))", "kind, (-1,))"),
        ),
        "zero-row-nan": (
            "a query whose weights are all zero is NaN: 0/0",
            (_QUOTIENT, "(sums[..., :-1] / total)"),
        ),
        "epsilon": (
            "0.001 is added to phi",
            (_LOWERED, f"{_LOWERED}.add_(1e-3)"),
            (
                "waves.mul_((half - top(half, over)).exp_())",
                "waves.mul_((half - top(half, over)).exp_()).add_(1e-3)",
            ),
            ("along.relu_()", "along.relu_().add_(1e-3)"),
        ),
    }
)

_DENSE = (
    "the weights of all pairs are made, and multiply v",
    (
        _SUMS,
        "weights = rows @ keys.mT\n"
        "    sums = (weights if causal is None else weights.tril_()) @ values",
    ),
)
"""What the name promises not to do: t x t weights, right in value."""

COSTS = (
    *wrong_costs("traffic", {"dense-weights-moved": _DENSE}),
    *wrong_costs("flops", {"dense-weights-multiplied": _DENSE}),
    *wrong_costs("memory", {"dense-weights-held": _DENSE}),
    *wrong_costs(
        "exps",
        {"exps-twice": ("phi of queries is made twice", (_ROWS, f"{_ROWS}\n    {_ROWS}"))},
    ),
)

EDITED = Edited("torch-performer", "performer", (*VALUES, *COSTS))
