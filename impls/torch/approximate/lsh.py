"""LSH attention, operator by operator: all chunks of a round at once, rounds one after another."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernelproof.impls.registration import implementation


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
    queries, values = qk.reshape(b * h, t, d).to(wide), v.reshape(b * h, t, dv).to(wide)
    length = torch.linalg.vector_norm(queries, dim=-1, keepdim=True)
    keys = queries / length.mul_(math.sqrt(d))
    size = -(-t // half)
    codes: list[Tensor] = []
    parts: list[tuple[Tensor, Tensor]] = []
    for rotation in rotations.to(wide):
        bucket = hash_tokens(queries, rotation)
        order = bucket.argsort(dim=-1, stable=True)
        place = order.argsort(-1)
        codes.append(_codes(bucket, place, size))
        before = [] if duplicates == "counted" else codes[:-1]
        out, lse = _attend(queries, keys, values, _windows(order, size), codes[-1], before, causal)
        parts.append((_returned(out, place), _returned(lse, place)[..., None]))
    out, lse = _merge(*(torch.stack(each) for each in zip(*parts, strict=True)))
    alone = lse == -math.inf
    own = (queries * keys).sum(-1, keepdim=True)
    if duplicates == "counted":
        own += math.log(rounds)
    out, lse = torch.where(alone, values, out), torch.where(alone, own, lse)
    return out.view(b, h, t, dv).to(qk.dtype), lse.view(b, h, t)


def hash_tokens(x: Tensor, rotation: Tensor) -> Tensor:
    """argmax [x R; -x R] of x: n t d and R: d half: n t."""
    turned = x @ rotation
    return torch.cat([turned, -turned], -1).argmax(-1)


def _codes(bucket: Tensor, place: Tensor, size: int) -> Tensor:
    """A number for bucket and chunk, n t: of tokens that a round allows each other it is equal, or
    that of the query is one more. There is one of a token that is none, behind the last."""
    chunks = -(-place.shape[-1] // size)
    code = (bucket * (chunks + 1)).add_(place // size)
    return pad(code.to(torch.int32), (0, 1), value=-4)


def _windows(order: Tensor, size: int) -> Tensor:
    """Positions of the tokens of each chunk, behind those of the one before: n chunks 2*size.

    What fills up the last chunk, and stands before the first, is the token that is none.
    """
    t = order.shape[-1]
    return pad(order, (size, -t % size), value=t).unfold(-1, 2 * size, size)


def _attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    windows: Tensor,
    code: Tensor,
    before: list[Tensor],
    causal: str | None,
) -> tuple[Tensor, Tensor]:
    """Attention in one round to the others that it allows and no round before does.

    queries, keys: n t d; values: n t dv; windows: n chunks 2*size, the tokens that a chunk sees, of
    which it is the second half. Returns out: n chunks size dv and lse: n chunks size.
    """
    size = windows.shape[-1] // 2
    i, j = windows[..., size:, None], windows[..., None, :]
    hidden = i == j if causal is None else i <= j
    hidden |= ~_allowed(code, windows)
    for each in before:
        hidden |= _allowed(each, windows)
    rows = windows.clamp(max=keys.shape[1] - 1)
    seen = _rows(keys, rows)
    scores = (_rows(queries, rows[..., size:]) @ seen.mT).masked_fill_(hidden, -math.inf)
    lse = torch.logsumexp(scores, -1)
    weights = scores.sub_(_finite(lse)[..., None]).exp_()
    return weights @ _rows(values, rows), lse


def _allowed(code: Tensor, windows: Tensor) -> Tensor:
    """Which tokens of its window each token of a chunk may attend to in the round of a code."""
    each = _rows(code, windows)
    behind = each[..., each.shape[-1] // 2 :, None] - each[..., None, :]
    return behind.bitwise_right_shift_(1) == 0  # 0 or 1


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x: n t ... by index: n chunks size."""
    return x[torch.arange(len(x), device=x.device)[:, None, None], index]


def _returned(x: Tensor, place: Tensor) -> Tensor:
    """Rows of x: n chunks size ... in the order of the tokens, whose places are place: n t."""
    return _rows(x.flatten(1, 2), place[:, None])[:, 0]


def _merge(out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """out = sum_r e^(lse_r - lse) out_r and lse = log sum_r e^lse_r.

    Of out: rounds n t dv and lse: rounds n t 1; who is alone in all has out = 0 and lse = -inf.
    """
    whole = torch.logsumexp(lse, 0)
    return (torch.exp(lse - _finite(whole)) * out).sum(0), whole


def _finite(lse: Tensor) -> Tensor:
    """What to subtract from logits of that lse: 0 where there is none."""
    return lse.masked_fill(lse == -math.inf, 0.0)
