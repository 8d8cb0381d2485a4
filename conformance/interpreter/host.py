"""What host code asks of a GPU before it launches a kernel, answered on a machine without one.

Tutorials and launchers read the number of multiprocessors, the target or the active device. The
answers are those of an H100; tensors, and so the device, are on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class Utilities:
    """Queries about a device."""

    def get_device_properties(self, device: Any) -> dict[str, int]:
        """Limits of a multiprocessor, and how many there are."""
        return {
            "multiprocessor_count": 132,
            "max_shared_mem": 232448,
            "max_num_regs": 65536,
            "warpSize": 32,
            "sm_clock_rate": 1_980_000,
            "mem_clock_rate": 2_619_000,
            "mem_bus_width": 5120,
        }


class HostDriver:
    """The part of Triton's driver that host code asks."""

    def __init__(self) -> None:
        self.utils = Utilities()

    def get_current_target(self) -> Any:
        """The architecture."""
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        """Where tensors are made."""
        return torch.device("cpu")

    def get_current_device(self) -> int:
        """Its number."""
        return 0

    def get_device_interface(self) -> Any:
        """What stands in for ``torch.cuda``."""
        return torch.cpu


def install() -> None:
    """Answer in the place of a driver that this machine has not."""
    driver.set_active(HostDriver())
