"""In the worker: what a call may not leave behind in torch, the environment or the process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

# OpenMP leaves variables of its own behind at a first call, and so does torch.compile
_LIBRARY_VARIABLES = ("KMP_", "__KMP", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_")
_VARIABLE = "the environment variable "
_PATCHABLE = {"torch": torch, "torch.nn.functional": torch.nn.functional}
_ORIGINALS = {(place, n): v for place, m in _PATCHABLE.items() for n, v in vars(m).items()}
_TENSOR = dict(vars(torch.Tensor))


def undo_patches() -> list[str]:
    """Put back what was replaced in torch, and name it. What torch itself replaces is fine."""
    found = []
    for (place, name), value in _ORIGINALS.items():
        now = vars(_PATCHABLE[place]).get(name)
        if now is not value and not str(getattr(now, "__module__", "")).startswith("torch"):
            setattr(_PATCHABLE[place], name, value)
            found.append(f"{place}.{name}")
    for name in [n for n, v in vars(torch.Tensor).items() if _TENSOR.get(n) is not v]:
        if name in _TENSOR:
            setattr(torch.Tensor, name, _TENSOR[name])
        else:
            delattr(torch.Tensor, name)
        found.append(f"torch.Tensor.{name}")
    return found


def read_settings() -> dict[str, Any]:
    """Settings by what they are called in a message."""
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's flushing of subnormals": _flushes(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's float32 matmul precision": torch.get_float32_matmul_precision(),
        "the current directory": _directory(),
        **{
            f"{_VARIABLE}{name}": value
            for name, value in os.environ.items()
            if not name.startswith(_LIBRARY_VARIABLES)
        },
    }


def _flushes() -> bool:
    """Whether subnormal numbers are flushed to zero."""
    return bool(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1 == 0)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


def restore_settings(before: Mapping[str, Any]) -> None:
    """Put back what :func:`read_settings` read."""
    if read_settings() == before:
        return
    torch.set_default_dtype(before["torch's default dtype"])
    torch.set_default_device(before["torch's default device"])
    torch.set_flush_denormal(before["torch's flushing of subnormals"])
    torch.set_grad_enabled(before["torch's grad mode"])
    torch.set_num_threads(before["torch's number of threads"])
    torch.use_deterministic_algorithms(before["torch's deterministic mode"])
    torch.set_float32_matmul_precision(before["torch's float32 matmul precision"])
    os.chdir(before["the current directory"])
    for what in read_settings().keys() - before.keys():
        del os.environ[what.removeprefix(_VARIABLE)]
    variables = {w.removeprefix(_VARIABLE): v for w, v in before.items() if w.startswith(_VARIABLE)}
    os.environ.update(variables)
