"""Whether what a worker says of its time can be true: the judge's clock stood beside it.

A worker reports the seconds of its rounds and of everything. The judge knows the seconds from its
question to the answer, and how long a trusted worker takes beside its rounds for laying out the
same inputs. What is missing in one and not needed by the other was done outside the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AGREE = 0.15
"""Part of the judge's seconds that a worker's clock may miss."""
PER_QUESTION = 0.02
"""Seconds that a question may take on its way through a busy machine."""
SENT = 1e8
"""Bytes of outputs per second that travel back, at least."""
BESIDE = 4.0
"""How many times longer than the trusted worker another may take beside its rounds."""
HIDDEN = 0.25
"""Part of the timed seconds that may go unseen: a claim closer than this is not told from noise."""


@dataclass(frozen=True)
class Chunk:
    """One question and its answer.

    durations: seconds of each round, of ``number`` calls each. whole: seconds of everything, by the
    worker's clock; wall: by the judge's. salt: of its inputs. sent: bytes of the outputs.
    """

    durations: tuple[float, ...]
    number: int
    whole: float
    wall: float
    salt: str
    sent: int = 0

    @property
    def calls(self) -> int:
        """Calls in all rounds."""
        return len(self.durations) * self.number

    @property
    def each(self) -> list[float]:
        """Seconds of a call, for each round."""
        return [seconds / self.number for seconds in self.durations]

    @property
    def beside(self) -> float:
        """Seconds of the judge's that no round took."""
        return self.wall - sum(self.durations)


def disagreement(chunks: Sequence[Chunk], trusted: Sequence[Chunk]) -> str:
    """What is wrong with a worker's clock, in words; nothing if it can be believed."""
    wall, whole = sum(c.wall for c in chunks), sum(c.whole for c in chunks)
    timed = sum(sum(c.durations) for c in chunks)
    noise = sum(PER_QUESTION + c.sent / SENT for c in chunks)
    if whole - wall > 0.02 * wall or wall - whole > AGREE * wall + noise or timed > whole:
        return (
            f"the worker's clock shows {whole:.3g} s ({timed:.3g} s of them in calls) for what "
            f"took {wall:.3g} s: does it replace or stop a clock?"
        )
    calls = sum(c.calls for c in chunks)
    usual = sum(c.beside for c in trusted) / sum(c.calls for c in trusted)
    allowed = BESIDE * usual * calls + HIDDEN * timed + noise
    if wall - timed > allowed:
        return (
            f"{calls:,} calls are said to take {timed:.3g} s, and {wall - timed:.3g} s passed "
            f"beside them: laying out and copying wants no more than {allowed:.3g} s"
        )
    return ""
