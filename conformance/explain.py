"""A spec as a page with numbers: what is asked, how exactly, at which cost."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kernelproof.conformance.complexity import closed_form
from kernelproof.conformance.expectation import draw, evaluate
from kernelproof.conformance.statistics import judge_statistics
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.derivative import derivative
from kernelproof.spec.domain import Case
from kernelproof.spec.language import ON_CHIP, Call, Clause, Program, Sizes, Spec
from kernelproof.spec.machines import MACHINES
from kernelproof.spec.rounding import DTYPES, resolve_precision
from kernelproof.spec.statistics import CHANCE
from kernelproof.spec.wording import unknown_word

_USUAL = {
    "b": 1,
    "d": 64,
    "t": 1024,
    "tq": 1024,
    "tk": 1024,
    "m": 1024,
    "n": 1024,
    "k": 1024,
    "r": 1024,
    "e": 1024,
    "capacity": 1024,
    "window": 1024,
    "pages": 1024,
    "page": 16,
}
_SAMPLE = 128  # length of the case that bounds are shown for
_MEANT = {
    "useful": "FLOPs that outputs depend on",
    "flops": "FLOPs of products with these tiles",
    "exps": "exponentials",
    "operations": "floating-point operations but exponentials",
    "additions": "additions beside those in products",
    "compulsory": "bytes, each needed element once",
    "lower": f"bytes, lower bound with {ON_CHIP >> 10} KiB on chip",
    "traffic": "bytes moved with these tiles",
    "cap": "bytes, the most that passes",
    "memory": "bytes held beside inputs and outputs, at most",
}
_INTENSITY = {
    "read": "FLOP per byte read, each needed element once",
    "compulsory": "FLOP per compulsory byte",
    "traffic": "FLOP per byte moved",
}


def explain(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The page as plain data. Raises LookupError and ValueError with one sentence each."""
    spec = load_spec(name)
    case, options, tiles = _read(spec, words)
    dtype, axes, x = case.dtype, dict(case.axes), spec.sizes(case, options, tiles)
    held = {name: size for name, size in x.axes.items() if name not in axes}
    best = {**spec.costs.best_tiles(x), **tiles}
    x = x.with_tiles(**best)
    costs = {metric: int(getattr(spec.costs, metric)(x)) for metric in _MEANT}
    return {
        "name": spec.name,
        "title": spec.title,
        "source": spec.source,
        "definition": inspect.getdoc(inspect.getmodule(spec.reference)) or "",
        "call": spec.signatures,
        "dtype": dtype,
        "axes": {**axes, **held},
        "options": options,
        "tiles": best,
        "costs": costs,
        "variants": {name: int(form(x)) for name, form in spec.costs.variants.items()},
        "intensity": {
            what: costs["useful"] / moved for what, moved in _bytes(spec, x, costs).items() if moved
        },
        "roofline": {name: _roof(name, costs, dtype) for name in MACHINES},
        "accuracy": _accuracy(spec, axes, options),
        "gradients": _accuracy(derivative(spec), axes, options) if spec.backward else {},
        "clauses": {clause.anchor: _clause(spec, clause) for clause in spec.clauses},
        "statistics": {c.anchor: _statistics(spec, c) for c in spec.clauses if c.statistic},
        "growth": {c.anchor: _growth(spec, c) for c in spec.clauses if c.growth},
        "mutants": {mutant.name: mutant.sentence for mutant in spec.mutants},
        "gradient_mutants": {
            mutant.name: mutant.sentence
            for mutant in (spec.backward.mutants if spec.backward else ())
        },
    }


def _clause(spec: Spec, clause: Clause) -> str:
    """Its sentence, and of a property the options for which it holds."""
    scope = f" {clause.relation.scope(spec.option_names())}" if clause.relation else ""
    return f"{clause.sentence}{scope}"


def _statistics(spec: Spec, clause: Clause) -> list[str]:
    """What the check measures of the reference in the first of its cases, and what it would see."""
    assert clause.statistic
    case = spec.case(f"{spec.domain.dtypes[0]}/{(*clause.smoke, *clause.core)[0]}")
    step = draw(spec, case, "0")[0]
    with np.errstate(all="ignore"):
        record = evaluate(spec, case, [step], np.float64)[0]
    inputs = {name: np.asarray(x).astype(np.float64) for name, x in step.inputs.items()}
    outputs = {name: np.asarray(getattr(record, name)) for name in spec.output_names}
    measured = clause.statistic.measure(inputs, step.options, outputs)
    return [each.words for each in judge_statistics(measured)]


def _growth(spec: Spec, clause: Clause) -> dict[str, Any]:
    """The exponent that is claimed, and that of the closed form at the sizes of the check."""
    assert clause.growth
    return {
        "metric": clause.metric,
        "axes": list(clause.growth.axes),
        "sizes": list(clause.growth.sizes),
        "claimed": clause.growth.exponent,
        "closed_form": list(closed_form(spec, clause)),
    }


def _bytes(spec: Spec, x: Sizes, costs: Mapping[str, int]) -> dict[str, int]:
    """What FLOPs are set against: bytes of inputs read once, these and the outputs, all moved."""
    tensors = {t.name: t for o in spec.call.operations.values() for t in o.inputs}
    items = {n: np.dtype(t.dtype).itemsize if t.dtype else x.item for n, t in tensors.items()}
    moved = {"compulsory": costs["compulsory"], "traffic": costs["traffic"]}
    if isinstance(spec.call, Program):  # what it holds is no input
        return moved
    return {"read": sum(n * items[name] for name, n in spec.costs.reads(x).items()), **moved}


def _roof(name: str, costs: Mapping[str, int], dtype: str) -> dict[str, Any]:
    """No kernel is faster: caches may spare what tiles read twice, never what is compulsory."""
    seconds, bound = MACHINES[name].seconds(costs["useful"], costs["compulsory"], dtype)
    return {"seconds": seconds, "bound": bound}


def _read(spec: Spec, words: Sequence[str]) -> tuple[Case, dict[str, Any], dict[str, int]]:
    """Words such as ``tq=4096``: a case, its options and tiles. Raises ValueError."""
    names = tuple(dict.fromkeys((*spec.call.axes, *spec.costs.tiles, *_options(spec), "dtype")))
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"{word!r}: wanted axis=value, as in {spec.call.axes[-1]}=64")
        if name not in names:
            raise ValueError(f"{spec.name}: {unknown_word(name, 'axis or option', names)}")
        given[name] = value
    dtype = given.get("dtype", "float16")
    if dtype not in DTYPES:
        raise ValueError(unknown_word(dtype, "dtype", DTYPES))
    axes: dict[str, int] = {}
    for axis in spec.call.axes:
        source = spec.call.axis_defaults.get(axis)
        usual = axes[source] if source in axes else _USUAL.get(axis, 1)
        axes[axis] = _natural(axis, given[axis]) if axis in given else usual
    tiles = {role: _natural(role, given[role]) for role in spec.costs.tiles if role in given}
    words_given = {name: given[name] for name in _options(spec) if name in given}
    case = spec.case(_case(spec, dtype, axes, words_given))
    return case, {name: value for name, value in case.options if name in given}, tiles


def _options(spec: Spec) -> list[str]:
    """Options that a word or a number says in full; the others are drawn."""
    return [
        name
        for name, values in spec.domain.options.items()
        if not callable(values) and not isinstance(values, Mapping)
    ]


def _natural(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise ValueError(f"{name}={value}: wanted a whole number above 0")
    return int(value)


def _case(spec: Spec, dtype: str, axes: Mapping[str, int], options: Mapping[str, Any]) -> str:
    sizes = ".".join(f"{axis}{size}" for axis, size in axes.items())
    words = "+".join(f"{name}-{value}" for name, value in options.items())
    if isinstance(spec.call, Program):
        words = f"steps-{spec.call.example}"
    return f"{dtype}/{sizes}/{words or 'default'}/normal"


def _accuracy(
    spec: Spec, axes: Mapping[str, int], options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Per dtype the default roundings, and the error allowed on normal inputs of these sizes,
    or of smaller ones where they are large."""
    if not isinstance(spec.call, Call):
        return {}
    # one of a batch is bounded like all, and fits what smaller sizes hold
    sample = {n: min(size, 1 if n == "b" else _SAMPLE) for n, size in axes.items()}
    found = {}
    for dtype in DTYPES:
        case = spec.case(_case(spec, dtype, sample, options))
        steps = draw(spec, case, "0")
        with np.errstate(all="ignore"):
            record = evaluate(spec, case, steps, np.float64)[0]
            precision = resolve_precision(None, dtype)
            bounds = spec.accuracy.worst_case(record, precision.rounding(dtype))
        found[dtype] = {
            "preset": precision.name,
            "case": case.id,
            "bound": {
                output: {"median": float(np.median(bound)), "largest": float(bound.max())}
                for output, bound in bounds.items()
            },
        }
    return found


def write_page(page: Mapping[str, Any]) -> None:
    """Print it."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{page['name']}[/]  {page['title']} ({page['source']})")
    console.print(textwrap.indent(page["definition"], "  "), markup=False)
    console.print()
    for line in page["call"]:
        console.print(f"  {line}", markup=False)
    sizes = {**page["axes"], **page["options"], **page["tiles"]}
    console.print(
        f"\n[bold]Work[/]  {page['dtype']}  " + "  ".join(f"{n}={v}" for n, v in sizes.items())
    )
    table = _table()
    for metric, value in page["costs"].items():
        if value:
            table.add_row(_MEANT[metric], f"{value:,}", _short(value))
    for name, value in page["variants"].items():
        table.add_row(f"bytes of {name}", f"{value:,}", _short(value))
    for what, intensity in page["intensity"].items():
        table.add_row(_INTENSITY[what], f"{intensity:.1f}", "")
    console.print(table, soft_wrap=False)
    ieee = "  in IEEE arithmetic; TF32 is" if page["dtype"] == "float32" else ""
    console.print(f"\n[bold]No kernel is faster than[/]{ieee}")
    table = _table()
    for name, roof in page["roofline"].items():
        source = MACHINES[name].source
        table.add_row(
            name, f"{roof['seconds'] * 1e6:,.2f} µs", f"{roof['bound']}-bound  ({source})"
        )
    console.print(table, soft_wrap=False)
    _write_accuracy(console, page["accuracy"], "Error allowed")
    _write_accuracy(console, page["gradients"], "Error allowed of gradients")
    _write_growth(console, page["growth"])
    _write_statistics(console, page["statistics"])
    console.print("\n[bold]Clauses[/]")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    for anchor, sentence in page["clauses"].items():
        table.add_row(anchor, escape(sentence))
    console.print(table, soft_wrap=False)
    planted = len(page["mutants"]) + len(page["gradient_mutants"])
    console.print(f"\n{planted} planted bugs are exposed by its cases.")


def _write_accuracy(console: Console, accuracy: Mapping[str, Any], title: str) -> None:
    if not accuracy:
        return
    first = next(iter(accuracy.values()))
    case = first["case"].partition("/")[2]
    console.print(f"\n[bold]{title}[/]  on {case}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="")
    for column in ("", "", *(f"{output}: median, largest" for output in first["bound"])):
        table.add_column(column, justify="right" if column else "left")
    for dtype, found in accuracy.items():
        cells = [f"{b['median']:.2g}, {b['largest']:.2g}" for b in found["bound"].values()]
        table.add_row(dtype, found["preset"], *cells)
    console.print(table, soft_wrap=False)


def _write_growth(console: Console, growth: Mapping[str, Any]) -> None:
    if not growth:
        return
    console.print("\n[bold]Growth[/]  powers claimed, and of the closed forms")
    table = _table()
    for anchor, found in growth.items():
        axes, sizes = " = ".join(found["axes"]), found["sizes"]
        shown = f"{found['claimed']:.4g}, {found['closed_form'][0]:.4g}"
        table.add_row(anchor, shown, f"{axes} from {sizes[0]} to {sizes[-1]}")
    console.print(table, soft_wrap=False)


def _write_statistics(console: Console, statistics: Mapping[str, Sequence[str]]) -> None:
    if not statistics:
        return
    console.print(
        f"\n[bold]Statistics[/]  of the reference; false alarms below {CHANCE:g} per check, "
        "whatever the distribution of the draws"
    )
    for anchor, estimates in statistics.items():
        console.print(f"  {anchor}", markup=False)
        for words in estimates:
            console.print(f"    {words}", markup=False)


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    return table


def _short(value: int) -> str:
    """12,884,901,888 is 12.9 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return ""
