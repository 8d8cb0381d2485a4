"""Whether what a worker says of its time can be true: the judge's clock stood beside it.

A worker reports the seconds of its rounds and of everything. The judge knows the seconds from its
question to the answer, and how long a trusted worker takes beside its rounds, in the same minute:
for a question of one call, and for laying out the same inputs for every further call. What is
missing in one and not needed by the other was done outside the clock.

A claim is believed down to this part of the true time (:func:`least_believed` computes it):

    (1 - slack) / (1 + HIDDEN),   slack = (DEVIATIONS sigma / question + (BESIDE - 1) layout) / call

with sigma the spread of a brief question, both over the calls of a question; layout and call are
seconds of one call. Where laying out varies from question to question, that is allowed for in the
same way. On a quiet machine the part is 0.80 at best, 0.76 where laying out takes a tenth of a
call, 0.6 where it takes half. Outputs larger than the trusted worker's have SENT beside. On a busy
machine sigma is large, and the bound weak: more is believed there, and no honest worker doubted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kernelproof.conformance.timing.mixing import kept_of

AGREE = 0.15
"""Part of the judge's seconds that a worker's clock may miss."""
DEVIATIONS = 3.0
"""Standard deviations of what a brief question takes that another may take more."""
SENT = 1e8
"""Bytes per second that outputs larger than the trusted worker's travel back, at least."""
BESIDE = 1.5
"""How many times longer than the trusted worker another may take to lay out a call: caches are as
its own calls left them. Of 36 kernels the median took 0.7 times as long, nine of ten below 1.4."""
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
    def kept(self) -> int:
        """The call whose outputs were sent: one of the last round."""
        rounds = len(self.durations)
        return (rounds - 1) * self.number + kept_of(self.salt, rounds - 1, self.number)

    @property
    def each(self) -> list[float]:
        """Seconds of a call, for each round."""
        return [seconds / self.number for seconds in self.durations]

    @property
    def beside(self) -> float:
        """Seconds of the judge's that no round took."""
        return self.wall - sum(self.durations)


@dataclass(frozen=True)
class Usual:
    """What a trusted worker takes beside its rounds.

    question: seconds of a question with one call. layout: seconds of each call. Both with their
    standard deviations, from question to question. sent: bytes of its outputs.
    """

    question: float
    spread: float
    layout: float
    layout_spread: float
    sent: int

    @classmethod
    def of(cls, trusted: Sequence[Chunk], brief: Sequence[Chunk]) -> Usual:
        """From its rounds, and its questions with a single call."""
        question = median(c.beside for c in brief)
        more = sum(c.beside - question for c in trusted)
        layout = max(0.0, more / sum(c.calls for c in trusted))
        varying = _deviation([(c.beside - question) / c.calls for c in trusted])
        spread = _deviation([c.beside for c in brief])
        return cls(question, spread, layout, varying, brief[0].sent)

    def on_the_way(self, chunks: Sequence[Chunk]) -> float:
        """Seconds that these questions may take but for laying out."""
        each = self.question + DEVIATIONS * self.spread
        return sum(each + max(0, c.sent - self.sent) / SENT for c in chunks)

    def beside(self, chunks: Sequence[Chunk]) -> float:
        """Seconds that they may take beside their rounds, but for a part of these."""
        mean = self.layout_spread * math.sqrt(2 / len(chunks))  # of theirs less the trusted one's
        layout = BESIDE * self.layout + DEVIATIONS * mean
        return self.on_the_way(chunks) + layout * sum(c.calls for c in chunks)


def disagreement(chunks: Sequence[Chunk], trusted: Sequence[Chunk], brief: Sequence[Chunk]) -> str:
    """What is wrong with a worker's clock, in words; nothing if it can be believed.

    brief: questions to the trusted worker with a single call.
    """
    usual = Usual.of(trusted, brief)
    wall, whole, timed = _seconds(chunks)
    late = AGREE * wall + usual.on_the_way(chunks)
    if whole - wall > 0.02 * wall or wall - whole > late or timed > whole:
        return (
            f"the worker's clock shows {whole:.3g} s ({timed:.3g} s of them in calls) for what "
            f"took {wall:.3g} s: does it replace or stop a clock?"
        )
    allowed = usual.beside(chunks) + HIDDEN * timed
    if wall - timed > allowed:
        calls = sum(c.calls for c in chunks)
        return (
            f"{calls:,} calls are said to take {timed:.3g} s, and {wall - timed:.3g} s passed "
            f"beside them: laying out and copying wants no more than {allowed:.3g} s"
        )
    return ""


def least_believed(
    chunks: Sequence[Chunk], trusted: Sequence[Chunk], brief: Sequence[Chunk]
) -> float:
    """The least part of the seconds of these rounds that would be believed, if they are true."""
    wall, _, timed = _seconds(chunks)
    allowed = Usual.of(trusted, brief).beside(chunks)
    return max(0.0, (wall - allowed) / (1 + HIDDEN) / timed)


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of normal values with this median absolute deviation."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _seconds(chunks: Sequence[Chunk]) -> tuple[float, float, float]:
    """By the judge's clock, by the worker's, and in rounds."""
    wall, whole = sum(c.wall for c in chunks), sum(c.whole for c in chunks)
    return wall, whole, sum(sum(c.durations) for c in chunks)
