"""Where the store of a run lies."""

from __future__ import annotations

import os
from pathlib import Path

from kernelproof.conformance.history.revision import root_of

FOLDER = ".kernelproof"


def store_folder(given: str | Path | None = None) -> Path:
    """What is given, else KERNELPROOF_STORE, else ``.kernelproof`` in the root of the repository of
    the current folder, or in that folder. Raises RevisionError."""
    if chosen := given or os.environ.get("KERNELPROOF_STORE"):
        return Path(chosen).expanduser()
    return (root_of(Path.cwd()) or Path.cwd()) / FOLDER
