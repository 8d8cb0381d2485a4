"""Peak memory: the running sum of what the allocator reports during a call."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


class PeakMemory:
    """Bytes held at the peak of a ``with`` block, beyond what was held at its begin.

    On a CPU from the events of torch's profiler, on a GPU from the allocator's own statistics.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._before = device, 0
        self._profile: Any = None
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._profile is None:
            self.bytes = torch.cuda.max_memory_allocated() - self._before
            return
        self._profile.__exit__(kind, error, trace)
        held = 0
        for event in self._profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                self.bytes = max(self.bytes, held)
