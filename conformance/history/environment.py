"""What a number depends on beside the code: the device, and the versions of what ran it."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GPU_QUERY = "name,driver_version,mig.mode.current,clocks.applications.graphics"


def device_identity(
    description: Mapping[str, Any], backend: str = "cpu", processes: int = 1
) -> str:
    """What ran it, in words that are equal where times may be compared.

    description: of a worker. Of a GPU: model, driver, CUDA, MIG, clocks of applications. Otherwise:
    model and cores of the CPU, threads of torch; of several processes of pytest-xdist (see
    ``plugin.py``) each has its part of them.
    """
    if backend == "cuda" and description.get("device"):
        cuda = description.get("versions", {}).get("cuda")
        parts = [str(description["device"]), *_gpu(str(description["device"]))]
        return ", ".join([*parts, *([f"CUDA {cuda}"] if cuda else [])])
    cores = os.cpu_count() or 1
    threads = description.get("threads") or cores
    if processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, cores // processes)
    return f"{cpu_model()}, {_many(cores, 'core')}, {_many(threads, 'thread')}"


def toolchain(description: Mapping[str, Any]) -> str:
    """Versions of torch, Triton, meters and arithmetic, of a worker's description."""
    versions = description.get("versions", {})
    names = ("torch", "triton", "meter", "arithmetic")
    return ", ".join(f"{name} {versions[name]}" for name in names if versions.get(name))


@functools.cache
def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The name that the CPU gives itself, or its architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def _gpu(name: str) -> tuple[str, ...]:
    """Driver, MIG and clocks of a GPU of this name; nothing where nvidia-smi does not tell."""
    command = ["nvidia-smi", f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return read_gpu(told.stdout, name)


def read_gpu(told: str, name: str) -> tuple[str, ...]:
    """Driver, MIG and clocks in what nvidia-smi says of all GPUs, for the first of a name.

    >>> read_gpu("NVIDIA A10, 535.54, [N/A], 1695 MHz", "NVIDIA A10")
    ('driver 535.54', 'clocks 1695 MHz')
    """
    for line in told.splitlines():
        model, *rest = (cell.strip() for cell in line.split(","))
        if model == name:
            words = zip(("driver", "MIG", "clocks"), rest, strict=False)
            return tuple(f"{what} {word}" for what, word in words if not word.startswith("["))
    return ()


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
