"""What an implementation claims, checked against the spec it names, before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from kernelproof.impls.registration import BACKENDS
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.derivative import derivative
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Call, Clause, Spec
from kernelproof.spec.rounding import FORMATS, PRESETS, Precision, resolve_precision
from kernelproof.spec.wording import unknown_word

OPTION_NOT_TAKEN = "option "
GRADIENTS_NOT_DECLARED = "gradients are not declared"


class BadRegistration(ValueError):
    """A registration that cannot be true; the message says what to change."""


@dataclass(frozen=True)
class Capabilities:
    """One implementation as its worker described it; ``read`` is the way to make one.

    target, number: which target it is of, and its place among those the target registers.
    """

    target: int
    number: int
    spec: Spec
    name: str
    backends: tuple[str, ...]
    dtypes: tuple[str, ...]
    limits: Mapping[str, Any]
    returns: tuple[str, ...]
    precision: Any
    tiles: Mapping[str, str]
    atomics: bool
    gradients: tuple[str, ...]
    deviates: Mapping[str, str]
    options: frozenset[str]
    option_values: frozenset[str]

    @classmethod
    def read(cls, target: int, number: int, described: Mapping[str, Any]) -> Capabilities:
        """Check a description. Raises BadRegistration with one sentence."""
        name = described["name"]
        if not isinstance(name, str) or not name.strip():
            raise BadRegistration(f"an implementation is called {name!r}: wanted a name to print")
        try:
            spec = load_spec(str(described["spec"]))
        except LookupError as error:
            raise BadRegistration(f"{name}: {error}") from None
        _check_kind(name, described, spec)
        _some_of(name, "backends", described["backends"], BACKENDS)
        _some_of(name, "dtypes", described["dtypes"], spec.domain.dtypes)
        returns = spec.output_names if described["returns"] is None else described["returns"]
        _some_of(name, "returns", returns, spec.output_names)
        _check_precision(name, described["precision"])
        _among(name, "clause in deviates", described["deviates"], [c.anchor for c in spec.clauses])
        for role, constant in described["tiles"].items():
            if not isinstance(constant, str):
                raise BadRegistration(
                    f"{name}: tiles[{role!r}] is {constant!r}: wanted the name of a constexpr, "
                    "as in 'BLOCK_M'"
                )
        _among(name, "tile role", described["tiles"], spec.costs.tiles)
        if described["gradients"] and spec.backward is None:
            raise BadRegistration(
                f"{name}: gradients are declared, but {spec.name} has none to judge: leave them out"
            )
        if beyond := [d for d in described["gradients"] if d not in described["dtypes"]]:
            raise BadRegistration(
                f"{name}: gradients={described['gradients']}, but {beyond[0]} is not among its "
                "dtypes: wanted True, or some of those"
            )
        values = frozenset(key for key in described["rename"] if ":" in key)
        renamed = {key.partition(":")[0] for key in described["rename"]}
        _among(name, "option in --map", renamed, (*spec.given, *spec.option_names()))
        _check_given(name, {*described["takes"], *renamed}, described["takes_any"], spec)
        taken = set(spec.option_names()) if described["takes_any"] else set(described["takes"])
        limits = described["limits"]
        known_limits = (*spec.call.axes, *spec.option_names())
        _among(name, "limit", limits, known_limits)
        for limit, allowed in limits.items():
            if any(isinstance(a, float) and not isfinite(a) for a in allowed):
                raise BadRegistration(
                    f"{name}: limits[{limit!r}] is {allowed}: wanted its values, or a range"
                )
        capabilities = cls(
            target=target,
            number=number,
            spec=spec,
            name=name,
            backends=tuple(described["backends"]),
            dtypes=tuple(described["dtypes"]),
            limits=limits,
            returns=tuple(returns),
            precision=described["precision"],
            tiles=described["tiles"],
            atomics=described["atomics"],
            gradients=tuple(described["gradients"]),
            deviates=described["deviates"],
            options=frozenset(spec.option_names()) & (taken | renamed),
            option_values=values,
        )
        capabilities._check_some_case_is_left()
        return capabilities

    def precision_at(self, dtype: str) -> Precision:
        """The declared roundings at a dtype."""
        return resolve_precision(self.precision, dtype)

    def judged(self, clause: Clause) -> Spec:
        """The spec whose call a clause is about: of gradients, the derivative's."""
        return derivative(self.spec) if clause.check == "gradients" else self.spec

    def unsupported(self, case: Case, clause: Clause) -> str | None:
        """Why a case is not judged by a clause, or None."""
        return self.unclaimed(case, clause) or self.deviation(clause)

    def deviation(self, clause: Clause) -> str | None:
        """What is said of a clause that is knowingly not held, or None."""
        if clause.anchor not in self.deviates:
            return None
        return f"declared deviation from {clause.anchor}: {self.deviates[clause.anchor]}"

    def unclaimed(self, case: Case, clause: Clause) -> str | None:
        """Why a case is outside what is claimed, or None."""
        if clause.check == "gradients":
            through = self.spec.backward.through if self.spec.backward else ""
            if case.dtype not in self.gradients:
                return f"{GRADIENTS_NOT_DECLARED} at {case.dtype}"
            if through not in self.returns:
                return f"output {through} is not returned"
            judged = derivative(self.spec).option_names()
            if beyond := [name for name, _ in case.options if name not in judged]:
                return f"no gradients are judged with option {beyond[0]}"
        if case.dtype not in self.dtypes:
            return f"dtype {case.dtype}"
        options = dict(case.options)
        names = self.spec.option_names()
        for name, value in options.items():
            if name in names and name not in self.options:
                return f"{OPTION_NOT_TAKEN}{name}"
            mapped = [v for v in self.option_values if v.startswith(f"{name}:")]
            if mapped and f"{name}:{value}" not in mapped:
                return f"{OPTION_NOT_TAKEN}{name}={value}"
        values = {**dict.fromkeys(names), **options, **dict(case.axes)}
        for name, limit in self.limits.items():
            if not _within(values[name], limit):
                given = "the default" if values[name] is None else values[name]
                return f"limit {name}: {given}"
        return None

    def _check_some_case_is_left(self) -> None:
        """Limits must leave at least one accuracy case of each dtype."""
        domain = self.spec.domain
        accuracy = next(c for c in self.spec.clauses if c.check == "accuracy")
        for dtype in self.dtypes:
            cases = [
                self.spec.case(f"{dtype}/{p}") for p in (*domain.smoke, *domain.core, *domain.full)
            ]
            reasons = [self.unsupported(case, accuracy) for case in cases]
            if all(reasons):
                limit = max(set(reasons), key=reasons.count)
                raise BadRegistration(
                    f"{self.name}: its limits leave no accuracy case of {self.spec.name} in "
                    f"{dtype} (most often: {limit}): widen limits={{...}}, where None is the "
                    "default of an option, or take the options that cases need"
                )


def _within(value: Any, limit: Any) -> bool:
    if isinstance(limit, Mapping):
        return value in range(limit["start"], limit["stop"], limit["step"])
    return value in limit


def _check_kind(name: str, described: Mapping[str, Any], spec: Spec) -> None:
    if isinstance(spec.call, Call):
        if described["kind"] == "class":
            raise BadRegistration(f"{name}: {spec.name} is a function: register a function")
        return
    methods = ", ".join(spec.call.operations)
    lacking = [m for m in spec.call.operations if m not in described["methods"]]
    if described["kind"] != "class" or lacking:
        without = f" (it has no {lacking[0]})" if described["kind"] == "class" else ""
        raise BadRegistration(
            f"{name}: {spec.name} is a program: register a class with methods {methods}{without}"
        )


def _check_given(name: str, takes: Collection[str], takes_any: bool, spec: Spec) -> None:
    for keyword in spec.given:
        if keyword not in takes and not takes_any:
            raise BadRegistration(
                f"{name}: {spec.name} is always given {', '.join(spec.given)}: take {keyword} as a "
                "keyword"
            )


def _check_precision(name: str, declared: Any) -> None:
    per_dtype = isinstance(declared, Mapping) and set(declared) <= set(FORMATS)
    for each in declared.values() if per_dtype else [declared]:
        if each is None:
            continue
        if not isinstance(each, (str, Mapping)):
            raise BadRegistration(f"{name}: precision={each!r}: wanted one of {', '.join(PRESETS)}")
        try:
            Precision.from_json(each)
        except (ValueError, TypeError) as error:
            raise BadRegistration(f"{name}: {error}") from None


def _some_of(name: str, what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """At least one, none twice, all known."""
    if not given:
        raise BadRegistration(f"{name}: {what} is empty: wanted some of {', '.join(known)}")
    if twice := [word for word in given if given.count(word) > 1]:
        raise BadRegistration(f"{name}: {twice[0]!r} stands twice in {what}")
    _among(name, what.removesuffix("s"), given, known)


def _among(name: str, what: str, given: Iterable[str], known: Sequence[str]) -> None:
    for word in given:
        if word not in known:
            raise BadRegistration(f"{name}: {unknown_word(word, what, known)}")
