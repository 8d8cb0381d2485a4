"""Both runs of a comparison, with their verdicts, into the store: judged first, then saved."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

from kernelproof import __version__
from kernelproof.conformance.history.measurement import Run
from kernelproof.conformance.history.store import Store, StoreError
from kernelproof.conformance.regression.outcome import Outcome


def keep(outcome: Outcome, folder: Path | None) -> Iterator[str]:
    """Save both runs; yield why one could not be."""
    if folder is None:
        return
    revisions = {"base": outcome.base, "head": outcome.head}
    for side, revision in revisions.items():
        measurements = outcome.measurements[side]
        if not measurements:
            continue
        run = Run(
            id=uuid.uuid4().hex,
            started=outcome.started,
            commit=revision.commit,
            dirty=revision.dirty,
            kernelproof=__version__,
            seed=outcome.seed,
            measurements=measurements,
            label=f"gate {side}",
        )
        try:
            Store(folder).add(run)
        except StoreError as error:
            yield f"{side}: {error}"
