"""A worker's reply, read and checked before anything of it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.meters.counts import Counts
from kernelproof.spec.contracts.integrity import INTEGRITY_CLAUSES

Array = npt.NDArray[Any]
_TEXT = 500


class BadReply(ValueError):
    """A reply that no worker of ours sends."""


@dataclass(frozen=True)
class Output:
    """One returned tensor: what it says it is, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    device: str
    data: Array

    def array(self) -> Array:
        """The elements. Raises BadReply if the bytes are not as many as the shape says."""
        dtype = np.dtype(NUMPY_DTYPES[self.dtype])
        if self.data.nbytes != math.prod(self.shape) * dtype.itemsize:
            raise BadReply(f"{self.data.nbytes} bytes for {self.dtype} of shape {self.shape}")
        array: Array = self.data.view(dtype).reshape(self.shape)
        return array


@dataclass(frozen=True)
class StepReply:
    """What one operation did: it raised, it returned something impossible, or it returned.

    lacking: a feature that this backend has not. astray: an access outside all arguments.
    no_room: what the worker could not lay out for the call, which was not made.
    """

    raised: str | None
    lacking: str | None
    astray: str | None
    no_room: str | None
    invalid: str | None
    outputs: tuple[Output, ...]
    in_constructor: bool
    counts: Counts | None


@dataclass(frozen=True)
class Reply:
    """All runs of a case, step by step, and broken integrity clauses with what happened."""

    runs: tuple[tuple[StepReply, ...], ...]
    problems: tuple[tuple[str, str], ...]


def read_reply(
    reply: Mapping[str, Any], received: Mapping[str, Array], runs: int, steps: int
) -> Reply:
    """Check a reply to a request of so many runs and steps. Raises BadReply.

    A run is shorter where its last step raised: the steps behind it were not taken.
    """
    try:
        read = Reply(
            tuple(tuple(_step(each, received) for each in run) for run in reply["runs"]),
            tuple((str(p["clause"]), str(p["message"])[:_TEXT]) for p in reply["problems"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadReply(f"{type(error).__name__}: {error}") from None
    if len(read.runs) != runs:
        raise BadReply(f"{len(read.runs)} runs: wanted {runs}")
    for run in read.runs:
        cut_short = bool(run) and run[-1].raised is not None
        if len(run) != steps and not (cut_short and len(run) < steps):
            raise BadReply(f"{len(run)} steps: wanted {steps}")
    for clause, _ in read.problems:
        if clause not in INTEGRITY_CLAUSES:
            raise BadReply(f"unknown clause {clause!r}")
    return read


def _step(step: Mapping[str, Any], received: Mapping[str, Array]) -> StepReply:
    raised, invalid = step.get("raised"), step.get("invalid")
    outputs = () if raised or invalid else step["outputs"]
    kind = (raised or {}).get("kind")
    return StepReply(
        raised=_raised(raised) if raised else None,
        lacking=_message(raised) if kind == "lacking" else None,
        astray=_message(raised) if kind == "astray" else None,
        no_room=_message(raised) if kind == "no room" else None,
        invalid=str(invalid)[:_TEXT] if invalid else None,
        outputs=tuple(_output(each, received) for each in outputs),
        in_constructor=bool(step.get("constructor")),
        counts=Counts.from_json(step["counts"]) if step.get("counts") else None,
    )


def _output(output: Mapping[str, Any], received: Mapping[str, Array]) -> Output:
    shape = tuple(output["shape"])
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in shape):
        raise BadReply(f"shape {shape!r}")
    data = received[output["storage"]]
    if data.dtype != np.uint8 or data.ndim != 1:
        raise BadReply(f"storage of {data.dtype}")
    return Output(str(output["dtype"]), shape, str(output["device"]), data)


def _message(raised: Any) -> str:
    return str(raised["message"])[:_TEXT]


def _raised(raised: Mapping[str, Any]) -> str:
    where = f" ({raised['where']})" if raised.get("where") else ""
    return f"raised {raised['type']}: {raised['message']}{where}"[:_TEXT]
