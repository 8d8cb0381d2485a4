"""Edits of LSH attention in torch, operator by operator."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_OTHERS = "hidden = i == j if causal is None else i <= j"
_TURNED = "torch.cat([turned, -turned], -1).argmax(-1)"
_SCORES = "(_rows(queries, rows[..., size:]) @ seen.mT)"
_LSE = "lse = torch.logsumexp(scores, -1)"
_CODES = "    codes: list[Tensor] = []\n"
_BEHIND = (
    "    each = _rows(code, windows)\n"
    "    behind = each[..., each.shape[-1] // 2 :, None] - each[..., None, :]\n"
    "    return behind.bitwise_right_shift_(1) == 0  # 0 or 1\n"
)
_HEAD = "torch.arange(len(windows), device=windows.device)[:, None, None, None]"
_PAIR = "windows[..., windows.shape[-1] // 2 :, None], windows[..., None, :]"

VALUES = wrong_values(
    {
        "hash-of-one-round": (
            "every round has the buckets of the first",
            ("hash_tokens(queries, rotation)", "hash_tokens(queries, rotations[0].to(wide))"),
        ),
        "hash-in-bfloat16": (
            "x R is rounded to bfloat16 before argmax",
            ("turned = x @ rotation", "turned = (x @ rotation).bfloat16()"),
        ),
        "hash-without-signs": (
            "argmax is of x R alone: half of the buckets",
            (_TURNED, "turned.argmax(-1)"),
        ),
        "sort-unstable": (
            "within a bucket tokens are not sorted by position",
            (
                "order = bucket.argsort(dim=-1, stable=True)",
                "order = t - 1 - bucket.flip(-1).argsort(dim=-1, stable=True)",
            ),
        ),
        "no-look-back": (
            "a chunk sees itself alone",
            ("behind.bitwise_right_shift_(1) == 0", "behind == 0"),
        ),
        "look-back-wraps": (
            "the first chunk sees the last one",
            (
                "return pad(order, (size, -t % size), value=t).unfold",
                "filled = pad(order, (0, -t % size), value=t)\n"
                "    last = filled[..., -size:] if t > size else torch.full_like(filled, t)\n"
                "    return torch.cat([last, filled], -1).unfold",
            ),
            (
                "return behind.bitwise_right_shift_(1) == 0",
                "last = 1 - windows.shape[-2]\n"
                "    return (behind == 0) | (behind == 1) | (behind == last)",
            ),
        ),
        "bucket-ignored": (
            "a chunk attends to all that it sees, whatever their buckets",
            ("(bucket * (chunks + 1))", "(bucket * 0)"),
        ),
        "self-allowed": (
            "every token attends to itself, too",
            (_OTHERS, "hidden = (i < 0) | (j == len(queries[0])) if causal is None else i < j"),
        ),
        "self-forbidden": (
            "a token that is alone attends to nothing",
            ("alone = lse == -math.inf", "alone = lse == math.inf"),
        ),
        "causal-ignored": ("causal is ignored", (_OTHERS, "hidden = i == j")),
        "rounds-averaged": (
            "the result is the plain mean of those of the rounds",
            (
                "return (torch.exp(lse - _finite(whole)) * out).sum(0), whole",
                "return out.mean(0), whole",
            ),
        ),
        "log-n-missing": (
            "a pair counts in every round that allows it, though it should once",
            ('[] if duplicates == "counted" else codes[:-1]', "[]"),
        ),
        "log-n-subtracted": (
            "a pair counts once, though duplicates are counted",
            ('[] if duplicates == "counted" else codes[:-1]', "codes[:-1]"),
        ),
        "keys-not-normalised": (
            "keys are the tokens, not of length 1",
            ("queries / length.mul_(math.sqrt(d))", "queries / math.sqrt(d)"),
        ),
        "scale-missing": (
            "does not scale the logits",
            ("length.mul_(math.sqrt(d))", "length"),
        ),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "pairs-compared-densely": (
                "which tokens a round allows each other is found of all t x t, and gathered",
                (
                    _BEHIND,
                    "    behind = code[..., :, None] - code[..., None, :]\n"
                    "    allowed = behind.bitwise_right_shift_(1) == 0\n"
                    f"    return allowed[{_HEAD}, {_PAIR}]\n",
                ),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-dense": (
                "S is computed of all t x t tokens, and gathered",
                (
                    _SCORES,
                    f"(queries @ keys.mT)[{_HEAD}, rows[..., size:, None], rows[..., None, :]]",
                ),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_LSE, f"{_LSE}\n    scores.exp()"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "dense-mask": (
                "a mask of t x t positions is allocated for each round and never read",
                (
                    _CODES,
                    f"{_CODES}    torch.empty(rounds, b * h, t, t, dtype=torch.int64)\n",
                ),
            ),
        },
    ),
)

EDITED = Edited("torch-lsh", "lsh", (*VALUES, *COSTS))
