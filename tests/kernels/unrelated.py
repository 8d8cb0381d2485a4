"""Wrong kernels, each of which breaks one property: it is named after it, with underscores."""

from __future__ import annotations

import math

import torch

from kernelproof import implementation

SPEC = "attention.scaled_dot_product"


def scores_of(q, k, *, mask=None, causal=None, scale=None):
    scores = (q @ k.mT).double() * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal is not None:
        offset = k.shape[-2] - q.shape[-2] if causal == "bottom-right" else 0
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=bool).tril(offset), -math.inf)
    return scores if mask is None else scores.masked_fill(~mask, -math.inf)


def attend(scores, v):
    lse = scores.logsumexp(-1)
    weights = (scores - lse.nan_to_num(neginf=0.0)[..., None]).exp()
    return (weights @ v.double()).to(v.dtype), lse.float()


def right(q, k, v, **options):
    return attend(scores_of(q.double(), k.double(), **options), v)


def unrelated(function, **claims):
    """Register under the function's own name, with all options but dropout."""

    def call(q, k, v, *, mask=None, causal=None, scale=None):
        return function(q, k, v, mask=mask, causal=causal, scale=scale)

    return implementation(SPEC, name=function.__name__, **claims)(call)


@unrelated
def keeps_all(q, k, v, **options):
    return right(q, k, v, **options)


@unrelated
def keys_permuted(q, k, v, **options):
    """The first key weighs a thousandth more."""
    scores = scores_of(q, k, **options)
    scores[..., 0] += 1e-3
    return attend(scores, v)


@unrelated
def batch_permuted(q, k, v, **options):
    return right(q, k * torch.linspace(1, 1.001, len(k))[:, None, None, None], v, **options)


@unrelated
def heads_permuted(q, k, v, **options):
    return right(q, k * torch.linspace(1, 1.001, k.shape[1])[:, None, None], v, **options)


@unrelated
def logits_shifted(q, k, v, **options):
    """Logits are cut off at 20, where exp would grow large without a running max."""
    return attend(scores_of(q, k, **options).clamp(max=20), v)


@unrelated
def values_doubled(q, k, v, **options):
    out, lse = right(q, k, v, **options)
    return out + 1e-3 * out**2, lse


@unrelated
def values_split(q, k, v, **options):
    """Homogeneous, so that doubling shows nothing, and not linear."""
    out, lse = right(q, k, v, **options)
    return out + 1e-3 * out.relu(), lse


@unrelated
def unit_values(q, k, v, **options):
    """A small number in the denominator, against division by zero."""
    out, lse = right(q, k, v, **options)
    return out / (1 + 1e-2 * (-lse).exp())[..., None], lse


@unrelated
def future_changed(q, k, v, **options):
    """Every key leaks into every row that is not empty, with a weight of one in ten millions."""
    out, lse = right(q, k, v, **options)
    return out + 1e-7 * v.mean(-2, keepdim=True) * lse.isfinite()[..., None], lse


@unrelated
def keys_split(q, k, v, **options):
    out, lse = right(q, k, v, **options)
    return out, lse / math.log(2)


@unrelated
def zero_queries(q, k, v, **options):
    """Rows without any large logit lose their last key."""
    scores = scores_of(q, k, **options)
    small = scores.nan_to_num(neginf=0.0).abs().amax(-1) < 1e-3
    scores[..., -1] = scores[..., -1].masked_fill(small, -math.inf)
    return attend(scores, v)


@unrelated
def one_hot(q, k, v, **options):
    """A thousandth of every weight goes to all keys alike: rows still sum to 1."""
    out, lse = right(q, k, v, **options)
    return 0.999 * out + 0.001 * v.mean(-2, keepdim=True), lse


@unrelated
def decode_as_prefill(q, k, v, **options):
    """The path for one query forgets to scale anew."""
    return right(q * (1.001 if q.shape[-2] == 1 else 1), k, v, **options)


@unrelated
def ulp_moved(q, k, v, **options):
    """The last bit of a query decides."""
    out, lse = right(q, k, v, **options)
    return out * (1 + 1e-3 * (q[..., :1].contiguous().view(torch.int32) & 1)), lse


# What goes wrong in one call of several ------------------------------------------------------


calls = []


def every_second(function):
    """Right at first, and then not: the worker makes the calls of one case in order."""

    def call(q, k, v, *, mask=None, causal=None, scale=None):
        calls.append(function)
        found = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return found if calls.count(function) % 2 else function(*found)

    return implementation(SPEC, name=function.__name__)(call)


@every_second
def raises_later(out, lse):
    raise ValueError("no luck")


@every_second
def shrinks_later(out, lse):
    return out[..., :-1], lse


@unrelated
def always_nan(q, k, v, **options):
    return tuple(torch.full_like(each, math.nan) for each in right(q, k, v, **options))


@unrelated
def always_infinite(q, k, v, **options):
    return tuple(torch.full_like(each, math.inf) for each in right(q, k, v, **options))


@implementation(SPEC, name="prefill_alone", limits={"tq": range(2, 100)})
def prefill_alone(q, k, v, *, causal=None):
    return right(q, k, v, causal=causal)


@implementation(SPEC, name="out_alone", returns=["out"])
def out_alone(q, k, v):
    return right(q, k, v)[0]


def matmul(function):
    return implementation("matmul.tiled", name=function.__name__)(function)


@matmul
def products_permuted(a, b):
    return a @ b + 1e-3 * a[:, :1] * b[:1]


@matmul
def rows_permuted(a, b):
    return torch.linspace(1, 1.001, len(a))[:, None] * (a @ b)


@matmul
def factor_doubled(a, b):
    out = a @ b
    return out + 1e-3 * out**2


@matmul
def product_split(a, b):
    """Homogeneous, and not additive."""
    out = a @ b
    return out + 1e-3 * out.relu()


@matmul
def transposed(a, b):
    """The lower triangle of out is another code path."""
    out = a @ b
    return out + 1e-3 * out.tril()


def softmax(function):
    return implementation("softmax.online", name=function.__name__)(function)


def right_softmax(x):
    return x.double().softmax(-1).float(), x.double().logsumexp(-1).float()


@softmax
def columns_permuted(x):
    """The first number of a row weighs a thousandth more."""
    raised = x.double()
    raised[:, 0] += 1e-3
    return right_softmax(raised)


@softmax
def rows_independent(x):
    """One maximum for all rows, in a format in which exp underflows beside it."""
    exps = (x - x.max()).exp()
    total = exps.sum(-1, keepdim=True)
    return exps / total.clamp(min=1e-30), (x.max() + total.log())[:, 0]


@softmax
def constant_added(x):
    """Numbers are cut off at 20, where exp would grow large without a maximum."""
    return right_softmax(x.clamp(max=20))


@softmax
def sum_of_one(x):
    out, lse = right_softmax(x)
    return 1.001 * out, lse


@softmax
def row_split(x):
    """A temperature that depends on how long a row is."""
    return right_softmax(x * (1 + 1e-5 * x.shape[1]))


def self_attention(function):
    return implementation("attention.dot_product", name=function.__name__)(function)


def right_self_attention(x):
    wide = x.double()
    return ((wide @ wide.mT).softmax(-1) @ wide).float()


@self_attention
def sequences_permuted(x):
    return right_self_attention(x * torch.linspace(1, 1.001, len(x))[:, None, None])


@self_attention
def tokens_permuted(x):
    """The first token weighs a thousandth more."""
    wide = x.double()
    scores = wide @ wide.mT
    scores[..., 0] += 1e-3
    return (scores.softmax(-1) @ wide).float()


@self_attention
def axes_turned(x):
    """Negative coordinates are a little smaller."""
    return right_self_attention(torch.where(x < 0, 0.999 * x, x))


@self_attention
def tokens_repeated(x):
    """A temperature that depends on how many tokens there are."""
    wide = x.double()
    return ((wide @ wide.mT * (1 + 1e-5 * x.shape[1])).softmax(-1) @ wide).float()


@self_attention
def coordinate_constant(x):
    """Logits are cut off at 100, where exp would overflow without a maximum."""
    wide = x.double()
    return ((wide @ wide.mT).clamp(max=100).softmax(-1) @ wide).float()


@self_attention
def outlier(x):
    """Logits are cut off at 8, so that a token can take no more than so much of its own weight."""
    wide = x.double()
    return ((wide @ wide.mT).clamp(max=8).softmax(-1) @ wide).float()


def backward(function):
    """Register a wrong backward pass; it gets the right gradients and what they were made of."""

    def call(q, k, v, out, lse, d_out, *, causal=None, scale=None):
        given = [each.double().requires_grad_() for each in (q, k, v)]
        group = q.shape[1] // k.shape[1]
        keys, values = (each.repeat_interleave(group, 1) for each in given[1:])
        scores = scores_of(given[0], keys, causal=causal, scale=scale)
        found = scores.softmax(-1).nan_to_num() @ values
        grads = torch.autograd.grad(found, given, d_out.double())
        return tuple(each.to(q.dtype) for each in function(*grads, q, k, v, d_out))

    return implementation("attention.flash_backward", name=function.__name__)(call)


@backward
def gradients_doubled(dq, dk, dv, q, k, v, d_out):
    return dq + 1e-2 * dq**2, dk, dv


@backward
def gradients_split(dq, dk, dv, q, k, v, d_out):
    """Homogeneous, so that doubling shows nothing, and not linear."""
    return dq, dk, dv + 1e-2 * dv.relu()


@backward
def keys_moved(dq, dk, dv, q, k, v, d_out):
    """The gradient of a key depends on its place."""
    return dq, dk * torch.linspace(1, 1.01, k.shape[2], dtype=dk.dtype)[:, None], dv


@backward
def batch_moved(dq, dk, dv, q, k, v, d_out):
    return dq, dk, dv * torch.linspace(1, 1.01, len(q), dtype=dv.dtype)[:, None, None, None]


@backward
def past_kept(dq, dk, dv, q, k, v, d_out):
    """Every value leaks into every row."""
    return (
        dq + 1e-3 * v.double().mean(-2, keepdim=True).mean(1, keepdim=True)[..., : q.shape[-1]],
        dk,
        dv,
    )
