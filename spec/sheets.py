"""The worksheet language: formulas of named quantities, for sizes that no kernel is run for.

A formula is written as on paper, ``layers * hkv * (d + dv) * bytes``, and may use every quantity
and every line above it; ``cdiv(a, b)`` is a / b rounded up. What is not given is None, and so is
every line that would need it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import prod
from typing import Any, TypeAlias

from kernelproof.spec.wording import unknown_word

Values: TypeAlias = Mapping[str, Any]

_LARGEST = 10**30  # products of several such numbers are still numbers in float64
_WHOLE = re.compile(r"[0-9]{1,31}(\.[0-9]{1,31})?(e\+?[0-9]{1,2})?")


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


_FUNCTIONS = {"min": min, "max": max, "cdiv": cdiv}


def names_in(formula: str) -> list[str]:
    """The quantities and lines that a formula uses.

    >>> names_in("cdiv(tokens, page) * page")
    ['page', 'tokens']
    """
    nodes = ast.walk(ast.parse(formula, mode="eval"))
    return sorted({n.id for n in nodes if isinstance(n, ast.Name)} - set(_FUNCTIONS))


def evaluate(formula: str, values: Values) -> Any:
    """The value of a formula; it is source code of this package, never what a user wrote."""
    return eval(formula, {"__builtins__": {}, **_FUNCTIONS}, dict(values))


@dataclass(frozen=True)
class Quantity:
    """What formulas are made of: a whole number, or one of ``choices``.

    default: a number, a word of ``choices``, or a formula of the quantities above; without one
        the quantity must be given, unless it is ``optional``.
    """

    name: str
    words: str
    default: int | str | None = None
    least: int = 1
    optional: bool = False
    choices: tuple[str, ...] = ()

    def read(self, given: object) -> int | str:
        """A value as it was given: ``2048``, ``19e12``, ``2x1024``. Raises ValueError."""
        text = str(given)
        if self.choices:
            if text not in self.choices:
                raise ValueError(unknown_word(text, self.name, self.choices))
            return text
        factors = text.split("x")
        numbers = [Decimal(f) if _WHOLE.fullmatch(f) else Decimal(-1) for f in factors]
        whole = all(n >= 0 and n == n.to_integral_value() for n in numbers)
        value = prod(map(int, numbers)) if whole else -1
        if not self.least <= value <= _LARGEST:
            raise ValueError(
                f"{self.name}={text}: wanted a whole number from {self.least} to 1e30, such as "
                "2048, 19e12 or 2x1024"
            )
        return value

    @property
    def formula(self) -> str:
        """What its default is worked out by."""
        return repr(self.default) if self.choices else str(self.default)


@dataclass(frozen=True)
class Line:
    """A number, its formula, its unit and what it is in words."""

    name: str
    formula: str
    unit: str
    words: str


@dataclass(frozen=True)
class Rule:
    """What must hold between quantities, and what is said where it does not."""

    formula: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Sheet:
    """A worksheet. Name = dotted path = file.

    rows, units: a table below the lines, by row and column, and the units of its columns.
    """

    name: str
    title: str
    source: str
    quantities: tuple[Quantity, ...]
    lines: tuple[Line, ...]
    rules: tuple[Rule, ...] = ()
    rows: Callable[[Values], Mapping[str, Values]] = lambda x: {}
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = [(q.name, q.formula) for q in self.quantities]
        known: set[str] = set()
        for name, formula in (*defaults, *((line.name, line.formula) for line in self.lines)):
            if name in known:
                raise ValueError(
                    f"{self.name}: two of its quantities and lines are called {name!r}"
                )
            if unknown := set(names_in(formula)) - known:
                raise ValueError(f"{self.name}: {name} uses {min(unknown)!r} before it is known")
            known.add(name)

    def values(self, given: Values) -> dict[str, Any]:
        """Every quantity and every line by name. Raises ValueError with one sentence."""
        try:
            values = self._quantities(given)
            for rule in self.rules:
                if not evaluate(rule.formula, values):
                    raise ValueError(rule.sentence.format_map(values))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        for line in self.lines:
            lacking = any(values[name] is None for name in names_in(line.formula))
            values[line.name] = None if lacking else evaluate(line.formula, values)
        return values

    def _quantities(self, given: Values) -> dict[str, Any]:
        names = [q.name for q in self.quantities]
        for name in given:
            if name not in names:
                raise ValueError(unknown_word(name, "quantity", names))
        wanted = [q for q in self.quantities if q.default is None and not q.optional]
        if lacking := [q for q in wanted if q.name not in given]:
            missing = ", ".join(f"{q.name} ({q.words})" for q in lacking)
            raise ValueError(f"wanted {missing}, as in {lacking[0].name}=64")
        values: dict[str, Any] = {}
        for q in self.quantities:
            values[q.name] = (
                q.read(given[q.name]) if q.name in given else evaluate(q.formula, values)
            )
        return values
