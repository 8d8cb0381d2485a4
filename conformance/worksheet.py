"""A worksheet as a page: its formulas, worked out for given quantities."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.table import Table

from kernelproof.spec.catalogue import load_sheet
from kernelproof.spec.machines import MACHINES

_SECONDS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def work_out(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The page as plain data, for words such as ``layers=96``. Raises ValueError."""
    sheet, given = load_sheet(name), {}
    for word in words:
        quantity, equals, value = word.partition("=")
        if not equals or not value:
            wanted = f"wanted name=value, as in {sheet.quantities[0].name}=64"
            raise ValueError(f"{sheet.name}: {word!r}: {wanted}")
        if quantity in given:
            raise ValueError(f"{sheet.name}: {quantity} is given twice: wanted it once")
        given[quantity] = value
    values = sheet.values(given)
    return {
        "name": sheet.name,
        "title": sheet.title,
        "source": sheet.source,
        "definition": inspect.getdoc(import_module(f"kernelproof.spec.{name}")) or "",
        "quantities": {q.name: values[q.name] for q in sheet.quantities},
        "lines": {
            line.name: {
                "formula": line.formula,
                "value": values[line.name],
                "unit": line.unit,
                "words": line.words,
            }
            for line in sheet.lines
            if values[line.name] is not None
        },
        "rows": sheet.rows(values),
        "units": dict(sheet.units),
    }


def write_worksheet(page: Mapping[str, Any]) -> None:
    """Print it."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{page['name']}[/]  {page['title']} ({page['source']})")
    console.print(textwrap.indent(page["definition"], "  "), markup=False)
    given = {name: value for name, value in page["quantities"].items() if value is not None}
    words = "  ".join(f"{name}={_grouped(value)}" for name, value in given.items())
    console.print(f"\n[bold]For[/]  {words}")
    _write_lines(console, page["lines"])
    if page["rows"]:
        _write_rows(console, page)


def _write_lines(console: Console, lines: Mapping[str, Any]) -> None:
    numbers = [(name, *_number(line["value"], line["unit"])) for name, line in lines.items()]
    room = console.width - sum(max(map(len, cells)) + 2 for cells in zip(*numbers, strict=True))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for cells, line in zip(numbers, lines.values(), strict=True):
        words, formula = line["words"], line["formula"]
        between = ": " if len(f"{words}: {formula}") <= room else ":\n"  # a formula stays whole
        table.add_row(*cells, f"{words}{between}[dim]{formula}[/]")
    console.print(table, soft_wrap=False)


def _write_rows(console: Console, page: Mapping[str, Any]) -> None:
    columns = list(dict.fromkeys(c for row in page["rows"].values() for c in row))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column in ("", *columns, ""):
        table.add_column(column, justify="right" if column in page["units"] else "left")
    for name, row in page["rows"].items():
        cells = [_cell(row[c], page["units"][c]) if c in row else "" for c in columns]
        table.add_row(name, *cells, MACHINES[name].source if name in MACHINES else "")
    console.print()
    console.print(table, soft_wrap=False)


def _grouped(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _number(value: float, unit: str) -> tuple[str, str]:
    """In full, and short: 19,327,352,832 and 19.3 GB."""
    if unit == "FLOP/byte":
        return _digits(value), unit
    whole = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"
    for prefix, size in _PREFIXES:
        if value >= size:
            return whole, f"{value / size:.3g} {prefix}{unit.replace('bytes', 'B')}"
    return whole, unit


def _cell(value: float | str, unit: str) -> str:
    """A number with its unit; a word as it is."""
    if isinstance(value, str):
        return value
    if unit == "s":
        name, size = next((n, s) for n, s in _SECONDS if value >= s or n == "ns")
        return f"{_digits(value / size)} {name}"
    return f"{value:.0%}" if unit == "%" else _digits(value)


def _digits(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
