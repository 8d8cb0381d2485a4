"""LSH attention, operator by operator: some chunks of a round at once, rounds one by one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernelproof.impls.registration import implementation

BLOCK = 1 << 19
"""Scores that are made at once, and stay in a cache."""

LOG2_E, LN_2 = math.log2(math.e), math.log(2)
"""Logits are in base 2: libraries' exp takes many times as long where it underflows."""


@implementation(
    "approximate.lsh",
    name="torch-lsh",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def lsh(
    qk: Tensor, v: Tensor, rotations: Tensor, *, causal: str | None = None, duplicates: str = "once"
) -> tuple[Tensor, Tensor]:
    """LSH attention of qk: b h t d over v: b h t dv with rotations: rounds d half.

    Everything is in at least float32; only out is rounded to the inputs' dtype. A pair that several
    rounds allow is taken by the first of them, unless duplicates are counted.
    """
    (b, h, t, d), (rounds, _, half), dv = qk.shape, rotations.shape, v.shape[-1]
    wide = torch.promote_types(qk.dtype, torch.float32)
    if not b * h * t:
        return torch.empty_like(v), torch.empty(b, h, t, dtype=wide, device=qk.device)
    # the tokens of all heads in one sequence, whose buckets are apart
    x, values = qk.reshape(b * h * t, d).to(wide), v.reshape(b * h * t, dv).to(wide)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    keys = x / length.mul_(math.sqrt(d) * LN_2)
    hidden = _never_seen(-(-t // half), causal, x.device)
    codes: list[Tensor] = []
    parts: list[tuple[Tensor, Tensor]] = []
    for rotation in rotations.to(wide):
        order, code = _sorted(hash_tokens(x, rotation), t, half)
        before = [] if duplicates == "counted" else codes
        parts.append(_attend(x, keys, values, order, [code, *before], hidden))
        codes.append(code)
    out, lse = _merge(*map(list, zip(*parts, strict=True)))
    alone = lse == -math.inf
    own = (x * keys).sum(-1)
    if duplicates == "counted":
        own += math.log2(rounds)
    out, lse = torch.where(alone[:, None], values, out), torch.where(alone, own, lse).mul_(LN_2)
    return out.view(b, h, t, dv).to(qk.dtype), lse.view(b, h, t)


def hash_tokens(x: Tensor, rotation: Tensor) -> Tensor:
    """argmax [x R; -x R] of x: n d and R: d half: n. It has the largest absolute value."""
    turned = x @ rotation
    _, column = turned.abs().max(-1)
    below = turned.gather(-1, column[:, None])[:, 0] < 0
    return column.add_(below, alpha=rotation.shape[-1])


def _never_seen(size: int, causal: str | None, device: torch.device) -> Tensor:
    """Which places of a window no token of its chunk attends to: size 2*size, its own at least.

    A bucket is sorted by position: what stands behind a token comes later.
    """
    places = torch.arange(2 * size, device=device)
    own = places[size:, None]
    return places == own if causal is None else places >= own


def _sorted(bucket: Tensor, t: int, half: int) -> tuple[Tensor, Tensor]:
    """Tokens by place, in whole chunks of ceil(t / half) per head, and a code of each token.

    Of tokens that a round allows each other codes are equal, or that of the query is one more: they
    are made of bucket and chunk, and differ in heads that are neighbours. A chunk in front, and
    places that fill up the last one of a head, have the token that is none, behind the last.
    """
    n, size = len(bucket), -(-t // half)
    place = torch.arange(n, device=bucket.device)
    head = place.div(t, rounding_mode="floor")
    key, order = bucket.add_(head, alpha=2 * half).to(torch.int32).sort(stable=True)
    chunk = place.sub_(head, alpha=t).floor_divide_(size)
    code = chunk.add_(key.remainder_(4 * half), alpha=-(-t // size) + 1)
    by_token = torch.full((n + 1,), -4, dtype=torch.int32, device=bucket.device)
    by_token[order] = code.to(torch.int32)
    whole = pad(order.view(-1, t), (0, -t % size), value=n)
    return pad(whole.flatten(), (size, 0), value=n), by_token


def _attend(
    x: Tensor, keys: Tensor, values: Tensor, order: Tensor, codes: list[Tensor], hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention in one round to the others that it allows and no round before does.

    x, keys: n d; values: n dv; order: tokens by place, behind a chunk of none; codes: of this round
    first. Returns out: n dv and lse: n.
    """
    (n, dv), size = values.shape, len(hidden)
    out, lse = values.new_empty(n + 1, dv), values.new_empty(n + 1)
    step = max(1, BLOCK // hidden.numel()) * size
    for start in range(0, len(order) - size, step):
        seen = order[start : start + step + size]
        rows = seen.clamp(max=n - 1)
        queries = x.index_select(0, rows[size:]).view(-1, size, x.shape[-1])
        scores = queries @ keys.index_select(0, rows).unfold(0, 2 * size, size)
        scores.masked_fill_(_hidden(codes, seen, hidden), -math.inf)
        top = _finite(scores.amax(-1, keepdim=True))
        weights = scores.sub_(top).exp2_()
        # 1 at least, where any is seen
        total = weights.sum(-1, keepdim=True)
        part = weights @ values.index_select(0, rows).unfold(0, 2 * size, size).mT
        part /= total.clamp(min=1)
        out.index_copy_(0, seen[size:], part.view(-1, dv))
        lse.index_copy_(0, seen[size:], total.log2_().add_(top).view(-1))
    return out[:-1], lse[:-1]


def _hidden(codes: list[Tensor], seen: Tensor, never: Tensor) -> Tensor:
    """What tokens do not attend to in the first of these rounds: what it does not allow, or a later
    one does."""
    own, *others = (_allowed(code.index_select(0, seen), len(never)) for code in codes)
    hidden = own.logical_not_().logical_or_(never)
    for each in others:
        hidden |= each
    return hidden


def _allowed(code: Tensor, size: int) -> Tensor:
    """Which tokens of its window each token of a chunk may attend to: chunks size 2*size."""
    behind = code[size:].view(-1, size, 1) - code.unfold(0, 2 * size, size)[:, None]
    return behind.bitwise_right_shift_(1) == 0  # 0 or 1


def _merge(outs: list[Tensor], lses: list[Tensor]) -> tuple[Tensor, Tensor]:
    """out = sum_r 2^(lse_r - lse) out_r and lse = log2 sum_r 2^lse_r, of rounds in n dv and n.

    Who is alone in all has out = 0 and lse = -inf.
    """
    rounds = torch.stack(lses)
    top = _finite(rounds.amax(0))
    shares = rounds.sub_(top).exp2_()
    total = shares.sum(0)
    shares /= total.clamp(min=1)
    out = torch.zeros_like(outs[0])
    for part, share in zip(outs, shares, strict=True):
        out.addcmul_(part, share[:, None])
    return out, total.log2_().add_(top)


def _finite(logits: Tensor) -> Tensor:
    """What to subtract from logits of that size: 0 where there are none."""
    return logits.masked_fill(logits == -math.inf, 0.0)
