"""Where the store of a run lies."""

from __future__ import annotations

import os
from pathlib import Path

from kernelproof.conformance.history.revision import root_of

FOLDER = ".kernelproof"
VARIABLE = "KERNELPROOF_STORE"


def store_folder(given: str | Path | None = None) -> Path:
    """What is given, else KERNELPROOF_STORE, else ``.kernelproof`` in the root of the repository of
    the current folder, or in that folder. Raises RevisionError."""
    return named_store(given) or (root_of(Path.cwd()) or Path.cwd()) / FOLDER


def store_if_any(root: Path, given: str | Path | None = None) -> Path | None:
    """What is given, else KERNELPROOF_STORE, else the store that lies in ``root``, if one does."""
    usual = root / FOLDER
    return named_store(given) or (usual if usual.is_dir() else None)


def named_store(given: str | Path | None) -> Path | None:
    """What is given or in KERNELPROOF_STORE, if anything is."""
    chosen = given or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else None
