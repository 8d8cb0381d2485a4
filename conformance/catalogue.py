"""What there is: specs with their clauses, implementations with what they claim, worksheets."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kernelproof.conformance.suite import Suite
from kernelproof.spec.catalogue import load_sheet, load_spec, matches, sheet_names, spec_names
from kernelproof.spec.language import Call


def catalogue(suite: Suite) -> dict[str, Any]:
    """Specs, implementations and worksheets as plain data."""
    names, sheets = (
        [n for n in known if matches(n, suite.settings.specs)]
        for known in (spec_names(), sheet_names())
    )
    suite.read()
    return {
        "specs": [_spec(name) for name in names],
        "implementations": [
            {
                "spec": each.spec.name,
                "name": each.name,
                "backends": list(each.backends),
                "dtypes": list(each.dtypes),
                "options": sorted(each.options),
                "returns": list(each.returns),
                "precision": {d: each.precision_at(d).name for d in each.dtypes},
                "limits": each.limits,
                "deviates": each.deviates,
                "gradients": list(each.gradients),
            }
            for each in suite.implementations
            if each.spec.name in names
        ],
        "sheets": [_sheet(name) for name in sheets],
        "problems": [r.result.message for r in suite.registrations() if r.result.verdict.failing],
    }


def _spec(name: str) -> dict[str, Any]:
    spec = load_spec(name)
    operations = {
        operation: {
            "inputs": {t.name: " ".join(t.axes) for t in o.inputs},
            "given": dict(o.given),
            "options": list(o.options),
            "outputs": {t.name: " ".join(t.axes) for t in o.outputs},
        }
        for operation, o in spec.call.operations.items()
    }
    return {
        "name": name,
        "title": spec.title,
        "source": spec.source,
        "kind": "function" if isinstance(spec.call, Call) else "program",
        "operations": operations,
        "clauses": {c.anchor: c.sentence for c in spec.clauses},
        "mutants": {m.name: m.sentence for m in spec.mutants},
        "families": {f.name: f.sentence for f in spec.domain.families.values()},
    }


def _sheet(name: str) -> dict[str, Any]:
    sheet = load_sheet(name)
    return {
        "name": name,
        "title": sheet.title,
        "source": sheet.source,
        "quantities": {
            q.name: {
                "words": q.words,
                "default": q.default,
                "optional": q.optional,
                "choices": list(q.choices),
            }
            for q in sheet.quantities
        },
        "lines": {line.name: line.formula for line in sheet.lines},
    }


def write_catalogue(found: dict[str, Any]) -> None:
    """Print it."""
    console = Console(highlight=False, soft_wrap=True)
    for spec in found["specs"]:
        console.print(f"[bold]{spec['name']}[/]  {spec['title']} ({spec['source']})")
        for line in load_spec(spec["name"]).signatures:
            console.print(f"  {line}", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        for anchor, sentence in spec["clauses"].items():
            table.add_row(anchor, escape(sentence))
        console.print(table, soft_wrap=False)
        for each in found["implementations"]:
            if each["spec"] == spec["name"]:
                runs = "  ".join((" ".join(each["backends"]), " ".join(each["dtypes"])))
                console.print(f"  [green]{each['name']}[/]  {runs}")
        console.print()
    for sheet in found["sheets"]:
        console.print(f"[bold]{sheet['name']}[/]  {sheet['title']} ({sheet['source']})")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        for name, quantity in sheet["quantities"].items():
            default = "" if quantity["default"] is None else f"= {quantity['default']}"
            table.add_row(name, "optional" if quantity["optional"] else default, quantity["words"])
        console.print(table, soft_wrap=False)
        console.print()
    for problem in found["problems"]:
        console.print(f"[red]{problem}[/]")
