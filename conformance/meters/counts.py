"""What one call did, in numbers: bytes, FLOPs, exponentials, launches, memory.

A worker counts, the judge reads: the same class writes the reply and reads it, and imports
nothing beyond the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

METER_VERSION = "4"
"""Counts of different versions are not compared."""

_NATURAL = (
    *("dots", "by_operators", "all_by_operators"),
    *("elementwise", "reductions", "exps", "atomics"),
)


@dataclass
class Access:
    """Bytes moved between slow memory and programs, of one argument.

    footprint: distinct bytes that were read at least once (of the call's inputs only).
    sectors: 32-byte sectors that loads and stores of Triton programs touched, one access of one
        program instance at a time: ``32 * sectors / (read + written)`` is 1 where all coalesce.
    """

    read: int = 0
    written: int = 0
    footprint: int = 0
    sectors: int = 0


@dataclass
class Launch:
    """One launch of a Triton kernel: its grid, and every constexpr and option it ran with."""

    kernel: str
    grid: tuple[int, int, int]
    constants: dict[str, Any]

    @property
    def programs(self) -> int:
        """Program instances."""
        x, y, z = self.grid
        return x * y * z


@dataclass
class Counts:
    """Sums over one call.

    arguments: per input of the call by its role, per other argument of a launch by its name;
        ``*`` stands for what torch operators made on the way.
    dots: FLOPs of matrix products (a multiply and an add are 2). by_operators: those of them that
        torch operators made; all_by_operators: and of floating-point operations of every kind.
    elementwise: floating-point operations on elements. reductions: additions and comparisons of
        sums, maxima and scans.
    exps: exponentials, in none of the above; tanh and the sigmoid are one each.
    opaque: fused, compiled and custom operators: what moves inside them is not known.
    unpriced: operators whose FLOPs are not known.
    unseen: why part of the work went past the meters (NumPy, threads), if it did.
    peak_memory: bytes held at the peak beside inputs and outputs, or None if not measured.
    """

    arguments: dict[str, Access] = field(default_factory=dict)
    dots: int = 0
    by_operators: int = 0
    all_by_operators: int = 0
    elementwise: int = 0
    reductions: int = 0
    exps: int = 0
    atomics: int = 0
    launches: list[Launch] = field(default_factory=list)
    operators: dict[str, int] = field(default_factory=dict)
    opaque: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    peak_memory: int | None = None

    @property
    def traffic(self) -> int:
        """Bytes read and written."""
        return sum(a.read + a.written for a in self.arguments.values())

    @property
    def operations(self) -> int:
        """Floating-point operations of every kind but exponentials."""
        return self.dots + self.elementwise + self.reductions

    def access(self, name: str) -> Access:
        """The counter of one argument."""
        return self.arguments.setdefault(name, Access())

    def constants(self, name: str) -> set[Any]:
        """The values that a constexpr had, over all launches that have it, or over those of the
        kernel that stands before it (``kernel.BLOCK_M``)."""
        kernel, _, constant = name.rpartition(".")
        return {
            launch.constants[constant]
            for launch in self.launches
            if constant in launch.constants and kernel in ("", launch.kernel)
        }

    @classmethod
    def total(cls, steps: Sequence[Counts]) -> Counts:
        """Of several calls together: sums, and of the memory held the peak of them."""
        whole = cls(launches=[launch for step in steps for launch in step.launches])
        for name in _NATURAL:
            setattr(whole, name, sum(getattr(step, name) for step in steps))
        for step in steps:
            for name, access in step.arguments.items():
                own = whole.access(name)
                for part in fields(Access):
                    amount = getattr(own, part.name) + getattr(access, part.name)
                    setattr(own, part.name, amount)
            for name, times in step.operators.items():
                whole.operators[name] = whole.operators.get(name, 0) + times
        for name in ("opaque", "unpriced", "unseen"):
            words = (word for step in steps for word in getattr(step, name))
            setattr(whole, name, list(dict.fromkeys(words)))
        peaks = [step.peak_memory for step in steps]
        whole.peak_memory = max((p for p in peaks if p is not None), default=None)
        return whole

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Counts:
        """Read what a worker sent. Raises ValueError, TypeError or LookupError."""
        read = cls(**{f.name: given[f.name] for f in fields(cls)})
        read.arguments = {str(n): _access(a) for n, a in given["arguments"].items()}
        read.launches = [
            Launch(str(w["kernel"]), _grid(w["grid"]), _constants(w["constants"]))
            for w in given["launches"]
        ]
        read.operators = {str(n): _natural(count) for n, count in given["operators"].items()}
        for name in _NATURAL:
            _natural(getattr(read, name))
        if read.peak_memory is not None:
            _natural(read.peak_memory)
        for words in (read.opaque, read.unpriced, read.unseen):
            if not all(isinstance(word, str) for word in words):
                raise ValueError("names that are no text")
        return read


def _access(given: Mapping[str, Any]) -> Access:
    return Access(**{f.name: _natural(given[f.name]) for f in fields(Access)})


def _constants(given: Mapping[str, Any]) -> dict[str, Any]:
    if not all(isinstance(value, bool | int | float | str) for value in given.values()):
        raise ValueError("a constexpr that is neither number nor text")
    return {str(name): value for name, value in given.items()}


def _grid(given: Any) -> tuple[int, int, int]:
    x, y, z = (_natural(n) for n in given)
    return x, y, z


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"count {value!r}")
    return value
