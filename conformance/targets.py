"""Targets: what the user names on the command line, before anything of it is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENTRY_POINT_GROUP = "kernelproof.implementations"


@dataclass(frozen=True)
class Target:
    """A Python file or a module, perhaps one callable in it; ``text`` as the user wrote it.

    installed: found through an entry point; the user wrote nothing.
    """

    text: str
    path: str | None = None
    module: str | None = None
    callable: str | None = None
    spec: str | None = None
    dtypes: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    map: Mapping[str, str] = field(default_factory=dict)
    gradients: bool = False
    installed: bool = False

    def words(self) -> list[str]:
        """The words of a command line that name it."""
        words = [] if self.installed else [self.text]
        words += ["--returns", ",".join(self.returns)] if self.returns else []
        mapping = ",".join(f"{option}={keyword}" for option, keyword in self.map.items())
        words += ["--map", mapping] if mapping else []
        return [*words, *["--gradients"] * self.gradients]

    def to_json(self) -> dict[str, Any]:
        """What the worker needs to load it."""
        return {**vars(self), "dtypes": list(self.dtypes), "returns": list(self.returns)}


def parse_target(
    text: str,
    *,
    spec: str | None = None,
    dtypes: Sequence[str] = (),
    returns: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    gradients: bool = False,
    folder: Path | None = None,
) -> Target:
    """Read ``kernels.py``, ``pkg.module`` or either with ``:callable``. Raises ValueError.

    folder: relative paths start there, else in the current folder.
    """
    place, colon, name = text.rpartition(":") if ":" in text else (text, "", "")
    path: Path | None = None
    looks_like_path = place.endswith(".py") or "/" in place
    if colon and not name:
        raise ValueError(f"target {text}: wanted a name behind the colon")
    if looks_like_path:
        path = ((folder or Path()) / Path(place).expanduser()).resolve()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise ValueError(
                f"target {text}: {place} {what}: wanted a Python file or a module name"
            )
    elif not re.fullmatch(r"[A-Za-z_][\w.]*", place):
        raise ValueError(
            f"target {text!r}: wanted kernels.py, package.module, or either with :callable"
        )
    return Target(
        text,
        path=str(path) if path else None,
        module=None if path else place,
        callable=name if colon else None,
        spec=spec if colon else None,
        dtypes=tuple(dtypes) if colon else (),
        returns=tuple(returns) if colon else (),
        map=dict(mapping or {}) if colon else {},
        gradients=gradients and bool(colon),
    )


def has_triton() -> bool:
    """Whether Triton is installed; it is not imported."""
    return importlib.util.find_spec("triton") is not None


def entry_point_targets() -> list[Target]:
    """Installed implementations, the built-in ones among them; those in Triton where it is."""
    found = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))
    if not has_triton():
        found = [point for point in found if point.value != "kernelproof.impls.triton"]
    return [
        Target(point.value, module=point.value, installed=True) for point in dict.fromkeys(found)
    ]


def parse_map(text: str) -> dict[str, str]:
    """Read ``causal:top-left=is_causal,mask=attn_mask``. Raises ValueError."""
    mapping = {}
    for part in filter(None, map(str.strip, text.split(","))):
        option, equals, keyword = part.partition("=")
        if not equals or not keyword.isidentifier():
            raise ValueError(
                f"--map {part!r}: wanted option=keyword or option:value=keyword, as in "
                "causal:top-left=is_causal,mask=attn_mask"
            )
        mapping[option] = keyword
    return mapping
