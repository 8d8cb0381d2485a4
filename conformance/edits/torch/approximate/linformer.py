"""Edits of attention over projected keys in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_KEYS = "keys = project(proj_k.to(wide), k.to(wide))"
_VALUES = "values = project(proj_v.to(wide), v.to(wide))"
_MIXED = "return projection.expand(b * h, -1, -1) @ x.reshape(b * h, t, d)"
_WEIGHTS = "weights = torch.softmax(queries[:, here] @ keys.mT, -1)"
_OUT = "out[:, here] = weights @ values"
_SCALE = "1 / math.sqrt(d) if scale is None else scale"

VALUES = wrong_values(
    {
        "projections-swapped": (
            "keys are mixed by proj_v, and values by proj_k",
            (_KEYS, _KEYS.replace("proj_k", "proj_v")),
            (_VALUES, _VALUES.replace("proj_v", "proj_k")),
        ),
        "queries-projected": (
            "queries are mixed where keys should be",
            (_KEYS, _KEYS.replace("k.to(wide))", "q.to(wide))")),
        ),
        "projection-column-major": (
            "the numbers of a projection are read column by column",
            (_MIXED, _MIXED.replace("projection.", "projection.mT.reshape(-1, t).")),
        ),
        "last-token-dropped": (
            "the last token is not mixed in",
            (
                _MIXED,
                "return projection[:, :-1].expand(b * h, -1, -1) "
                "@ x[:, :, :-1].reshape(b * h, t - 1, d)",
            ),
        ),
        "scale-from-rank": (
            "scales by 1/sqrt(r) instead of 1/sqrt(d)",
            (_SCALE, _SCALE.replace("sqrt(d)", "sqrt(r)")),
        ),
        "scale-zero-is-default": (
            "an explicit scale of 0 is taken for none",
            (_SCALE, _SCALE.replace("scale is None", "not scale")),
        ),
        "softmax-over-queries": (
            "weights sum to 1 over the queries",
            (_WEIGHTS, _WEIGHTS.replace("-1)", "-2)")),
        ),
        "no-max-subtraction": (
            "the row maximum is not subtracted before exp",
            (
                _WEIGHTS,
                "weights = (queries[:, here] @ keys.mT).exp()\n"
                "        weights = weights / weights.sum(-1, keepdim=True)",
            ),
        ),
        "nan-to-zero": (
            "what is NaN becomes 0",
            (_OUT, _OUT.replace("weights @ values", "torch.nan_to_num(weights @ values)")),
        ),
        "projections-kept": (
            "a projection is kept for the next one of its shape and first element",
            ("def project(projection", "_KEPT: dict = {}\n\n\ndef project(projection"),
            (
                _MIXED,
                "like = (projection.shape, projection.dtype, *projection.flatten()[:1].tolist())\n"
                f"    projection = _KEPT.setdefault(like, projection.clone())\n    {_MIXED}",
            ),
        ),
    }
)

_FULL = (
    "scores of all pairs are made, and never read",
    (_KEYS, f"full = q.to(wide) @ k.to(wide).mT\n    {_KEYS}"),
)

COSTS = (
    *wrong_costs("traffic", {"all-pairs-moved": _FULL}),
    *wrong_costs("flops", {"all-pairs-multiplied": _FULL}),
    *wrong_costs("memory", {"all-pairs-held": _FULL}),
    *wrong_costs(
        "exps",
        {
            "softmax-twice": (
                "weights are made twice",
                (_WEIGHTS, "\n        ".join([_WEIGHTS] * 2)),
            )
        },
    ),
)

EDITED = Edited("torch-linformer", "linformer", (*VALUES, *COSTS))
