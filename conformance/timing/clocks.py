"""In a worker: the clocks. Each takes the calls of one round and says how long they took."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import psutil
import torch

Call = Callable[[], Any]

_now = time.perf_counter_ns
"""Bound before any target is imported: replacing it in ``time`` later changes nothing here."""


_FLUSHES = 16
"""Writes of an L2 cache: about 10 us each, longer together than Python takes to launch a kernel."""


class Clock(Protocol):
    """What times a round.

    ``time`` makes the calls one after the other and gives the seconds of all of them together, and
    the result of the call ``kept``. ``state`` says what may have changed the speed of the device.
    """

    def time(self, calls: Sequence[Call], kept: int = 0) -> tuple[float, Any]: ...  # noqa: D102

    def state(self) -> dict[str, Any]: ...  # noqa: D102


class CpuClock:
    """The monotonic clock around a round. Caches are as writing the inputs left them."""

    def time(self, calls: Sequence[Call], kept: int = 0) -> tuple[float, Any]:
        """Seconds of all calls together; the garbage collector waits."""
        now, result, later = _now, None, None
        until, rest = calls[: kept + 1], calls[kept + 1 :]
        with _collector_waits():
            start = now()
            for call in until:
                result = call()
            for call in rest:
                later = call()  # noqa: F841  # it lives until the next one is made
            return (now() - start) * 1e-9, result

    def state(self) -> dict[str, Any]:
        """Threads, and the frequency in MHz where the system tells it."""
        found: dict[str, Any] = {"clock": "perf_counter", "threads": torch.get_num_threads()}
        with contextlib.suppress(Exception):  # containers and virtual machines hide it in many ways
            found["mhz"] = round(psutil.cpu_freq().current)
        return found


class CudaClock:
    """CUDA events around every call, each on an L2 cache that holds nothing of its inputs.

    The cache is flushed by writing as many bytes as it has, no more: what a larger buffer would
    flush beside it (the TLB) is no part of the claim. It is written _FLUSHES times, and the host
    does not wait for it: the device is busy while the host prepares the launch, so a kernel that is
    shorter than its launch is timed as itself. An event sees the current stream alone; what other
    streams still do after the last event is waited for and added. What they do before the flush
    has ended, without waiting for the stream of their inputs, is not seen.
    """

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self._flushed = torch.empty(properties.L2_cache_size, dtype=torch.uint8, device="cuda")
        self._wait: Any = torch.cuda.synchronize
        self._event: Any = torch.cuda.Event

    def time(self, calls: Sequence[Call], kept: int = 0) -> tuple[float, Any]:
        """Seconds of all calls together, without the flushes between them."""
        seconds, result, latest = 0.0, None, None
        with _collector_waits():
            for number, call in enumerate(calls):
                start, end = self._event(enable_timing=True), self._event(enable_timing=True)
                self._wait()  # what the inputs still take
                for _ in range(_FLUSHES):
                    self._flushed.zero_()
                start.record()
                latest = call()
                end.record()
                end.synchronize()
                seconds += start.elapsed_time(end) * 1e-3 + self._other_streams()
                result = latest if number == kept else result
        return seconds, result

    def _other_streams(self) -> float:
        """Seconds until the whole device is idle, less those of waiting for an idle one: none on
        average, and not none at least, where there are no other streams."""
        waits = []
        for _ in range(4):
            start = _now()
            self._wait()
            waits.append((_now() - start) * 1e-9)
        return waits[0] - statistics.median(waits[1:])

    def state(self) -> dict[str, Any]:
        """SM clock in MHz, temperature and throttle reasons, as far as the driver tells them."""
        found: dict[str, Any] = {"clock": "cuda events", "l2_bytes": self._flushed.numel()}
        for name, read in (
            ("mhz", torch.cuda.clock_rate),
            ("celsius", torch.cuda.temperature),
            ("watts", lambda: torch.cuda.power_draw() / 1000),
            ("throttled", _throttle_reasons),
        ):
            with contextlib.suppress(Exception):  # each wants a library or a right of its own
                found[name] = read()
        return found


def _throttle_reasons() -> list[str]:
    """What holds the clocks back now, in NVML's words."""
    import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
    bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    prefix = "nvmlClocksThrottleReason"
    return [
        name.removeprefix(prefix)
        for name, bit in vars(pynvml).items()
        if name.startswith(prefix) and isinstance(bit, int) and bit.bit_count() == 1 and bits & bit
    ]


@contextlib.contextmanager
def _collector_waits() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def clock_of(device: torch.device) -> Clock:
    """The clock for a device."""
    return CudaClock() if device.type == "cuda" else CpuClock()
