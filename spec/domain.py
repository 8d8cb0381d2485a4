"""Cases: points of a spec's domain, with ids that are stable and can be typed.

``float16/b1.h2.tq129.tk129.d64/causal-bottom-right/normal`` is dtype, axes, options, input
family, and behind those a memory layout unless the inputs are contiguous.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.spec.rounding import DTYPES

Scalar: TypeAlias = str | float | int
Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Draw: TypeAlias = Callable[
    [np.random.Generator, Mapping[str, tuple[int, ...]], Mapping[str, Any]], Arrays
]
DrawOption: TypeAlias = Callable[[np.random.Generator, Mapping[str, int]], Any]
FreeText: TypeAlias = Callable[[np.random.Generator], str]
OptionValues: TypeAlias = Sequence[Scalar] | Mapping[str, DrawOption] | FreeText

LAYOUTS: Mapping[str, str] = {
    "contiguous": "row-major, nothing around it",
    "transposed": "the two axes before the last are swapped in memory (of a matrix, its two axes)",
    "columns": "the last two axes are swapped in memory: the last stride is not 1",
    "sliced": "every axis is a slice of a longer one; what lies between holds NaN",
    "offset": "starts at an odd element of a larger storage that holds NaN elsewhere",
    "expanded": "stride 0 along the first axis",
    "repeated": "stride 0 along the second axis, as of keys that heads share",
    "mixed": "each input has another of the layouts transposed, sliced, columns and offset",
    "far": "pages lie so far apart that the last one begins beyond 2^31 elements",
}

REPEATING = ("expanded", "repeated")
"""Layouts of stride 0: the same numbers stand in several places."""

FAR = 1 << 31
"""How many elements lie before the last page in the layout ``far``, at least: an offset of 32 bits
does not reach it."""


@dataclass(frozen=True)
class Family:
    """How numbers are drawn. ``generic`` families have independent rounding errors; on the
    others (coherent) errors may add up, and only worst-case bounds hold. ``special`` ones hold
    NaN or infinities: they are for the clauses that say what follows, and no random case has one.
    """

    name: str
    sentence: str
    draw: Draw
    generic: bool = False
    special: bool = False


def families(
    *,
    generic: Mapping[str, tuple[str, Draw]],
    coherent: Mapping[str, tuple[str, Draw]],
    special: Mapping[str, tuple[str, Draw]] | None = None,
) -> Mapping[str, Family]:
    """Families from a table: name to sentence and draw function."""
    return {
        name: Family(name, sentence, draw, generic=table is generic, special=table is special)
        for table in (generic, coherent, special or {})
        for name, (sentence, draw) in table.items()
    }


def changed(
    normal: Draw, change: Callable[[np.random.Generator, Arrays, Mapping[str, Any]], None]
) -> Draw:
    """Draws as ``normal`` does, and changes the numbers in place where there are any."""

    def draw(
        rng: np.random.Generator,
        shapes: Mapping[str, tuple[int, ...]],
        options: Mapping[str, Any],
    ) -> Arrays:
        drawn = normal(rng, shapes, options)
        if all(array.size for array in drawn.values()):
            change(rng, drawn, options)
        return drawn

    return draw


DrawInput: TypeAlias = Callable[[np.random.Generator, tuple[int, ...], Family], npt.NDArray[Any]]
"""Draws an input of this shape, to go with a family."""


def with_inputs(family: Family, inputs: Mapping[str, DrawInput]) -> Family:
    """A family that draws these inputs, too."""

    def draw(
        rng: np.random.Generator,
        shapes: Mapping[str, tuple[int, ...]],
        options: Mapping[str, Any],
    ) -> Arrays:
        shared = {name: shape for name, shape in shapes.items() if name not in inputs}
        own = {name: each(rng, shapes[name], family) for name, each in inputs.items()}
        return {**family.draw(rng, shared, options), **own}

    return replace(family, draw=draw) if inputs else family


@dataclass(frozen=True)
class Case:
    """One point of a domain, for one dtype."""

    dtype: str
    axes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, Scalar], ...]
    family: str
    layout: str = "contiguous"
    hidden_axes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def id(self) -> str:
        """The id from which :meth:`kernelproof.spec.language.Spec.case` makes it again."""
        axes = ".".join(f"{n}{size}" for n, size in self.axes if n not in self.hidden_axes)
        # a plus sign stands between options: 1e+30 is written 1e30
        words = (f"{name}-{value}".replace("e+", "e") for name, value in self.options)
        options = "+".join(words) or "default"
        layout = () if self.layout == "contiguous" else (self.layout,)
        return "/".join((self.dtype, axes, options, self.family, *layout))

    def with_dtype(self, dtype: str) -> Case:
        """The same point for another dtype."""
        return replace(self, dtype=dtype)


@dataclass(frozen=True)
class Domain:
    """The space of inputs of a spec.

    sizes: per axis the smallest and largest size of a random case.
    options: per option its values; a mapping draws the argument that a value stands for; a
        function draws free text (the steps of a program). What is no keyword of the call shapes
        its inputs alone.
    smoke, core, full: accuracy cases per tier, each beside those of the tiers before it.
    timed: cases whose time is measured; without any, that of smoke and core with the most work.
    cuttable: whether elements of one draw beside those of another are as good as a draw.
    coherent: whether with these options errors add up, whatever the input family.
    layouts: those in which its inputs can lie.
    """

    sizes: Mapping[str, tuple[int, int]]
    families: Mapping[str, Family]
    options: Mapping[str, OptionValues]
    smoke: Sequence[str]
    core: Sequence[str] = ()
    full: Sequence[str] = ()
    timed: Sequence[str] = ()
    cuttable: bool = True
    dtypes: Sequence[str] = DTYPES
    constrain: Callable[[dict[str, int], Mapping[str, Scalar], str], None] | None = None
    coherent: Callable[[Mapping[str, Scalar]], bool] = lambda options: False
    layouts: Sequence[str] = tuple(layout for layout in LAYOUTS if layout != "far")

    def generic(self, case: Case) -> bool:
        """Whether rounding errors are independent: no two rows are the same, no weights equal."""
        repeats = case.layout in REPEATING or self.coherent(dict(case.options))
        return self.families[case.family].generic and not repeats

    def draw_option(
        self, name: str, value: Scalar, rng: np.random.Generator, sizes: Mapping[str, int]
    ) -> Any:
        """The argument that this value of an option stands for."""
        values = self.options[name]
        return values[str(value)](rng, sizes) if isinstance(values, Mapping) else value

    def check(self, case: Case) -> None:
        """Raise ValueError where sizes, options, family and layout do not go together."""
        if case.layout not in self.layouts:
            raise ValueError(f"layout {case.layout}: wanted {', '.join(self.layouts)}")
        if self.constrain:
            self.constrain(dict(case.axes), dict(case.options), case.family)

    def random_cases(
        self, rng: np.random.Generator, axes: Sequence[str], defaults: Mapping[str, str]
    ) -> Iterator[Case]:
        """Points drawn at random without end: sizes log-uniform, options at even odds."""
        while True:
            sizes = {axis: _log_uniform(rng, *self.sizes[axis]) for axis in axes}
            for axis, source in defaults.items():
                if rng.random() < 0.7:
                    sizes[axis] = sizes[source]
            options = {
                name: values(rng) if callable(values) else list(values)[rng.integers(len(values))]
                for name, values in self.options.items()
                if callable(values) or rng.random() < 0.5
            }
            generic = [name for name, family in self.families.items() if family.generic]
            case = make_case(
                str(rng.choice(list(self.dtypes))),
                sizes,
                options,
                str(rng.choice(generic)),
                str(rng.choice(["contiguous", "transposed", "sliced", "offset"])),
                defaults,
            )
            try:
                self.check(case)
            except ValueError:
                continue
            yield case


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def make_case(
    dtype: str,
    sizes: Mapping[str, int],
    options: Mapping[str, Scalar],
    family: str,
    layout: str,
    defaults: Mapping[str, str],
) -> Case:
    """A case from its parts; an axis as large as its default is left out of the id."""
    hidden = tuple(axis for axis, source in defaults.items() if sizes[axis] == sizes[source])
    return Case(dtype, tuple(sizes.items()), tuple(options.items()), family, layout, hidden)


def parse_case(text: str, axes: Sequence[str], defaults: Mapping[str, str], domain: Domain) -> Case:
    """Read a case id. Raises ValueError with a sentence that names the part that is wrong."""
    parts = text.strip().split("/")
    if len(parts) not in (4, 5):
        raise ValueError(
            f"case id {text!r}: wanted dtype/axes/options/family[/layout], as in "
            "float16/b1.h2.tq129.tk129.d64/causal-bottom-right/normal"
        )
    dtype, sizes_text, options_text, family = parts[:4]
    layout = parts[4] if len(parts) == 5 else "contiguous"
    for word, known, what in (
        (dtype, domain.dtypes, "dtype"),
        (family, domain.families, "input family"),
        (layout, LAYOUTS, "layout"),
    ):
        if word not in known:
            raise ValueError(
                f"case id {text!r}: unknown {what} {word!r}: wanted {', '.join(known)}"
            )
    sizes = _parse_sizes(text, sizes_text, axes, defaults)
    options = _parse_options(text, options_text, domain)
    case = make_case(dtype, sizes, options, family, layout, defaults)
    domain.check(case)
    return case


def _parse_sizes(
    text: str, sizes_text: str, axes: Sequence[str], defaults: Mapping[str, str]
) -> dict[str, int]:
    given: dict[str, int] = {}
    for word in sizes_text.split("."):
        match = re.fullmatch(r"([a-z]+)(\d+)", word)
        if not match or match[1] not in axes:
            raise ValueError(f"case id {text!r}: unknown axis {word!r}: wanted {', '.join(axes)}")
        if match[1] in given:
            raise ValueError(f"case id {text!r}: axis {match[1]!r} is given twice")
        given[match[1]] = int(match[2])
    for axis, source in defaults.items():
        given.setdefault(axis, given.get(source, -1))
    if missing := [axis for axis in axes if given.get(axis, -1) < 0]:
        raise ValueError(
            f"case id {text!r}: no size for axis {missing[0]!r}: wanted all of {', '.join(axes)}"
        )
    return {axis: given[axis] for axis in axes}


def _parse_options(text: str, options_text: str, domain: Domain) -> dict[str, Scalar]:
    options: dict[str, Scalar] = {}
    for word in [] if options_text == "default" else options_text.split("+"):
        name, dash, value = word.partition("-")
        if not dash or name not in domain.options:
            known = ", ".join(domain.options) or "none (write default)"
            raise ValueError(
                f"case id {text!r}: unknown option {word!r}: wanted name-value of {known}"
            )
        if name in options:
            raise ValueError(f"case id {text!r}: option {name!r} is given twice")
        options[name] = _parse_value(text, name, value, domain.options[name])
    return {name: options[name] for name in domain.options if name in options}


def _parse_value(text: str, name: str, value: str, values: OptionValues) -> Scalar:
    """Numbers are free; words must be among the values."""
    if callable(values):
        return value
    known = list(values)
    if value in known:
        return value
    if not isinstance(known[0], str):
        with contextlib.suppress(ValueError):
            number = type(known[0])(value)
            if np.isfinite(number):
                return number
    raise ValueError(
        f"case id {text!r}: option {name} is {value!r}: wanted {', '.join(map(str, known))}"
    )
