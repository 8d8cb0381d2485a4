"""What torch operators cost: FLOPs of dots, elementwise and reducing arithmetic, exponentials.

A price is a function of an operator's arguments and result. Moving, comparing and ordering cost
nothing, integer arithmetic neither; an operator that no table has is unpriced, never free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import flop_registry


class Work(NamedTuple):
    """FLOPs by kind: see the fields of the same names in ``Counts``."""

    dots: int = 0
    elementwise: int = 0
    reductions: int = 0
    exps: int = 0


Arguments = Sequence[Any]
Options = Mapping[str, Any]
Price = Callable[[Arguments, Options, Any], Work | None]


def work_of(func: Any, args: Arguments, kwargs: Options, out: Any) -> Work | None:
    """The work of one operator that has run, or None where nobody knows."""
    aten = getattr(func, "namespace", "") == "aten"
    if aten and not any(map(_is_float, tensors_in((args, out)))):
        return Work()
    price = _price_of(func)
    return price and price(args, kwargs, args[0] if out is None and args else out)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in an argument or a result, those in lists included."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [tensor for each in value for tensor in tensors_in(each)]


@cache
def _price_of(func: Any) -> Price | None:
    """Look the operator up under the name that it shares with its in-place and list forms."""
    packet = getattr(func, "overloadpacket", func)
    if getattr(func, "namespace", "aten") == "aten":  # a higher-order operator has no namespace
        name = packet.__name__.removeprefix("_foreach_").removesuffix("_")
        if name in PRICES:
            return PRICES[name]
        if name.startswith("new_") or name.endswith(("_like", "_copy")):
            return _free
        if _tagged_pointwise(name):
            return _pointwise
    return _registered(flop_registry[packet]) if packet in flop_registry else None


def _tagged_pointwise(name: str) -> bool:
    """Some overloads of a pointwise operator lack the tag; one that has it speaks for all."""
    packet = getattr(torch.ops.aten, name, None)
    overloads = packet.overloads() if packet else []
    return any(torch.Tag.pointwise in getattr(packet, each).tags for each in overloads)


def _registered(formula: Any) -> Price:
    return lambda args, kwargs, out: Work(dots=formula(*args, **kwargs, out_val=out))


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _size(value: Any) -> int:
    return sum(tensor.numel() for tensor in tensors_in(value))


def _free(args: Arguments, kwargs: Options, out: Any) -> Work:
    return Work()


def _pointwise(args: Arguments, kwargs: Options, out: Any) -> Work:
    """One operation per element of a float result: comparisons give none."""
    return Work(elementwise=sum(each.numel() for each in tensors_in(out) if _is_float(each)))


def _reduction(args: Arguments, kwargs: Options, out: Any) -> Work:
    return Work(reductions=max(0, _size(args[0]) - tensors_in(out)[0].numel()))


def _along(place: int, per_element: Work, sweeps: int) -> Price:
    """So much per element, and sweeps of additions or comparisons along a dimension."""

    def price(args: Arguments, kwargs: Options, out: Any) -> Work:
        x, dim = args[0], args[place]
        n, rows = x.numel(), (x.numel() // max(1, x.shape[dim]) if x.dim() else 1)
        return Work(*(n * each for each in per_element))._replace(reductions=sweeps * (n - rows))

    return price


def _power(args: Arguments, kwargs: Options, out: Any) -> Work:
    """A number to the power of a tensor is an exponential."""
    n = _size(out)
    return Work(elementwise=n) if hasattr(args[0], "shape") else Work(exps=n)


def _logsumexp(args: Arguments, kwargs: Options, out: Any) -> Work:
    n = args[0].numel()
    return Work(elementwise=n, reductions=2 * max(0, n - out.numel()), exps=n)


def _normalize(args: Arguments, kwargs: Options, out: Any) -> Work:
    """Sum, subtract, square, sum, divide, scale and shift."""
    n, groups = args[0].numel(), out[-1].numel()
    return Work(elementwise=5 * n, reductions=2 * max(0, n - groups))


def _index_put(args: Arguments, kwargs: Options, out: Any) -> Work:
    accumulates = args[3:4] == (True,)
    return Work(reductions=_size(args[2]) if accumulates else 0)


def _product(left: int, right: int) -> Price:
    """A matrix or vector times another, and what is added to it unless beta is 0."""

    def price(args: Arguments, kwargs: Options, out: Any) -> Work:
        columns = args[right].shape[-1] if args[right].dim() > 1 else 1
        added = out.numel() if left and kwargs.get("beta", 1) != 0 else 0
        return Work(dots=2 * args[left].numel() * columns, elementwise=added)

    return price


def _convolution(args: Arguments, kwargs: Options, out: Any) -> Work:
    transposed = len(args) > 6 and args[6] is True
    places = (args[0] if transposed else out).numel()
    return Work(dots=2 * places * prod(args[1].shape[1:]))


def _attention(first: int, keys: int, values: int, heads: int = 1) -> Price:
    """So many products per head of tq x tk x d and of tq x tk x dv; masks spare nothing."""

    def price(args: Arguments, kwargs: Options, out: Any) -> Work | None:
        q, k, v = args[first : first + 3]
        if q.dim() != 4 or any(map(_is_offsets, tensors_in(args[first + 3 :]))):
            return None  # sequences in a row, whose lengths only the device knows
        pairs = q.shape[0] * q.shape[heads] * q.shape[3 - heads] * k.shape[3 - heads]
        return Work(dots=2 * pairs * (keys * q.shape[3] + values * v.shape[3]), exps=pairs)

    return price


def _is_offsets(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.int32 and tensor.dim() == 1 and tensor.numel() > 1


def _each(names: str, price: Price) -> dict[str, Price]:
    return dict.fromkeys(names.split(), price)


_FUSED = ("flash", "efficient", "cudnn", "fused")
_SDPA = [f"_scaled_dot_product_{kind}_attention" for kind in _FUSED]
_SDPA_ENDS = ("", "_for_cpu", "_overrideable")

PRICES: dict[str, Price] = {
    **_each("mm bmm mv dot vdot _scaled_mm", _product(0, 1)),
    **_each("addmm baddbmm addbmm addmv _addmm_activation", _product(1, 2)),
    **_each("convolution _convolution mkldnn_convolution", _convolution),
    **{name + end: _attention(0, 1, 1) for name in _SDPA for end in _SDPA_ENDS},
    **{f"{name}{end}_backward": _attention(1, 3, 2) for name in _SDPA for end in _SDPA_ENDS},
    **_each("_flash_attention_forward _efficient_attention_forward", _attention(0, 1, 1, 2)),
    **_each("_flash_attention_backward _efficient_attention_backward", _attention(1, 3, 2, 2)),
    **_each("flex_attention", _attention(0, 1, 1)),
    **_each("flex_attention_backward", _attention(0, 3, 2)),
    # tanh and the sigmoid are one each, whether a kernel writes it out or calls the function
    **_each("exp exp2 expm1 tanh sigmoid", lambda args, kwargs, out: Work(exps=_size(out))),
    **_each("pow float_power", _power),
    **_each(
        "addcmul addcdiv lerp addr", lambda args, kwargs, out: Work(elementwise=2 * _size(out))
    ),
    **_each("floor_divide hardswish log_sigmoid_forward native_dropout _prelu_kernel", _pointwise),
    **_each("sum nansum mean prod trace norm linalg_vector_norm", _reduction),
    **_each("amax amin aminmax max min argmax argmin", _reduction),
    **_each("var std var_mean std_mean", _reduction),
    **_each("cumsum cumprod cummax cummin", _along(1, Work(), 1)),
    **_each("logcumsumexp", _along(1, Work(elementwise=1, exps=1), 2)),
    **_each("_softmax _log_softmax _safe_softmax", _along(1, Work(elementwise=2, exps=1), 2)),
    **_each("logsumexp", _logsumexp),
    **_each("_softmax_backward_data", _along(2, Work(elementwise=3), 1)),
    **_each("_log_softmax_backward_data", _along(2, Work(elementwise=2, exps=1), 1)),
    **_each("native_layer_norm native_group_norm _fused_rms_norm", _normalize),
    **_each(
        "scatter_add scatter_reduce", lambda args, kwargs, out: Work(reductions=_size(args[2]))
    ),
    **_each("index_add index_reduce", lambda args, kwargs, out: Work(reductions=_size(args[3]))),
    **_each("index_put _index_put_impl _unsafe_index_put", _index_put),
    # Making:
    **_each("empty empty_strided empty_permuted zeros ones full eye arange linspace", _free),
    **_each("logspace scalar_tensor tril_indices triu_indices rand randn randint randperm", _free),
    **_each("normal uniform random bernoulli exponential geometric cauchy log_normal", _free),
    **_each("poisson multinomial fill zero", _free),
    # Moving:
    **_each("copy clone cat stack repeat repeat_interleave flip roll rot90 tril triu", _free),
    **_each("complex constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d", _free),
    **_each("replication_pad2d block_diag diag_embed pixel_shuffle pixel_unshuffle", _free),
    **_each("channel_shuffle im2col _pin_memory unsafe_split unsafe_split_with_sizes", _free),
    **_each("index _unsafe_index index_select gather take embedding masked_select", _free),
    **_each("index_copy index_fill scatter masked_scatter masked_fill where", _free),
    **_each("select_scatter slice_scatter diagonal_scatter as_strided_scatter", _free),
    **_each("slice_backward select_backward _local_scalar_dense", _free),
    # Comparing and ordering:
    **_each("sort topk kthvalue median nanmedian mode searchsorted bucketize", _free),
    **_each("nonzero nonzero_static _unique2 unique_consecutive unique_dim isin", _free),
    **_each("bincount histc all any count_nonzero equal", _free),
}
