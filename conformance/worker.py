"""The worker: the process that imports and runs implementations. It is not trusted.

``python -m kernelproof.conformance.worker`` is started by the judge with a socket. It loads one
target, describes what the target registered, and answers run requests until the socket closes.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from kernelproof.conformance.channel import CHANNEL_LOST, Channel, ChannelClosed
from kernelproof.conformance.interpreter import ARITHMETIC_VERSION
from kernelproof.conformance.loading import (
    TargetError,
    describe,
    first_line,
    imported_files,
    load_target,
    watch_sources,
)
from kernelproof.conformance.meters.counts import METER_VERSION
from kernelproof.conformance.running import Poison, Run
from kernelproof.conformance.timing.known import known_operation, measure_roofs
from kernelproof.conformance.timing.series import Series
from kernelproof.impls.registration import Registration


def main() -> None:
    """Serve the judge at the other end of the socket."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--memory", type=int, default=0, help="bytes of address space")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--path", action="append", default=[], help="a folder of modules")
    arguments = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    sys.path[:0] = arguments.path  # now, so that nothing there stands in for kernelproof or torch
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    versions = _versions()  # asks for a GPU, which wants more address space than is granted below
    if arguments.backend == "interpret":
        from kernelproof.conformance.interpreter.launching import install

        install()
    if arguments.memory and arguments.backend != "cuda":
        resource.setrlimit(resource.RLIMIT_AS, (arguments.memory, arguments.memory))
    watch_sources()
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    with Poison():  # what torch sets up at first use (an environment variable) is nobody's change
        torch.empty(1)
    _call_vector_functions()
    channel = Channel(socket.socket(fileno=arguments.socket), arguments.folder, "worker")
    try:
        _serve(channel, arguments.backend, versions)
    except ChannelClosed:  # a judge that was killed cannot clear up
        shutil.rmtree(arguments.folder, ignore_errors=True)
        os._exit(CHANNEL_LOST)


def _call_vector_functions() -> None:
    """The first call of each, on one thread: where two threads made it at once, in a process that
    had just begun, half of the results were off by 1e-4, once in a thousand processes."""
    for dtype in (torch.float32, torch.float64):
        few = torch.ones(8, dtype=dtype)
        for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sin", "cos", "erf"):
            getattr(torch, name)(few)


def _leave_with(judge: int) -> None:
    """End this process soon after the judge's, also in the middle of a call."""
    while os.getppid() == judge:
        time.sleep(1)
    os._exit(CHANNEL_LOST)


def _serve(channel: Channel, backend: str, versions: dict[str, Any]) -> None:
    owner = os.getpid()
    answers = _Answers(backend, versions)
    channel.send({"hello": owner}, {})
    while True:
        request, storages = channel.receive()
        try:
            reply, sent = answers.answer(request, storages)
        except Exception as error:  # where it is called, an implementation's own are caught
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.name}, line {last.lineno}"
            reply = {"broken": f"{type(error).__name__}: {first_line(error)} ({where})"}
            sent = {}
        if os.getpid() != owner:  # an implementation forked and its child came back here
            os._exit(0)
        channel.send({"number": request["number"], **reply}, sent)


class _Answers:
    """What this worker says to each kind of request, and what it keeps from one to the next."""

    def __init__(self, backend: str, versions: Mapping[str, Any]) -> None:
        self._backend, self._versions = backend, versions
        self._registrations: list[Registration] = []
        self._series: Series | None = None

    def answer(
        self, request: Mapping[str, Any], storages: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reply and its storages."""
        kind = request["kind"]
        if kind == "run":
            return Run(self._registered(request), request, self._backend).answer(storages)
        if kind == "time":
            assert self._series, "nothing was laid out"
            return self._series.time(request["rounds"], request["calls"], request["salt"])
        if kind == "imported":
            return {"imported": imported_files(request["folder"] or os.getcwd())}, {}
        return {"load": self._load, "lay": self._lay, "roofs": self._roofs}[kind](
            request, storages
        ), {}

    def _load(self, request: Mapping[str, Any], storages: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._registrations = load_target(request["target"])
        except TargetError as error:
            return {"error": str(error)}
        return {"implementations": [describe(r) for r in self._registrations], **self._versions}

    def _lay(self, request: Mapping[str, Any], storages: Mapping[str, Any]) -> dict[str, Any]:
        self._series = None  # what was laid out before makes room
        self._series = Series(self._registered(request), request, storages, self._backend)
        return {}

    def _roofs(self, request: Mapping[str, Any], storages: Mapping[str, Any]) -> dict[str, Any]:
        return measure_roofs(request["dtype"], self._backend)

    def _registered(self, request: Mapping[str, Any]) -> Registration:
        which = request["implementation"]
        return known_operation(which) if isinstance(which, str) else self._registrations[which]


def _versions() -> dict[str, Any]:
    return {
        "versions": {
            "torch": torch.__version__,
            "triton": version("triton") if find_spec("triton") else None,
            "python": sys.version.split()[0],
            "meter": METER_VERSION,
            "arithmetic": ARITHMETIC_VERSION,
            "cuda": torch.version.cuda,
        },
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


if __name__ == "__main__":
    main()
