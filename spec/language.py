"""The spec language: what one algorithm's page is made of.

A :class:`Spec` names the call, its domain of cases, the exact reference, the error bound,
the costs, the normative clauses and the planted bugs (mutants) that its cases must expose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.domain import Case, Domain, parse_case
from kernelproof.spec.relations import Relation
from kernelproof.spec.rounding import DTYPES, FORMATS
from kernelproof.spec.statistics import Statistic

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = Mapping[str, Array]
Model: TypeAlias = Callable[
    [Callable[..., Any], Mapping[str, Any], Mapping[str, Any]], "Outputs | None"
]
Check = Literal[
    "accuracy",
    "semantics",
    "properties",
    "statistics",
    "gradients",
    "integrity",
    "costs",
    "complexity",
    "performance",
]
Metric = Literal["traffic", "footprint", "flops", "exps", "operations", "additions", "memory"]


@dataclass(frozen=True)
class Tensor:
    """A tensor by role: its axes in words, and a dtype if it is not the case's."""

    name: str
    axes: tuple[str, ...]
    dtype: str | None = None

    @property
    def integer(self) -> str:
        """Its dtype behind a space, if it is a table of integers."""
        return f" {self.dtype}" if self.dtype in ("int32", "int64") else ""

    def dtype_in(self, case_dtype: str) -> str:
        """Its dtype in a case. A float32 statistic (lse) is float64 beside float64 inputs."""
        if self.dtype == "float32" and case_dtype == "float64":
            return "float64"
        return self.dtype or case_dtype

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape for these sizes; a literal axis such as 1 is its own size, and ``hq*d`` the
        product of two."""
        return tuple(
            prod(int(axis) if axis.isdigit() else sizes[axis] for axis in factors(product))
            for product in self.axes
        )


def factors(axis: str) -> list[str]:
    """The axes that lie in one: ``hq*d`` holds the heads side by side.

    >>> factors("hq*d"), factors("tq")
    (['hq', 'd'], ['tq'])
    """
    return axis.split("*")


def parse_tensors(text: str) -> tuple[Tensor, ...]:
    """Read ``"q: b h tq d, lse: b h tq float32"``. A last word that names a dtype is one.

    >>> parse_tensors("mask: b h tq tk bool")[0].dtype
    'bool'
    """
    tensors = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, colon, words = part.partition(":")
        axes = words.split()
        if not colon or not axes:
            raise ValueError(f"tensor {part!r}: wanted 'name: axis axis ...', as in 'q: b h tq d'")
        dtype = axes.pop() if axes[-1] in ("bool", "int32", "int64", *FORMATS) else None
        tensors.append(Tensor(name.strip(), tuple(axes), dtype))
    return tuple(tensors)


@dataclass(frozen=True)
class Operation:
    """One thing that a caller does: tensors in, keyword options, tensors out.

    given: keywords that every call has, each the size of an axis: ``{"heads": "hq"}``.
    many: whether the last keyword of an operation of a program is a tuple of numbers.
    ``refusal``: what the operation must do instead when its precondition does not hold; such
    an operation raises an exception and changes nothing.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    options: tuple[str, ...] = ()
    refusal: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    many: bool = False

    @property
    def signature(self) -> str:
        """``(q: b h tq d, ..., *, heads: hq, causal) -> out: b h tq dv``."""
        inputs, outputs = (
            [f"{t.name}: {' '.join(t.axes)}{t.integer}" for t in tensors]
            for tensors in (self.inputs, self.outputs)
        )
        keywords = [*(f"{name}: {axis}" for name, axis in self.given.items()), *self.options]
        given = [*inputs, *(["*", *keywords] if keywords else [])]
        return f"({', '.join(given)}) -> {', '.join(outputs) or 'nothing'}"

    def keywords(self, numbers: Sequence[int]) -> dict[str, int | tuple[int, ...]]:
        """The keywords of a step with these numbers. Raises ValueError for too few or too many."""
        single = self.options[:-1] if self.many else self.options
        if len(numbers) < len(self.options) or (len(numbers) > len(single) and not self.many):
            words = "".join(f"@{name}" for name in self.options) or "none"
            raise ValueError(f"numbers {', '.join(map(str, numbers)) or 'none'}: wanted {words}")
        found: dict[str, int | tuple[int, ...]] = dict(zip(single, numbers, strict=False))
        return {**found, self.options[-1]: tuple(numbers[len(single) :])} if self.many else found


def option_words(text: str) -> tuple[str, ...]:
    """Read ``"mask, causal, scale"``."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def operation(
    inputs: str,
    *,
    outputs: str = "",
    options: str = "",
    refusal: str | None = None,
    given: Mapping[str, str] | None = None,
) -> Operation:
    """An :class:`Operation` from its three lines of text; ``sequences...`` is many numbers."""
    tensors = parse_tensors(inputs), parse_tensors(outputs)
    many, words = options.endswith("..."), option_words(options.removesuffix("..."))
    return Operation(*tensors, words, refusal, given or {}, many)


@dataclass(frozen=True)
class Call:
    """A function of tensors, e.g. attention: one operation, no state.

    given: keywords that every call has, each the size of an axis that no shape shows alone.
    """

    inputs: str
    outputs: str
    options: str = ""
    axis_defaults: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def operations(self) -> Mapping[str, Operation]:
        """The one operation, named ``call``."""
        call = operation(self.inputs, outputs=self.outputs, options=self.options, given=self.given)
        return {"call": call}

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis names in the order of a case id."""
        return _axes(self.operations)


class Word(NamedTuple):
    """A step of a program: the operation, the length of its stream axis, its keywords."""

    operation: str
    length: int
    options: Mapping[str, int | tuple[int, ...]]


@dataclass(frozen=True)
class Program:
    """A call with state: a constructor (its axes as keywords, and ``dtype``) and operations.

    The option ``steps`` of a case is its program: operation names joined by dots, each with
    the length of the stream axis behind it (``append5.attend.append1.attend``) and the numbers
    that are its keywords (``append5@0.fork@0@1.attend@0@1``); a macro such as ``decode3`` stands
    for its operations three times, each with the numbers behind it. An input family draws each
    stream whole, and every step takes its next part.

    holds: of the reference's object, what it holds by name (``tokens``), which cost formulas read.
    full: the axes, or product of axes, that these are when it is full.
    example: a short program; formulas without one speak of its last step, on a full object.
    """

    new: tuple[str, ...]
    operations: Mapping[str, Operation]
    stream: str
    macros: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    axis_defaults: Mapping[str, str] = field(default_factory=dict)
    holds: Callable[[Any], Mapping[str, int]] = lambda state: {}
    full: Mapping[str, str] = field(default_factory=dict)
    example: str = ""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis names of the constructor and of the operations, without the stream's."""
        names = dict.fromkeys((*_axes(self.operations), *self.new))
        return tuple(name for name in names if name != self.stream)

    def parse_steps(self, text: str) -> list[Word]:
        """The steps that a text stands for. Raises ValueError for what is none."""
        steps: list[Word] = []
        for word in text.split("."):
            match = re.fullmatch(r"([a-z_]+)(\d*)((?:@\d+)*)", word)
            name, count = (match[1], int(match[2] or 1)) if match else (word, 1)
            numbers = [int(number) for number in match[3].split("@")[1:]] if match else []
            if name in self.operations:
                steps.append(self._word(name, count, numbers, text))
            elif name in self.macros:
                parts = [self._word(part, 1, numbers, text) for part in self.macros[name]]
                steps.extend(parts * count)
            else:
                known = ", ".join((*self.operations, *self.macros))
                raise ValueError(f"unknown operation {word!r} in steps {text!r}: wanted {known}")
        return steps

    def _word(self, name: str, count: int, numbers: Sequence[int], text: str) -> Word:
        operation = self.operations[name]
        try:
            options = operation.keywords(numbers)
        except ValueError as error:
            raise ValueError(f"{name} in steps {text!r}: {error}") from None
        many = len(numbers) - len(operation.options) + 1
        return Word(name, many if operation.many else count, options)


_AXIS_ORDER = ("b", "h", "hq", "hkv", "tq", "tk", "t", "d", "dv")


def _axes(operations: Mapping[str, Operation]) -> tuple[str, ...]:
    """The usual order of the field; other axes follow in the order of first use."""
    tensors = [t for o in operations.values() for t in (*o.inputs, *o.outputs)]
    used = dict.fromkeys(
        axis
        for tensor in tensors
        for product in tensor.axes
        for axis in factors(product)
        if not axis.isdigit()
    )
    known = [axis for axis in _AXIS_ORDER if axis in used]
    return (*known, *(axis for axis in used if axis not in known))


@dataclass(frozen=True)
class Growth:
    """How a count grows: as size ** exponent, where all ``axes`` have that size and the rest is the
    case's.

    steps: of a program, its steps at a size ``{}``, of which the last one is counted.
    gap: how much lower the exponent of the next term is: of first reads, diagonals of causal tiles,
        Strassen's additions.
    tiles: those to take at each size, by role, where what lies on chip must stay the same. Only
        an implementation whose kernel offers such a configuration is asked.
    parts: axes that grow in proportion, each a whole part of the size: ``{"half": 16}``, one for
        every 16.
    apart: a part of the count that grows otherwise, whose closed form is taken off each count
        before its exponent is fitted: of LSH attention, hashing.
    """

    exponent: float
    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    gap: float = 1.0
    tiles: Elements | None = None
    steps: str = ""
    parts: Mapping[str, int] = field(default_factory=dict)
    apart: Formula | None = None

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.sizes), self.sizes, strict=False))
        if len(self.sizes) < 5 or not rising:
            raise ValueError(
                f"growth over sizes {self.sizes}: wanted at least five, above 0 and rising"
            )
        if not self.axes or len(set(self.axes)) < len(self.axes) or self.gap <= 0:
            raise ValueError(f"growth along {self.axes}, gap {self.gap}: wanted axes, gap above 0")
        if broken := [n for n in self.parts.values() for size in self.sizes if size % n]:
            raise ValueError(f"growth over sizes {self.sizes}: wanted multiples of {broken[0]}")

    def points(self, case: Case) -> list[Case]:
        """The case at each size."""
        return [self._point(case, size) for size in self.sizes]

    def _point(self, case: Case, size: int) -> Case:
        grown = {**dict.fromkeys(self.axes, size), **{n: size // p for n, p in self.parts.items()}}
        options = dict(case.options)
        if self.steps:
            options["steps"] = self.steps.format(size)
        axes = tuple((n, grown.get(n, s)) for n, s in case.axes)
        return replace(case, axes=axes, options=tuple(options.items()))


@dataclass(frozen=True)
class Clause:
    """One normative sentence, and the cases that exercise it (points of the domain, as ids).

    exact: no tolerance: the result is the exact value, rounded once to the dtype of the output.
    repeat: call twice with equal inputs; the results must be equal bit for bit.
    metric: of a clause about costs, what is counted. growth: how that must grow with the sizes.
    relation: of a property, the calls to make and what their answers imply of each other.
    statistic: of a clause about many random draws, what to measure of a call.
    """

    anchor: str
    sentence: str
    check: Check
    smoke: Sequence[str] = ()
    core: Sequence[str] = ()
    exact: bool = False
    repeat: bool = False
    dtypes: Sequence[str] | None = None
    metric: Metric | None = None
    growth: Growth | None = None
    relation: Relation | None = None
    statistic: Statistic | None = None

    @property
    def keeps_counts(self) -> bool:
        """Of the clauses about costs of one call, the one whose result has all of its counts."""
        return self.metric == "traffic" and self.growth is None


@dataclass(frozen=True)
class Mutant:
    """A planted bug: what goes wrong, in words, and what it computes: a model or roundings.

    ``model(reference, inputs, options)`` evaluates the bug without rounding errors; it returns
    outputs like the reference's, or None where the bug has nothing to change. Of a program the
    reference is the bound operation, so that ``reference.__self__`` is its state.

    others: the same bug for tiles of other sizes, for a wrong result to be told by.
    rounds: of a rounding bug, which quantities it rounds to which format; the tiled simulation of
        the spec's family shows what comes of it.
    undeclared_in: the preset that the buggy implementation declares, if not the usual one.
    dtypes: those of inputs with which it is a bug; ``harmless`` says why it is none with others.
    """

    name: str
    sentence: str
    model: Model | None = None
    others: tuple[Model, ...] = ()
    rounds: Mapping[str, str] = field(default_factory=dict)
    undeclared_in: str | None = None
    dtypes: tuple[str, ...] = DTYPES
    harmless: str = ""


def mutants(table: Mapping[str, tuple[str, Model]]) -> tuple[Mutant, ...]:
    """Mutants from a table: name to sentence and model."""
    return tuple(Mutant(name, sentence, model) for name, (sentence, model) in table.items())


def spoiled(names: Sequence[str], change: Callable[[Any], Outputs | None]) -> Model:
    """The bug that spoils a right result.

    change: of the reference's record, the outputs that are wrong, or None where the bug has nothing
        to change; the others of these names are right.
    """

    def model(
        reference: Callable[..., Any], x: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Outputs | None:
        with np.errstate(all="ignore"):
            exact = reference(**x, **options)
            wrong = change(exact)
        right = {name: getattr(exact, name) for name in names}
        return None if wrong is None else {**right, **wrong}

    return model


TILES = (16, 32, 64, 128)
"""Sizes of tiles that are in use, the smallest first: cases expose a bug of that."""


def tile_mutants(
    table: Mapping[str, tuple[str, Callable[[int], Model]]], *, tiles: Sequence[int] = TILES
) -> tuple[Mutant, ...]:
    """Mutants whose model depends on the size of a tile: name to sentence and model by size.

    tiles: sizes in use, the smallest first, which cases must expose.
    """
    return tuple(
        Mutant(name, sentence, model(tiles[0]), others=tuple(map(model, tiles[1:])))
        for name, (sentence, model) in table.items()
    )


def rounding_mutants(
    table: Mapping[str, tuple[str, Mapping[str, str]]],
    *,
    undeclared_in: str | None = None,
    dtypes: Sequence[str] = DTYPES,
    harmless: str = "",
) -> tuple[Mutant, ...]:
    """Rounding bugs from a table: name to sentence and formats by quantity."""
    return tuple(
        Mutant(
            name,
            sentence,
            rounds=rounds,
            undeclared_in=undeclared_in,
            dtypes=tuple(dtypes),
            harmless=harmless,
        )
        for name, (sentence, rounds) in table.items()
    )


@dataclass(frozen=True)
class Sizes:
    """The axes of a case as attributes, so that a cost formula reads as in the paper.

    options: as drawn, masks and tables included, for formulas that depend on what they hold.
    item: bytes per element of the inputs.
    tiles: sizes of an implementation's tiles, by role; none where it has, or names, none.
    """

    axes: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    item: int = 4
    tiles: Mapping[str, int] = field(default_factory=dict)

    def __getattr__(self, name: str) -> int:
        try:
            return self.axes[name]
        except KeyError:
            raise AttributeError(f"no axis {name!r}: wanted {', '.join(self.axes)}") from None

    @property
    def wide(self) -> int:
        """Bytes per element of accumulators and statistics: those of float32, at least."""
        return max(4, self.item)

    def tile(self, role: str, whole: int) -> int:
        """The size of a tile; without tiles one tile is the whole axis."""
        return self.tiles.get(role, max(whole, 1))

    def with_tiles(self, **tiles: int) -> Sizes:
        """The same sizes for other tiles."""
        return replace(self, tiles=tiles)


Formula: TypeAlias = Callable[[Sizes], int]
Elements: TypeAlias = Callable[[Sizes], Mapping[str, int]]


@dataclass(frozen=True)
class Costs:
    """Closed forms of the work. One multiply and one add are 2 FLOPs; the rest is in bytes.

    flops: of products; with tiles, those that the visited tiles hold in full.
    useful: those of them that some output depends on, under the case's options.
    exps: exponentials.
    operations: floating-point operations of every kind but exponentials, of algorithms whose work
        is not products of matrices.
    additions: those on elements, beside what products of matrices add up.
    reads: per input, the distinct elements that some output depends on.
    compulsory: bytes of those and of the outputs, each once: no less can be moved.
    traffic: bytes moved between slow memory and programs, for given tiles.
    cap: bytes that no implementation may exceed, whatever tiles it declares.
    lower: bytes that every schedule with ``ON_CHIP`` bytes of fast memory moves at least.
    memory: bytes held at the peak beside inputs and outputs.
    wrapped: traffic of kernels whose last tiles wrap around where others mask; what is gated.
    assumes: what the closed form of tiles takes for granted, in words.
    of_operators: the same of the closed form without tiles.
    variants: traffic of other orders of the same loops, by name, for comparison.
    tiles: roles that an implementation may declare; the closed form above is that of its tiles.
    best_tiles: those of least traffic that fit ``ON_CHIP`` bytes.
    widest_tiles: those that waste the most operations on padding and are still in use: their
        closed form is what no declaration raises.
    narrowest_tiles: where there is work per tile that narrow ones repeat, those that do so most and
        are still in use: their closed form may be the larger one.
    """

    flops: Formula
    useful: Formula
    compulsory: Formula
    traffic: Formula
    cap: Formula
    memory: Formula
    exps: Formula = lambda x: 0
    operations: Formula = lambda x: 0
    additions: Formula = lambda x: 0
    lower: Formula = lambda x: 0
    reads: Elements = lambda x: {}
    wrapped: Formula | None = None
    assumes: str = ""
    of_operators: str = ""
    variants: Mapping[str, Formula] = field(default_factory=dict)
    tiles: tuple[str, ...] = ()
    best_tiles: Elements = lambda x: {}
    widest_tiles: Elements = lambda x: {}
    narrowest_tiles: Elements | None = None


ON_CHIP = 100 << 10
"""Bytes of fast memory that every current GPU has per multiprocessor."""

WORKSPACE = 1 << 20
"""Bytes of workspace that do not grow with the sizes, and that any operator may hold."""


@dataclass(frozen=True)
class Backward:
    """The derivative of a call: gradients of one output, with regard to some of the inputs.

    of: those inputs, in words; the gradient of ``q`` is called ``dq``.
    reference: of the record of the call, a cotangent and the inputs by name, it makes a record with
        a field for each gradient and what ``accuracy`` reads.
    through: the output; the cotangent of ``out`` is called ``d_out``.
    without: options of the call with which it has no gradients to judge, in words.
    """

    of: str
    reference: Callable[[Any, Array, Mapping[str, Array]], Any]
    accuracy: Accuracy
    mutants: tuple[Mutant, ...]
    through: str = "out"
    without: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that have gradients."""
        return option_words(self.of)

    @property
    def cotangent(self) -> str:
        """The name of what the gradients are multiplied with: as large as the output."""
        return f"d_{self.through}"


@dataclass(frozen=True)
class Step:
    """One operation with its inputs as the caller passes them.

    sizes: of a program, the length of its stream axis.
    """

    operation: str
    inputs: Mapping[str, Array]
    options: Mapping[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Any]:
        """Options and inputs of integers, on which costs may depend."""
        integers = {n: x for n, x in self.inputs.items() if np.asarray(x).dtype.kind in "iu"}
        return {**self.options, **integers}


@dataclass(frozen=True)
class Earlier:
    """A call that came before, and left some of the inputs: a forward pass its out and lse.

    reference: of that call; given: the inputs that it got, beside all options; left: fields of its
    record, which are inputs of this call by the same names, rounded to their dtypes.
    """

    reference: Callable[..., Any]
    given: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Spec:
    """One algorithm's normative object. Name = dotted path = file.

    reference: for a :class:`Call` a function, for a :class:`Program` a class, in NumPy and in
        whatever precision its inputs have. Operations with outputs return a record whose
        fields include them by name; ``accuracy`` reads the other fields.
    accuracy: how far off is still right: see :class:`~kernelproof.spec.accuracy.Accuracy`.
    costs: of the call; of a program, of the operation that returns something. updates: of its other
        operations by name.
    backward: what its gradients are, where it has any: the clauses that speak of them ask it of
        implementations which declare to have them.
    earlier: of a call that takes what another one left, that other one.
    """

    name: str
    title: str
    source: str
    call: Call | Program
    reference: Callable[..., Any]
    accuracy: Accuracy
    domain: Domain
    costs: Costs
    clauses: tuple[Clause, ...]
    mutants: tuple[Mutant, ...]
    backward: Backward | None = None
    earlier: Earlier | None = None
    updates: Mapping[str, Costs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        anchors = [clause.anchor for clause in self.clauses]
        if len(set(anchors)) != len(anchors):
            raise ValueError(f"spec {self.name}: two clauses share an anchor")
        metrics = {clause.metric for clause in self.clauses if clause.metric}
        if (self.backward is None) == any(c.check == "gradients" for c in self.clauses):
            raise ValueError(
                f"spec {self.name}: clauses about gradients want backward=..., and it wants them"
            )
        for clause in self.clauses:
            if (clause.statistic is None) == (clause.check == "statistics"):
                raise ValueError(
                    f"{clause.anchor}: a clause of statistics measures one, and no other does"
                )
            self._check_relation(clause)
            self._check_growth(clause)
        for metric in metrics:
            form = "reads" if metric == "footprint" else metric
            if getattr(self.costs, form) is getattr(Costs, form, None):
                raise ValueError(
                    f"spec {self.name}: its {metric} clause wants costs with {form}=..."
                )

    def _check_relation(self, clause: Clause) -> None:
        if (clause.relation is None) == (clause.check == "properties"):
            raise ValueError(f"{clause.anchor}: a property has a relation, and no other clause has")
        if clause.relation is None:
            return
        if isinstance(self.call, Program):
            raise ValueError(f"{clause.anchor}: properties of a program are not checked yet")
        for point in (*clause.smoke, *clause.core):
            if not clause.relation.fits(self.case(f"{self.domain.dtypes[0]}/{point}")):
                raise ValueError(f"{clause.anchor}: the property does not hold for {point}")

    def _check_growth(self, clause: Clause) -> None:
        if (clause.growth is None) == (clause.check == "complexity"):
            raise ValueError(f"{clause.anchor}: a clause of complexity has a growth, no other has")
        if clause.growth is None:
            return
        if clause.metric in (None, "footprint", "memory"):
            raise ValueError(f"{clause.anchor}: wanted the metric that grows, not {clause.metric}")
        if clause.smoke or len(clause.core) != 1:
            raise ValueError(f"{clause.anchor}: wanted one case, in core: it takes seconds")
        if unknown := {*clause.growth.axes, *clause.growth.parts} - set(self.call.axes):
            raise ValueError(f"{clause.anchor}: no axis {', '.join(sorted(unknown))}")

    def __repr__(self) -> str:
        return f"<Spec {self.name}>"

    def case(self, text: str) -> Case:
        """The case with this id (``dtype/axes/options/family[/layout]``). Raises ValueError."""
        return parse_case(text, self.call.axes, self.call.axis_defaults, self.domain)

    def output(self, name: str) -> Tensor:
        """The output of that name, of whichever operation."""
        outputs = [t for o in self.call.operations.values() for t in o.outputs]
        return next(t for t in outputs if t.name == name)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the order in which a callable returns them."""
        names = [t.name for o in self.call.operations.values() for t in o.outputs]
        return tuple(dict.fromkeys(names))

    def sizes(
        self,
        case: Case,
        options: Mapping[str, Any] | None = None,
        tiles: Mapping[str, int] | None = None,
        *,
        held: Mapping[str, int] | None = None,
    ) -> Sizes:
        """What cost formulas read, for a case with its drawn options and tables, for given tiles,
        and of a program for what it holds: without ``held`` of one step on a full one."""
        item, axes = FORMATS[case.dtype].bytes, dict(case.axes)
        if isinstance(self.call, Program) and held is None:
            full = {name: prod(axes[a] for a in factors(p)) for name, p in self.call.full.items()}
            last = self.call.parse_steps(self.call.example)[-1]
            held = {self.call.stream: last.length, **full}
            options = {**(options or {}), **last.options}
        return Sizes({**axes, **(held or {})}, options or {}, item, tiles or {})

    def costs_of(self, operation: str) -> Costs | None:
        """The costs of an operation, if the spec says any."""
        if operation in self.updates:
            return self.updates[operation]
        return self.costs if self.call.operations[operation].outputs else None

    @property
    def signatures(self) -> list[str]:
        """The call as text; of a program, each of its operations by name."""
        return [
            f"{'' if name == 'call' else name}{each.signature}"
            for name, each in self.call.operations.items()
        ]

    def option_names(self) -> tuple[str, ...]:
        """Keyword options of the call. Those of a program's operations are part of its steps."""
        return self.call.operations["call"].options if isinstance(self.call, Call) else ()

    @property
    def given(self) -> Mapping[str, str]:
        """Keywords that every call gets, each the size of an axis."""
        return self.call.given if isinstance(self.call, Call) else {}

    def steps(self, case: Case, rng: np.random.Generator) -> list[Step]:
        """Draw the inputs of a case, in float64, not yet rounded to its dtype.

        Without those that an earlier call left: they follow from the others once these are rounded.
        """
        sizes, options = dict(case.axes), dict(case.options)
        draw = self.domain.families[case.family].draw
        if isinstance(self.call, Call):
            left = self.earlier.left if self.earlier else ()
            inputs = self.call.operations["call"].inputs
            shapes = {t.name: t.shape(sizes) for t in inputs if t.name not in left}
            given = {name: sizes[axis] for name, axis in self.given.items()}
            drawn = given | {
                name: self.domain.draw_option(name, value, rng, sizes)
                for name, value in options.items()
            }
            known = (*self.given, *self.option_names())
            kept = {name: value for name, value in drawn.items() if name in known}
            return [Step("call", draw(rng, shapes, drawn), kept)]
        return self._program_steps(self.call, str(options["steps"]), draw, rng, sizes)

    def _program_steps(
        self,
        program: Program,
        text: str,
        draw: Any,
        rng: np.random.Generator,
        sizes: dict[str, int],
    ) -> list[Step]:
        steps = program.parse_steps(text)
        taken = {t.name: 0 for o in program.operations.values() for t in o.inputs}
        total = {
            t.name: (t, sum(step.length for step in steps if step.operation == name))
            for name, o in program.operations.items()
            for t in o.inputs
        }
        whole = draw(
            rng, {n: t.shape({**sizes, program.stream: c}) for n, (t, c) in total.items()}, {}
        )
        result = []
        for name, count, options in steps:
            inputs = {}
            for tensor in program.operations[name].inputs:
                axis, start = tensor.axes.index(program.stream), taken[tensor.name]
                part = [slice(None)] * len(tensor.axes)
                part[axis] = slice(start, start + count)
                inputs[tensor.name] = np.ascontiguousarray(whole[tensor.name][tuple(part)])
                taken[tensor.name] += count
            result.append(Step(name, inputs, options, {program.stream: count}))
        return result
