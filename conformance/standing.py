"""Where an implementation stands after a run: one verdict from all of its checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernelproof.conformance.capabilities import (
    GRADIENTS_NOT_DECLARED,
    OPTION_NOT_TAKEN,
    Capabilities,
)
from kernelproof.conformance.suite import Suite
from kernelproof.conformance.verdict import Result, Verdict, plain_number
from kernelproof.spec.language import Clause


@dataclass(frozen=True)
class Standing:
    """One implementation of one spec on one backend.

    verdict: ``conformant`` if nothing failed, every mandatory clause was exercised and every
        output was judged, ``passes`` if nothing failed but something of that is missing,
        ``not run`` if no check ran, else ``not conformant``.
    unjudged: outputs of the spec that it does not return.
    untiled: it launches Triton kernels and names no tiles, so that only the cap holds its costs.
    missing: mandatory clauses that no passing check cited. A clause is not mandatory if each
        of its cases needs an option that the implementation does not take, if it is about dtypes
        or gradients that the implementation does not declare, or about a cost that this backend
        does not count.
    costs: per metric the largest ratio of what was counted to its bound.
    exponents: per clause of complexity, by its last word, with which power the count grew.
    fuzzed: how many random cases were judged, in words.
    """

    spec: str
    implementation: str
    backend: str
    verdict: str
    missing: tuple[str, ...]
    unjudged: tuple[str, ...]
    untiled: bool
    presets: tuple[str, ...]
    worst: Result | None
    costs: Mapping[str, float]
    exponents: Mapping[str, float]
    counts: Counter[Verdict]
    reasons: Counter[str]
    unmeasured: str
    uncounted: tuple[str, ...]
    fuzzed: str
    seconds: float

    @property
    def failed(self) -> int:
        """Checks with a failing verdict."""
        return sum(n for verdict, n in self.counts.items() if verdict.failing)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the record."""
        return {
            "spec": self.spec,
            "implementation": self.implementation,
            "backend": self.backend,
            "verdict": self.verdict,
            "missing_clauses": list(self.missing),
            "unjudged_outputs": list(self.unjudged),
            "presets": list(self.presets),
            "ratio": plain_number(self.worst.ratio) if self.worst else None,
            "worst_case": self.worst.case if self.worst else None,
            "costs": {metric: plain_number(ratio) for metric, ratio in self.costs.items()},
            "exponents": dict(self.exponents),
            "counts": {str(verdict): self.counts[verdict] for verdict in Verdict},
            "seconds": round(self.seconds, 3),
        }


def standings(suite: Suite, results: Sequence[Result]) -> list[Standing]:
    """One per implementation, spec and backend that anything is known of."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.spec:  # all but a target's own check: a precision that --require forbids counts
            key = (result.spec, result.implementation, result.backend)
            groups.setdefault(key, []).append(result)
    return [_standing(suite, *key, groups[key]) for key in sorted(groups)]


def _standing(
    suite: Suite, spec: str, name: str, backend: str, results: Sequence[Result]
) -> Standing:
    counts = Counter(r.verdict for r in results)
    # of these the ratio is no error of a result
    apart = ("costs", "complexity", "properties", "statistics")
    measured = [r for r in results if r.ratio is not None and r.check not in apart]
    fuzzed = next((r.message for r in results if r.check == "fuzz" and r.ratio is not None), "")
    unmeasured = [r.message for r in results if r.verdict is Verdict.UNMEASURED]
    implementation = next(i for i in suite.implementations if (i.spec.name, i.name) == (spec, name))
    missing = _missing(implementation, results)
    unjudged = tuple(n for n in implementation.spec.output_names if n not in implementation.returns)
    untiled = bool(
        backend == "interpret" and implementation.spec.costs.tiles and not implementation.tiles
    )
    ran = set(counts) - {Verdict.UNSUPPORTED}
    if not ran:
        verdict = "not run"
    elif any(each.failing for each in ran):
        verdict = "not conformant"
    else:
        verdict = "passes" if missing or unjudged or untiled else "conformant"
    return Standing(
        spec=spec,
        implementation=name,
        backend=backend,
        verdict=verdict,
        missing=missing,
        unjudged=unjudged,
        untiled=untiled,
        presets=tuple(dict.fromkeys(r.preset for r in results)),
        worst=max(measured, key=lambda r: r.ratio or 0.0, default=None),
        costs=_costs(results),
        exponents={r.clause.rpartition(".")[2]: r.exponent[0] for r in results if r.exponent},
        counts=counts,
        reasons=Counter(r.message for r in results if r.verdict is Verdict.UNSUPPORTED),
        unmeasured=unmeasured[0] if unmeasured else "",
        uncounted=tuple(
            dict.fromkeys(
                metric
                for r in results
                if r.verdict is Verdict.UNMEASURED and (metric := _metric(r))
            )
        ),
        fuzzed=fuzzed,
        seconds=sum(r.seconds for r in results),
    )


def _metric(result: Result) -> str:
    """What a result counts, or nothing: a check of costs may cite another clause that it broke."""
    _, cost, metric = result.clause.rpartition(".cost.")
    return metric if cost else ""


def _costs(results: Sequence[Result]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for result in results:
        metric = _metric(result)
        if metric and result.ratio is not None:
            worst[metric] = max(worst.get(metric, 0.0), result.ratio)
    return worst


def _missing(implementation: Capabilities, results: Sequence[Result]) -> tuple[str, ...]:
    exercised = {r.clause for r in results if r.verdict is Verdict.PASS}
    return tuple(
        c.anchor
        for c in implementation.spec.clauses
        if c.anchor not in exercised
        and not (
            _not_declared(c, implementation)
            or _not_taken(c, results)
            or (_not_counted(c, results) and c.anchor not in implementation.deviates)
        )
    )


def _not_declared(clause: Clause, implementation: Capabilities) -> bool:
    """Of a clause about some dtypes alone: the implementation has none of them."""
    return clause.dtypes is not None and not set(clause.dtypes) & set(implementation.dtypes)


def _not_counted(clause: Clause, results: Sequence[Result]) -> bool:
    """Of a clause about costs: outside the backend's plan, or of what is claimed. What was to be
    measured and could not be is another matter: nothing shows that such work is the algorithm's."""
    cited = [r for r in results if r.clause == clause.anchor]
    return clause.metric is not None and all(r.verdict is Verdict.UNSUPPORTED for r in cited)


def _not_taken(clause: Clause, results: Sequence[Result]) -> bool:
    cited = [r for r in results if r.clause == clause.anchor]
    outside = (OPTION_NOT_TAKEN, GRADIENTS_NOT_DECLARED)
    return bool(cited) and all(r.message.startswith(outside) for r in cited)
