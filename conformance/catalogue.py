"""What there is: specs with their clauses, and implementations with what they claim."""

from __future__ import annotations

import fnmatch
from typing import Any

from rich.console import Console
from rich.table import Table

from kernelproof.conformance.suite import Suite
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.language import Call


def catalogue(suite: Suite) -> dict[str, Any]:
    """Specs and implementations as plain data."""
    names = [
        n for n in spec_names() if any(fnmatch.fnmatchcase(n, p) for p in suite.settings.specs)
    ]
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
            }
            for each in suite.implementations
            if each.spec.name in names
        ],
        "problems": [r.result.message for r in suite.registrations() if r.result.verdict.failing],
    }


def _spec(name: str) -> dict[str, Any]:
    spec = load_spec(name)
    operations = {
        operation: {
            "inputs": {t.name: " ".join(t.axes) for t in o.inputs},
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


def write_catalogue(found: dict[str, Any]) -> None:
    """Print it."""
    console = Console(highlight=False, soft_wrap=True)
    for spec in found["specs"]:
        console.print(f"[bold]{spec['name']}[/]  {spec['title']} ({spec['source']})")
        for line in load_spec(spec["name"]).signatures:
            console.print(f"  {line}")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        for anchor, sentence in spec["clauses"].items():
            table.add_row(anchor, sentence)
        console.print(table, soft_wrap=False)
        for each in found["implementations"]:
            if each["spec"] == spec["name"]:
                runs = "  ".join((" ".join(each["backends"]), " ".join(each["dtypes"])))
                console.print(f"  [green]{each['name']}[/]  {runs}")
        console.print()
    for problem in found["problems"]:
        console.print(f"[red]{problem}[/]")
