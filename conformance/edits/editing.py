"""What an edit is: a few texts of one source, replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kernelproof.spec.language import Metric

Replacement: TypeAlias = tuple[str, str]
Rows: TypeAlias = Mapping[str, tuple[str, *tuple[Replacement, ...]]]
"""Edits by name: a sentence, and the texts to replace."""


@dataclass(frozen=True)
class Edit:
    """A planted bug. One that has the name of a mutant of the spec is an instance of it.

    metric: of an edit that leaves the values right, the count that must fail it; None: values.
    harmless: dtypes in which the edit is no bug, each with the reason.
    """

    name: str
    sentence: str
    replacements: tuple[Replacement, ...]
    metric: Metric | None = None
    harmless: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Edited:
    """One built-in implementation and the edits of it.

    name, function: as it is registered, and what it is called in its module.
    kernels: the module, below impls, that it takes its kernel from, if it has none of its own.
    of_kernels: edits of that module.
    """

    name: str
    function: str
    edits: tuple[Edit, ...]
    kernels: str = ""
    of_kernels: tuple[Edit, ...] = ()


def wrong_values(
    rows: Rows, harmless: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[Edit, ...]:
    """Edits that make an implementation wrong. harmless: by name, as in :class:`Edit`."""
    return _edits(rows, None, harmless or {})


def wrong_costs(metric: Metric, rows: Rows) -> tuple[Edit, ...]:
    """Edits that leave the values right and make this count too large."""
    return _edits(rows, metric, {})


def _edits(
    rows: Rows, metric: Metric | None, harmless: Mapping[str, Mapping[str, str]]
) -> tuple[Edit, ...]:
    if unknown := set(harmless) - set(rows):
        raise ValueError(f"harmless speaks of {', '.join(sorted(unknown))}: no edit has that name")
    return tuple(
        Edit(name, sentence, tuple(replacements), metric, harmless.get(name, {}))
        for name, (sentence, *replacements) in rows.items()
    )


def edited(source: str, edit: Edit) -> str:
    """The source with every text replaced. Raises ValueError unless each occurs exactly once.

    >>> edited("x + y", Edit("minus", "subtracts", (("+", "-"),)))
    'x - y'
    """
    for old, new in edit.replacements:
        if (count := source.count(old)) != 1:
            raise ValueError(f"edit {edit.name}: {old!r} occurs {count} times: wanted once")
        source = source.replace(old, new)
    return source
