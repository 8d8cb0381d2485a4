"""No kernel is faster than its arithmetic, nor than its traffic (Williams et al. 2009):

seconds >= max(flops / peak, moved / bandwidth)

Memory bounds a kernel whose FLOP per byte lie below the ridge, peak / bandwidth.
Programs that fill a multiprocessor each run in waves of one per multiprocessor;
idle is the part of the last wave without a program. Peaks are those of dense products in tensor
cores; for float32 those of IEEE arithmetic, not TF32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernelproof.spec.machines import MACHINES, Machine
from kernelproof.spec.rounding import DTYPES
from kernelproof.spec.sheets import Line, Quantity, Rule, Sheet, Values


def _machines(x: Values) -> Iterator[Machine]:
    """The machine given by numbers, if any, and the named ones."""
    if x["peak"] is not None:
        peak = {x["dtype"]: x["peak"]}
        yield Machine("given", "", peak, x["bandwidth"], x["multiprocessors"])
    yield from MACHINES.values()


def on_machines(x: Values) -> dict[str, dict[str, Any]]:
    """By machine: ridge, the least seconds, what bounds them, and the waves of its programs."""
    rows: dict[str, dict[str, Any]] = {}
    for machine in _machines(x):
        seconds, bound = machine.seconds(x["flops"], x["moved"], x["dtype"])
        rows[machine.name] = {
            "ridge": machine.ridge(x["dtype"]),
            "seconds": seconds,
            "bound": bound,
        }
        if x["programs"] is not None and machine.multiprocessors is not None:
            waves, idle = machine.waves(x["programs"])
            rows[machine.name] |= {"waves": waves, "idle": idle}
    return rows


sheet = Sheet(
    name="sizing.roofline",
    title="The least time that work can take",
    source="Williams, Waterman, Patterson 2009; the makers' datasheets",
    quantities=(
        Quantity("flops", "operations, a multiplication and an addition being two", least=0),
        Quantity("read", "bytes read"),
        Quantity("written", "bytes written", default=0, least=0),
        Quantity("dtype", "format of the operands", default="float16", choices=DTYPES),
        Quantity("programs", "programs of the launch", optional=True),
        Quantity("peak", "FLOP/s of a machine of your own", optional=True),
        Quantity("bandwidth", "its bytes/s", optional=True),
        Quantity("multiprocessors", "its multiprocessors", optional=True),
    ),
    rules=(
        Rule(
            "(peak is None) == (bandwidth is None)",
            "peak={peak}, bandwidth={bandwidth}: wanted both or none",
        ),
        Rule(
            "multiprocessors is None or peak is not None",
            "multiprocessors={multiprocessors}: wanted peak and bandwidth, too",
        ),
    ),
    lines=(
        Line("moved", "read + written", "bytes", "read and written"),
        Line("per_byte_read", "flops / read", "FLOP/byte", "intensity of what is read"),
        Line("per_byte_moved", "flops / moved", "FLOP/byte", "arithmetic intensity"),
        Line("each", "peak / multiprocessors", "FLOP/s", "your machine, one multiprocessor"),
    ),
    rows=on_machines,
    units={"ridge": "FLOP/byte", "seconds": "s", "bound": "", "waves": "waves", "idle": "%"},
)
