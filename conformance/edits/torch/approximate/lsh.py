"""Edits of LSH attention in torch, operator by operator."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_HASHED = "hash_tokens(x, rotation)"
_SIGNED = "column.add_(below, alpha=rotation.shape[-1])"
_SORT = "key, order = bucket.add_(head, alpha=2 * half).to(torch.int32).sort(stable=True)"
_NEVER = "places == own if causal is None else places >= own"
_APART = "key.remainder_(4 * half)"
_BEFORE = '[] if duplicates == "counted" else codes'
_LENGTH = "length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)"
_TOP = "top = _finite(scores.amax(-1, keepdim=True))"
_SCALE = "length.mul_(math.sqrt(d) * LN_2)"
_CODES = "    codes: list[Tensor] = []\n"
_ALLOWED = "_allowed(code.index_select(0, seen), len(never))"
_SCORES = "queries @ keys.index_select(0, rows).unfold(0, 2 * size, size)"
_WEIGHTS = "weights = scores.sub_(top).exp2_()"

VALUES = wrong_values(
    {
        "hash-of-one-round": (
            "every round has the buckets of the first",
            (_HASHED, "hash_tokens(x, rotations[0].to(wide))"),
        ),
        "hash-in-bfloat16": (
            "x R is rounded to bfloat16 before argmax",
            ("turned = x @ rotation", "turned = (x @ rotation).bfloat16()"),
        ),
        "buckets-in-a-byte": (
            "a bucket is a number of 8 bits",
            (_HASHED, "hash_tokens(x, rotation).to(torch.int8).long()"),
        ),
        "hash-without-signs": (
            "argmax is of x R alone: half of the buckets",
            (_SIGNED, "turned.argmax(-1)"),
        ),
        "sort-unstable": (
            "within a bucket tokens are not sorted by position",
            (_SORT, _SORT.replace(".sort", ".flip(0).sort") + "\n    order = n - 1 - order"),
        ),
        "no-look-back": (
            "a chunk sees itself alone",
            ("behind.bitwise_right_shift_(1) == 0", "behind == 0"),
        ),
        "heads-together": (
            "the chunk before the first one of a head is the last one of another head",
            (_APART, "key.remainder_(2 * half)"),
        ),
        "bucket-ignored": (
            "a chunk attends to all that it sees, whatever their buckets",
            (_APART, f"{_APART}.zero_()"),
        ),
        "self-allowed": (
            "every token attends to itself, too",
            (_NEVER, "(places == own) & (own < 0) if causal is None else places > own"),
        ),
        "self-forbidden": (
            "a token that is alone attends to nothing",
            ("alone = lse == -math.inf", "alone = lse == math.inf"),
        ),
        "causal-ignored": ("causal is ignored", (_NEVER, "places == own")),
        "rounds-averaged": (
            "the result is the plain mean of those of the rounds",
            ("shares /= total.clamp(min=1)", "shares.fill_(1 / len(shares))"),
        ),
        "log-n-missing": (
            "a pair counts in every round that allows it, though it should once",
            (_BEFORE, "[]"),
        ),
        "log-n-subtracted": (
            "a pair counts once, though duplicates are counted",
            (_BEFORE, "codes"),
        ),
        "keys-not-normalised": (
            "keys are the tokens, not of length 1",
            (_SCALE, "(math.sqrt(d) * LN_2)"),
        ),
        "length-held-up": (
            "a key's length is 0.1 at least, lest it divide by zero",
            (_LENGTH, f"{_LENGTH}.clamp(min=0.1)"),
        ),
        "no-max-subtraction": (
            "the largest logit of a row is not subtracted before exp",
            (_TOP, "top = torch.zeros_like(scores[..., :1])"),
        ),
        "scale-missing": ("does not scale the logits", (_SCALE, "length.mul_(LN_2)")),
        "lse-in-log2": ("lse is a base-2 logarithm", ("lse).mul_(LN_2)", "lse)")),
    },
)

_PAIRS = "[at[size:].view(-1, size, 1), at.unfold(0, 2 * size, size)[:, None]]"
"""Of a matrix of all pairs, those of chunks with their windows."""

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "pairs-compared-densely": (
                "which tokens a round allows each other is found of all t x t, and gathered",
                (
                    f"own, *others = ({_ALLOWED} for code in codes)",
                    "size, at = len(never), seen\n"
                    "    own, *others = (\n"
                    f"        ((code[:, None] - code).bitwise_right_shift_(1) == 0){_PAIRS}\n"
                    "        for code in codes\n"
                    "    )",
                ),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "scores-dense": (
                "S is computed of all t x t tokens, and gathered",
                (f"scores = {_SCORES}", f"at = rows\n        scores = (x @ keys.mT){_PAIRS}"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "exponentials are computed twice",
                (_WEIGHTS, f"(scores - top).exp2_()\n        {_WEIGHTS}"),
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
