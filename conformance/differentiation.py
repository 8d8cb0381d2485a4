"""In the worker: the gradients of a call, by torch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class NoGradient(Exception):
    """What a call returned has no gradient; the message says what was wanted."""


def differentiate(
    operation: Callable[..., Any], gradients: Mapping[str, Any], *tensors: Tensor, **options: Any
) -> tuple[Tensor, ...]:
    """Gradients of one output of a call with regard to some of its inputs; the last tensor is the
    cotangent. An input that the output does not depend on has gradient zero. Raises NoGradient."""
    *inputs, cotangent = tensors
    wanted = [inputs[number].detach().requires_grad_() for number in gradients["of"]]
    for number, tensor in zip(gradients["of"], wanted, strict=True):
        inputs[number] = tensor
    out = _output(operation(*inputs, **options), gradients["through"], cotangent)
    if not out.requires_grad and not all(tensor.numel() for tensor in tensors):
        return tuple(map(torch.zeros_like, wanted))  # of no queries or keys a constant is right
    if not out.requires_grad:
        raise NoGradient(
            f"output {gradients['through']} carries no gradient: wanted operations that torch can "
            "differentiate, or a torch.autograd.Function; without them leave out gradients=True"
        )
    before = out.detach().clone()
    found = _gradients(out, wanted, cotangent)
    if not torch.equal(before.nan_to_num(), out.detach().nan_to_num()):
        raise NoGradient(
            f"the way back changed output {gradients['through']}: wanted it left as it was returned"
        )
    return found


def _gradients(out: Tensor, wanted: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    """As the way back returns them: what it keeps of their memory shows."""
    try:
        return torch.autograd.grad(
            out, wanted, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
    # a checkpoint that runs the forward pass again can only add to what its inputs have
    torch.autograd.backward(out, cotangent)
    return tuple(torch.zeros_like(x) if x.grad is None else x.grad for x in wanted)


def _output(result: Any, place: int, cotangent: Tensor) -> Tensor:
    """The output that is differentiated. Raises NoGradient for what is none."""
    outputs = result if isinstance(result, (tuple, list)) else [result]
    if len(outputs) <= place or not isinstance(outputs[place], Tensor):
        raise NoGradient(f"output {place} is no tensor: wanted one that carries a gradient")
    out: Tensor = outputs[place]
    if out.shape != cotangent.shape or out.dtype != cotangent.dtype:
        raise NoGradient(
            f"output {place} is {out.dtype} of shape {tuple(out.shape)}: wanted "
            f"{cotangent.dtype} of shape {tuple(cotangent.shape)}"
        )
    return out
