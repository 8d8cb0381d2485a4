"""The suite: from targets and options to planned checks, and from those to results."""

from __future__ import annotations

import fnmatch
import glob
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof.conformance.capabilities import BadRegistration, Capabilities
from kernelproof.conformance.client import Place, Worker, WorkerFailure, WorkerLimits
from kernelproof.conformance.judge import Judge
from kernelproof.conformance.targets import (
    Target,
    entry_point_targets,
    has_triton,
    parse_map,
    parse_target,
)
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.impls.registration import BACKENDS
from kernelproof.spec.catalogue import load_spec, matches, matching_specs, sheet_names, spec_names
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Spec
from kernelproof.spec.rounding import DTYPES, PRESETS
from kernelproof.spec.wording import unknown_word

if TYPE_CHECKING:
    from kernelproof.conformance.timing.timed import Timed
    from kernelproof.conformance.timing.timer import Timer, Yard

TIERS = ("smoke", "core", "full")
RUNNABLE = ("cpu", "interpret", "cuda")
METERED = ("cpu", "interpret")
"""Backends on which costs are counted."""


class UsageError(ValueError):
    """An option that cannot be meant; the message says what was wanted."""


@dataclass(frozen=True)
class Settings:
    """The options of one run, checked."""

    targets: tuple[Target, ...]
    specs: tuple[str, ...] = ("*",)
    implementation: str = "*"
    backends: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    tier: str = "core"
    seed: str = "0"
    require: str | None = None
    cases: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    fuzz: int = 0
    bench: bool = False
    seconds: float = 1.0
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    place: Place = field(default_factory=Place)

    @classmethod
    def read(cls, options: dict[str, Any]) -> Settings:
        """Check options by name. Raises UsageError.

        sheets: specs may name worksheets. folder: in which targets are files, if not the current
            one. place: of the workers.
        """
        for name, known in (("backends", BACKENDS), ("dtypes", DTYPES)):
            for word in options.get(name) or ():
                _one_of(f"--{name[:-1]}", word, known)
        for word in options.get("backends") or ():
            if word not in RUNNABLE:
                raise UsageError(f"--backend {word}: this release runs on {', '.join(RUNNABLE)}")
        _one_of("--tier", options["tier"], TIERS)
        if options.get("require"):
            _one_of("--require", options["require"], PRESETS)
        specs = tuple(options.get("specs") or ("*",))
        try:
            sheets = sheet_names() if options.get("sheets") else ()
            matching_specs([p for p in specs if not fnmatch.filter(sheets, p)])
        except LookupError as error:
            raise UsageError(f"--spec: {error}") from None
        seed = str(options["seed"])
        if seed != "random" and not seed.isdecimal():
            raise UsageError(f"--seed {seed}: wanted a whole number or 'random'")
        seconds = options.get("seconds")
        return cls(
            targets=_targets(options, specs),
            specs=specs,
            implementation=options.get("implementation") or "*",
            backends=tuple(options.get("backends") or ()),
            dtypes=tuple(options.get("dtypes") or ()),
            tier=options["tier"],
            seed=str(secrets.randbits(64)) if seed == "random" else seed,
            require=options.get("require"),
            cases=tuple(dict.fromkeys(options.get("cases") or ())),
            clauses=tuple(options.get("clauses") or ()),
            fuzz=_count("--fuzz", options.get("fuzz")),
            bench=bool(options.get("bench")),
            seconds=_positive("--seconds", 1 if seconds in (None, "") else seconds),
            limits=WorkerLimits(
                call_seconds=_positive("--timeout", options["timeout"]),
                import_seconds=_positive("--import-timeout", options["import_timeout"]),
                memory=int(_positive("--memory", options["memory"], 1, " GiB") * 2**30),
                threads=options.get("threads") or 0,
            ),
            place=options.get("place") or Place(),
        )


def _one_of(option: str, word: str, known: Any) -> None:
    if word not in known:
        raise UsageError(f"{option} {word}: wanted one of {', '.join(known)}")


def _known(flag: str, words: Iterable[str], known: Sequence[str], what: str) -> None:
    for word in words:
        if word not in known:
            raise UsageError(f"{flag} {word}: {unknown_word(word, what, known)}")


def _positive(option: str, value: Any, least: float = 0, unit: str = "") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf") or number < least:
        wanted = f"at least {least:g}{unit}" if least else "above 0"
        raise UsageError(f"{option} {value}: wanted {wanted}")
    return number


def _count(option: str, value: Any) -> int:
    """A number of cases; 0 where the option is not given."""
    if value is None:
        return 0
    if not str(value).isdecimal() or int(value) == 0:
        raise UsageError(f"{option} {value}: wanted how many random cases, a whole number above 0")
    return int(value)


def _targets(options: dict[str, Any], specs: tuple[str, ...]) -> tuple[Target, ...]:
    texts = options.get("targets") or ()
    if not texts:
        return tuple(entry_point_targets())
    one_spec = specs[0] if len(specs) == 1 and specs[0] in spec_names() else None
    returns = tuple(filter(None, (w.strip() for w in (options.get("returns") or "").split(","))))
    targets = []
    try:
        mapping = parse_map(options.get("map") or "")
        for text in dict.fromkeys(texts):
            target = parse_target(
                text,
                spec=one_spec,
                dtypes=options.get("dtypes") or DTYPES,
                returns=returns,
                mapping=mapping,
                gradients=bool(options.get("gradients")),
                folder=options.get("folder"),
            )
            targets.append(target)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if one_spec:
        spec = load_spec(one_spec)
        _known("--returns", returns, spec.output_names, "output")
        keywords = (*spec.given, *spec.option_names())
        _known("--map", (key.partition(":")[0] for key in mapping), keywords, "option")
    plain = [t.text for t in targets if t.callable is None]
    if (returns or mapping or options.get("gradients")) and plain:
        raise UsageError(
            "--returns, --map and --gradients describe a target module:callable; "
            f"{plain[0]} is none"
        )
    return tuple(targets)


@dataclass(frozen=True)
class Planned:
    """One check to run; ``id`` names it in pytest."""

    implementation: Capabilities
    backend: str
    case: Case
    clause: Clause

    @property
    def id(self) -> str:
        """spec/implementation/backend[/clause]/case."""
        unsaid = self.clause.check in ("accuracy", "performance")  # they have one clause each
        clause = () if unsaid else (self.clause.anchor,)
        parts = (self.implementation.spec.name, self.implementation.name, self.backend, *clause)
        return "/".join((*parts, self.case.id))


@dataclass(frozen=True)
class Fuzzed:
    """Random cases of one implementation on one backend, all of them one check."""

    implementation: Capabilities
    backend: str

    @property
    def id(self) -> str:
        """spec/implementation/backend."""
        return f"{self.implementation.spec.name}/{self.implementation.name}/{self.backend}"


@dataclass(frozen=True)
class Registered:
    """One check of a registration: that a target loads, that a precision is what is required."""

    id: str
    result: Result


def select_cases(spec: Spec, clause: Clause, tier: str, dtypes: Sequence[str]) -> Iterator[Case]:
    """The cases of one clause up to a tier."""
    source = spec.domain if clause.check == "accuracy" else clause
    tiers = TIERS[: TIERS.index(tier) + 1]
    points = dict.fromkeys(point for name in tiers for point in getattr(source, name, ()))
    for dtype in dtypes:
        for point in points:
            if clause.dtypes is None or dtype in clause.dtypes:
                yield spec.case(f"{dtype}/{point}")


def judging(implementation: Capabilities, backend: str, case: Case) -> list[Clause]:
    """The clauses that speak of any case like this one, whether or not they list it: accuracy,
    gradients, costs, and the properties that fit it."""
    found: list[Clause] = []
    for clause in implementation.spec.clauses:
        general = clause.check in ("accuracy", "gradients") and clause.check not in (
            each.check for each in found
        )
        counted = clause.check == "costs" and backend in METERED and case.layout == "contiguous"
        related = clause.relation is not None and clause.relation.fits(case)
        fits = general or counted or related
        if fits and not implementation.unsupported(case, clause):
            found.append(clause)
    return found


class Suite:
    """Everything that one pytest process needs to plan and run checks."""

    def __init__(self, settings: Settings, description: list[dict[str, Any]] | None = None) -> None:
        self.settings = settings
        self._judge = Judge(settings.seed)
        self._workers: dict[tuple[int, str], Worker] = {}
        self._yard: Yard | None = None
        self._description = description
        self._read = False
        self.implementations: list[Capabilities] = []
        self._problems: dict[int, list[str]] = {}

    @property
    def description(self) -> list[dict[str, Any]]:
        """What the targets register, asked once, all targets at a time."""
        if self._description is None:
            with ThreadPoolExecutor(max_workers=4) as pool:
                self._description = list(
                    pool.map(self._describe, range(len(self.settings.targets)))
                )
        return self._description

    def _describe(self, number: int) -> dict[str, Any]:
        try:
            described = self._worker(number, "cpu").describe()
            if "error" in described and self.settings.backends != ("cpu",) and has_triton():
                # host code that asks for a GPU when it is imported is answered there alone
                interpreted = self._worker(number, "interpret").describe()
                return described if "error" in interpreted else interpreted
            return described
        except WorkerFailure as failure:
            text = self.settings.targets[number].text
            return {"error": f"{text}: its import {failure}", "kind": failure.kind}

    def read(self) -> None:
        """Check all descriptions; the good implementations are in ``implementations``."""
        if self._read:
            return
        self._read = True
        names: dict[str, str] = {}
        for number, described in enumerate(self.description):
            text, problems = (
                self.settings.targets[number].text,
                self._problems.setdefault(number, []),
            )
            if "error" in described:
                problems.append(described["error"])
                continue
            if not described["implementations"]:
                problems.append(
                    f"{text} registers no implementation: decorate a kernel with "
                    "@implementation(SPEC), or name it as module:callable with --spec"
                )
            for place, each in enumerate(described["implementations"]):
                try:
                    implementation = Capabilities.read(number, place, each)
                except BadRegistration as error:
                    problems.append(str(error))
                    continue
                key = f"{implementation.spec.name} {implementation.name}"
                if key in names:
                    problems.append(
                        f"two implementations of {implementation.spec.name} are called "
                        f"{implementation.name!r} (in {names[key]} and "
                        f"{text}): give one another name="
                    )
                    continue
                names[key] = text
                self.implementations.append(implementation)

    def selected(self) -> Iterator[tuple[Capabilities, str]]:
        """Implementations that the options name, with each backend that can run here."""
        self.read()
        for each in self.implementations:
            named = matches(each.spec.name, self.settings.specs)
            if named and fnmatch.fnmatchcase(each.name, self.settings.implementation):
                for backend in each.backends:
                    if backend in (self.settings.backends or self.available()):
                        yield each, backend

    def available(self) -> tuple[str, ...]:
        """Backends that this machine can run."""
        cuda = any(described.get("cuda") for described in self.description)
        there = {"cpu": True, "interpret": has_triton(), "cuda": cuda}
        return tuple(backend for backend in RUNNABLE if there[backend])

    def check_selection(self) -> None:
        """Raise UsageError where an option selects nothing that exists."""
        for target, described in zip(self.settings.targets, self.description, strict=True):
            if any(each["spec"] is None for each in described.get("implementations", ())):
                raise UsageError(
                    f"target {target.text} is registered for no spec: name one with --spec, as in "
                    "--spec attention.scaled_dot_product"
                )
        self.read()
        for backend, why in (
            ("cuda", "torch sees no GPU on this machine"),
            ("interpret", "Triton is not installed: pip install triton"),
        ):
            if backend in self.settings.backends and backend not in self.available():
                raise UsageError(f"--backend {backend}: {why}")
        names = [each.name for each in self.implementations]
        pattern = self.settings.implementation
        if names and not fnmatch.filter(names, pattern):
            raise UsageError(
                f"--impl {pattern}: no such implementation: wanted one of {', '.join(names)}"
            )
        for text in self.settings.cases:
            self.parse_case(text)
        if self.settings.bench and "interpret" in self.settings.backends:
            raise UsageError(
                "--backend interpret: the time of an interpreter says nothing of a kernel's: "
                "wanted cpu or cuda; kernelproof test counts what it does"
            )
        if self.settings.clauses and not self.settings.cases:
            raise UsageError("--clause goes with --case: wanted the case to judge by it")
        anchors = [c.anchor for each, _ in self.selected() for c in each.spec.clauses]
        for name in self.settings.clauses:
            _known("--clause", [name], list(dict.fromkeys(anchors)), "clause")

    def parse_case(self, text: str) -> list[Spec]:
        """The specs that a case id of the options fits. Raises UsageError if there is none."""
        fitting, errors = [], []
        specs = {each.spec.name: each.spec for each, _ in self.selected()}
        for spec in specs.values():
            try:
                spec.case(text)
                fitting.append(spec)
            except ValueError as error:
                errors.append(str(error))
        if not fitting and errors:
            raise UsageError(f"--case: {errors[0]}")
        return fitting

    def plan(self) -> tuple[list[Planned], list[Result]]:
        """The checks to run, and the results of those outside what implementations claim.

        Implementations of a spec take turns case by case: they share its reference and bound.
        """
        if self.settings.fuzz or self.settings.bench:
            return [], []
        planned: list[Planned] = []
        outside: list[Result] = []
        specs: dict[str, list[tuple[Capabilities, str]]] = {}
        for implementation, backend in self.selected():
            specs.setdefault(implementation.spec.name, []).append((implementation, backend))
        for selected in specs.values():
            for clause in selected[0][0].spec.clauses:
                turns: dict[Case, list[Planned]] = {}
                for implementation, backend in selected:
                    if clause.metric and backend not in METERED:
                        continue
                    for case in self._cases(implementation, clause):
                        item = Planned(implementation, backend, case, clause)
                        turns.setdefault(case, []).append(item)
                for item in (item for items in turns.values() for item in items):
                    claims, case = item.implementation, item.case
                    # a deviation from a bound of costs is counted all the same
                    judged = claims.unclaimed if clause.keeps_counts else claims.unsupported
                    if reason := judged(case, clause):
                        outside.append(_unsupported(item, reason))
                    else:
                        planned.append(item)
        return planned, outside

    def _dtypes(self, implementation: Capabilities) -> list[str]:
        wanted = self.settings.dtypes or implementation.dtypes
        return [dtype for dtype in implementation.dtypes if dtype in wanted]

    def _cases(self, implementation: Capabilities, clause: Clause) -> Iterator[Case]:
        spec, settings = implementation.spec, self.settings
        dtypes = self._dtypes(implementation)
        if clause.growth:  # sizes do not know of dtypes: one shows it
            dtypes = [d for d in dtypes if d == "float32"] or dtypes[:1]
        if not settings.cases:
            yield from select_cases(spec, clause, settings.tier, dtypes)
            return
        for text in settings.cases:
            if spec not in self.parse_case(text):
                continue
            case = spec.case(text)
            listed = [
                c for c in spec.clauses if case in select_cases(spec, c, "full", [case.dtype])
            ]
            accuracy = [c for c in spec.clauses if c.check == "accuracy"]
            if case.dtype in implementation.gradients:
                accuracy += [c for c in spec.clauses if c.check == "gradients"][:1]
            named = [c for c in spec.clauses if c.anchor in settings.clauses]
            if clause in (named if settings.clauses else listed or accuracy):
                yield case

    def registrations(self) -> list[Registered]:
        """One check per target, and with ``--require`` one per implementation and dtype."""
        self.read()
        found = []
        for number, target in enumerate(self.settings.targets):
            problems = self._problems[number]
            kind = Verdict(self.description[number].get("kind", "invalid"))
            result = _registration(target.text, kind if problems else Verdict.PASS, problems)
            found.append(Registered(target.text, result))
        return [*found, *self._precisions()]

    def _precisions(self) -> Iterator[Registered]:
        if self.settings.require is None:
            return
        required = PRESETS[self.settings.require]
        for each, backend in self.selected():
            for dtype in each.dtypes:
                loose = each.precision_at(dtype).looser_than(required, dtype)
                words = f"declares {loose} at {dtype}: --require {required.name} forbids it"
                verdict = Verdict.FAIL if loose else Verdict.PASS
                result = replace(
                    _registration(each.name, verdict, [words] if loose else []),
                    spec=each.spec.name,
                    backend=backend,
                    dtype=dtype,
                    clause="registration.precision",
                    preset=each.precision_at(dtype).name,
                )
                yield Registered(f"{each.spec.name}/{each.name}/{backend}/{dtype}", result)

    def fuzzed(self) -> list[Fuzzed]:
        """The checks on random cases, where the options ask for any."""
        chosen = self.selected() if self.settings.fuzz else ()
        return [Fuzzed(each, backend) for each, backend in chosen]

    def check(self, planned: Planned) -> Result:
        """Run one check."""
        worker = self._worker(planned.implementation.target, planned.backend)
        result = self._judge.check(
            planned.implementation, worker, planned.backend, planned.case, planned.clause
        )
        return replace(result, replay=self._replay(planned))

    def fuzz(self, fuzzed: Fuzzed) -> Result:
        """Random cases, as many as the options say; the result is that of the one to look at."""
        from kernelproof.conformance.fuzzing import chosen_from, fuzz

        implementation, backend = fuzzed.implementation, fuzzed.backend

        def results(case: Case) -> Iterator[Result]:
            for clause in chosen_from(case, list(judging(implementation, backend, case))):
                planned = Planned(implementation, backend, case, clause)
                replay = f"{self._replay(planned)} --clause {clause.anchor}"
                yield replace(self.check(planned), replay=replay)

        start = time.perf_counter()
        found = fuzz(
            implementation,
            self._dtypes(implementation),
            self.settings.fuzz,
            self.settings.seed,
            results,
        )
        seconds = time.perf_counter() - start
        if found.result:
            message = found.result.message if found.result.verdict.failing else found.words
            return replace(found.result, check="fuzz", message=message, seconds=seconds)
        return Result(
            check="fuzz",
            spec=implementation.spec.name,
            implementation=implementation.name,
            backend=backend,
            dtype="",
            case="",
            clause="",
            verdict=Verdict.UNMEASURED if found.unmeasured else Verdict.UNSUPPORTED,
            message=found.words,
            seconds=seconds,
        )

    def timed(self) -> list[Planned]:
        """The calls to time, where the options ask for it."""
        from kernelproof.conformance.timing.plan import performance_plan

        return performance_plan(self) if self.settings.bench else []

    def time(self, planned: Planned, worker: Worker | None = None) -> Timed:
        """Time one case, in the worker that its target has or in another of the same target."""
        worker = worker or self._worker(planned.implementation.target, planned.backend)
        timed = self._timer.time(worker, planned)
        replayed = replace(timed.result, replay=self._replay(planned, "bench"))
        return replace(timed, result=replayed)

    @cached_property
    def _timer(self) -> Timer:
        from kernelproof.conformance.timing.timer import Timer, Yard

        self._yard = Yard(self.settings.limits)
        return Timer(self._judge, self._yard, self.settings.seconds)

    def fresh_worker(self, target: int, backend: str) -> Worker:
        """A worker that has run nothing yet; its owner closes it."""
        settings = self.settings
        described = settings.targets[target].to_json()
        return Worker(described, backend, settings.limits, settings.place)

    def _replay(self, planned: Planned, command: str = "test") -> str:
        """The command that runs this one check again."""
        implementation, settings = planned.implementation, self.settings
        words = ["kernelproof", command, *settings.targets[implementation.target].words()]
        words += ["--spec", implementation.spec.name, "--impl", glob.escape(implementation.name)]
        words += ["--backend", planned.backend, "--case", planned.case.id]
        return shlex.join(words + (["--seed", settings.seed] if settings.seed != "0" else []))

    def warm(self) -> None:
        """Start the workers that the plan needs, without waiting for them."""
        for implementation, backend in self.selected():
            self._worker(implementation.target, backend).warm()

    def close(self) -> None:
        """Stop all workers."""
        for each in (*self._workers.values(), self._yard):
            if each:
                each.close()

    def imported(self, target: int, folder: Path | None = None) -> frozenset[str]:
        """Files of a folder, its workers' by default, that a target has imported until now. Raises
        WorkerFailure."""
        workers = [worker for (number, _), worker in self._workers.items() if number == target]
        return frozenset(file for worker in workers for file in worker.imported(folder))

    def _worker(self, target: int, backend: str) -> Worker:
        key = (target, backend)
        if key not in self._workers:
            self._workers[key] = self.fresh_worker(target, backend)
        return self._workers[key]


def _unsupported(item: Planned, reason: str) -> Result:
    return Result(
        check=item.clause.check,
        spec=item.implementation.spec.name,
        implementation=item.implementation.name,
        backend=item.backend,
        dtype=item.case.dtype,
        case=item.case.id,
        clause=item.clause.anchor,
        verdict=Verdict.UNSUPPORTED,
        preset=item.implementation.precision_at(item.case.dtype).name,
        message=reason,
    )


def _registration(name: str, verdict: Verdict, problems: list[str]) -> Result:
    return Result(
        check="registration",
        spec="",
        implementation=name,
        backend="",
        dtype="",
        case="",
        clause="registration",
        verdict=verdict,
        message="; ".join(problems),
    )
