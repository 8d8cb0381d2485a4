"""Named GPUs: what their makers state. Dense rates, no sparsity; a rate is 10^12 per second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A GPU. flops: FLOP/s by dtype (tensor cores where they take it; float32 is IEEE).

    bandwidth: bytes/s of its memory.
    multiprocessors: those that run programs side by side (SMs, or compute units), if known.
    """

    name: str
    source: str
    flops: Mapping[str, float]
    bandwidth: float
    multiprocessors: int | None = None

    def ridge(self, dtype: str) -> float:
        """FLOP per byte from which compute bounds, not memory."""
        return self.flops[dtype] / self.bandwidth

    def waves(self, programs: int) -> tuple[int, float]:
        """Rounds in which the multiprocessors run so many programs, one each at a time, and the
        part of the last round that is idle."""
        assert self.multiprocessors is not None
        waves = -(-programs // self.multiprocessors)
        return waves, (waves * self.multiprocessors - programs) / self.multiprocessors

    def seconds(self, flops: float, moved: float, dtype: str) -> tuple[float, str]:
        """The roofline (Williams, Waterman, Patterson 2009): no kernel takes less, and which
        side bounds it, ``compute`` or ``memory``."""
        compute, memory = flops / self.flops[dtype], moved / self.bandwidth
        return (compute, "compute") if compute > memory else (memory, "memory")


def _rates(sixteen: float, float32: float, float64: float) -> Mapping[str, float]:
    tera = 1e12
    return {
        "float16": sixteen * tera,
        "bfloat16": sixteen * tera,
        "float32": float32 * tera,
        "float64": float64 * tera,
    }


MACHINES: Mapping[str, Machine] = {
    m.name: m
    for m in (
        Machine("A100", "NVIDIA A100 80GB SXM datasheet", _rates(312, 19.5, 19.5), 2.039e12, 108),
        Machine("H100", "NVIDIA H100 SXM datasheet", _rates(989.4, 67, 67), 3.35e12, 132),
        Machine("H200", "NVIDIA H200 SXM datasheet", _rates(989.4, 67, 67), 4.8e12, 132),
        Machine("B200", "NVIDIA HGX B200 datasheet, per GPU", _rates(2250, 75, 37), 8e12, 148),
        Machine(
            "MI300X", "AMD Instinct MI300X datasheet", _rates(1307.4, 163.4, 163.4), 5.3e12, 304
        ),
    )
}
