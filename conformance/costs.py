"""Costs: what was counted while an implementation ran, against the closed forms of its spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.verdict import Verdict
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Formula, Metric, Program, Step

_ARITHMETIC: tuple[Metric, ...] = ("flops", "exps", "operations", "additions")

SLACK: Mapping[Metric, float] = {
    "traffic": 1.05,
    **dict.fromkeys(_ARITHMETIC, 1.01),
}
"""Bookkeeping that no closed form has: a few scalars, a row of statistics."""

BOOKKEEPING = 1 << 10
"""Bytes that plain operators may move beside any closed form: at sizes of a few elements a copy of
the outputs is more than the rest."""

UNITS: Mapping[Metric, str] = {
    "traffic": "bytes moved",
    "flops": "FLOPs of products",
    "exps": "exponentials",
    "operations": "floating-point operations",
    "additions": "additions of elements",
    "memory": "bytes held at the peak beside inputs and outputs",
}


class CostJudgement:
    """The comparison of one call's counts, or of one step's of a program, with its budget.

    number: of the step. held: what the program holds after it.
    """

    def __init__(
        self,
        implementation: Capabilities,
        case: Case,
        clause: Clause,
        number: int,
        step: Step,
        held: Mapping[str, int],
        counts: Counts,
    ) -> None:
        costs = implementation.spec.costs_of(step.operation)
        assert clause.metric is not None and costs is not None
        self._implementation, self._metric, self.counts = implementation, clause.metric, counts
        self._costs, self._number = costs, number
        self._tiles, self._problem = read_tiles(implementation.tiles, counts)
        sizes = implementation.spec.sizes(case, step.tables, held={**held, **step.sizes})
        # roles that are not named may be as wide as any in use
        assumed = self._costs.widest_tiles(sizes) if self._tiles else {}
        self._sizes = sizes.with_tiles(**{**assumed, **self._tiles})
        self._step = step

    def finding(self) -> dict[str, Any]:
        """Verdict, ratio, what was measured and what is allowed, as fields of a Result."""
        found = self._finding()
        if "message" in found and isinstance(self._implementation.spec.call, Program):
            where = f"step {self._number + 1} ({self._step.operation})"
            found["message"] = f"{where}: {found['message']}"
        return found

    def unknown(self, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Why this metric could not be counted, or not with the tiles that were wanted, as fields
        of a Result; nothing if it was."""
        if reason := self._unknown():
            return {"verdict": Verdict.UNMEASURED, "message": reason}
        for role, size in wanted.items():
            if (have := self._tiles.get(role)) != size:
                message = (
                    f"no configuration with {role} {size}: it ran with {have or 'no such tile'}"
                )
                return {"verdict": Verdict.UNSUPPORTED, "message": message}
        return {}

    def _finding(self) -> dict[str, Any]:
        if unknown := self.unknown({}):
            return unknown
        if self._problem and self._metric not in ("footprint", "memory"):
            return {"verdict": Verdict.FAIL, "message": self._problem}
        if self._metric == "footprint":
            return self._footprint()
        measured = self.measured
        allowed, why = self._budget()
        ratio = measured / allowed if allowed else float("inf") if measured else 0.0
        found = {"ratio": ratio, "measured": measured, "allowed": allowed}
        if ratio <= 1:
            return found
        message = f"{measured:,} {UNITS[self._metric]}: at most {allowed:,} ({why})"
        return {**found, "verdict": Verdict.FAIL, "message": message + self._breakdown()}

    def _unknown(self) -> str:
        """Why this metric could not be counted, if it could not."""
        counts, metric = self.counts, self._metric
        if counts.unseen:
            return counts.unseen[0]
        if metric == "memory":
            return "" if counts.peak_memory is not None else "peak memory is not measured here"
        if metric in ("traffic", "footprint") and counts.opaque:
            return f"what moves inside {_words(counts.opaque)} is not known"
        if metric in _ARITHMETIC and counts.unpriced:
            return f"the FLOPs of {_words(counts.unpriced)} are not known"
        return self._too_little()

    def _too_little(self) -> str:
        """Whether less was counted than any implementation needs: it went past the meters."""
        counts, metric = self.counts, self._metric
        moved, products = self._costs.compulsory(self._sizes), self._costs.useful(self._sizes)
        if not counts.opaque and counts.traffic < moved and metric != "footprint":
            return (
                f"{counts.traffic:,} bytes moved are less than the {moved:,} that outputs depend "
                "on: work was skipped, or went past the meters"
            )
        if metric == "flops" and counts.dots < products and "mask" not in self._step.options:
            return (
                f"{counts.dots:,} FLOPs of matrix products are fewer than the {products:,} that "
                "outputs depend on: they were made by other operations"
            )
        if metric == "operations" and counts.operations < products:
            return (
                f"{counts.operations:,} floating-point operations are fewer than the {products:,} "
                "that outputs depend on: work was skipped, or went past the meters"
            )
        return ""

    def beside(self, apart: Formula | None) -> int:
        """What was counted, without the closed form of a part."""
        return self.measured - (apart(self._sizes) if apart else 0)

    @property
    def measured(self) -> int:
        """What was counted."""
        counts = self.counts
        return {
            "traffic": counts.traffic,
            "flops": counts.dots,
            "exps": counts.exps,
            "operations": counts.operations,
            "additions": counts.elementwise,
            "memory": counts.peak_memory or 0,
        }[self._metric]

    def _budget(self) -> tuple[int, str]:
        """The bound, and what it is."""
        x, metric, costs = self._sizes, self._metric, self._costs
        slack = SLACK.get(metric, 1.0)
        form = (costs.wrapped or costs.traffic) if metric == "traffic" else getattr(costs, metric)
        own = int(form(x) * slack)
        if metric == "memory":
            return own, "the closed form"
        if metric != "traffic" and not self.counts.launches:
            # torch's operators have no tiles to waste anything on
            words = f", {costs.of_operators}" if costs.of_operators else ""
            return own, f"{slack:g} times the closed form{words}"
        cap = costs.cap(x) if metric == "traffic" else self._most(form)
        if self._tiles and own <= cap:
            return own, f"{slack:g} times the closed form {self._words_of_tiles()}"
        if metric == "traffic" and not self.counts.launches:
            cap += BOOKKEEPING
        hint = "" if self._tiles or not costs.tiles else "; tiles=... names yours"
        return cap, f"what {self._implementation.spec.name} allows whatever the tiles{hint}"

    def _most(self, form: Formula) -> int:
        """What is allowed whatever the tiles: wide ones waste most on padding, narrow ones repeat
        most of what is made once per tile."""
        extremes = filter(None, (self._costs.widest_tiles, self._costs.narrowest_tiles))
        most = max(form(self._sizes.with_tiles(**tiles(self._sizes))) for tiles in extremes)
        # a row is rescaled once per tile, and key tiles may be as narrow as 16
        rescales = 17 / 16 if self._metric == "exps" else 1.0
        return int(most * SLACK[self._metric] * rescales)

    def _words_of_tiles(self) -> str:
        """The tiles that the closed form is of, those assumed among them."""
        tiles = ", ".join(f"{role} {size}" for role, size in self._tiles.items())
        assumed = {r: n for r, n in self._sizes.tiles.items() if r not in self._tiles}
        words = [f"for tiles {tiles}"]
        if assumed:
            sizes = ", ".join(f"{role} {size}" for role, size in assumed.items())
            words.append(f"{sizes} for want of names")
        return ", ".join([*words, *filter(None, [self._costs.assumes])])

    def _footprint(self) -> dict[str, Any]:
        """The input of which the smallest part was read, compared with what is needed of it."""
        needed = {
            name: elements * self._step.inputs[name].itemsize
            for name, elements in self._costs.reads(self._sizes).items()
        }
        if not needed:  # of a step of a program that reads no input
            return {"ratio": 0.0}
        ratios = {name: _lower(need, self._read(name)) for name, need in needed.items()}
        worst = max(ratios, key=ratios.__getitem__)
        found = {
            "ratio": ratios[worst],
            "measured": self._read(worst),
            "allowed": needed[worst],
        }
        if ratios[worst] <= 1 and self.counts.traffic < sum(needed.values()):
            # a gather counts as a look at all rows: then the bytes that moved tell
            return {"verdict": Verdict.UNMEASURED, "message": "fewer bytes moved than were needed"}
        if ratios[worst] <= 1:
            return found
        message = (
            f"{self._read(worst):,} distinct bytes of {worst} were read: outputs depend on "
            f"{needed[worst]:,}"
        )
        return {**found, "verdict": Verdict.FAIL, "message": message}

    def _read(self, name: str) -> int:
        access = self.counts.arguments.get(name)
        return access.footprint if access else 0

    def _breakdown(self) -> str:
        """Where the bytes went: the arguments that moved most."""
        if self._metric != "traffic":
            return ""
        moved = sorted(self.counts.arguments.items(), key=lambda a: -(a[1].read + a[1].written))
        parts = []
        for name, access in moved[:4]:
            what = "what operators made on the way" if name == "*" else name
            amounts = [f"{access.read:,} read"] * bool(access.read)
            amounts += [f"{access.written:,} written"] * bool(access.written)
            if amounts:
                parts.append(f"{what}: {' and '.join(amounts)}")
        return "; " + ", ".join(parts) if parts else ""


def read_tiles(declared: Mapping[str, str], counts: Counts) -> tuple[dict[str, int], str]:
    """Tile sizes by role, as the launches had them, and a sentence if they cannot be read.

    ``kernel.BLOCK_M`` is a constexpr of one kernel, and unknown in a call that does not launch it.
    Without a launch there are no tiles.
    """
    tiles: dict[str, int] = {}
    kernels = {launch.kernel for launch in counts.launches} | {""}
    for role, constant in declared.items() if counts.launches else ():
        if constant.rpartition(".")[0] not in kernels:
            continue
        values = counts.constants(constant)
        if not values:
            known = sorted({name for launch in counts.launches for name in launch.constants})
            return {}, (
                f"tiles[{role!r}] is {constant!r}, but no launch has a constexpr of that name: "
                f"wanted one of {', '.join(known)}"
            )
        if len(values) > 1 or not all(type(v) is int and v > 0 for v in values):
            shown = ", ".join(sorted(map(repr, values)))
            return {}, (
                f"tiles[{role!r}]: {constant} was {shown}: wanted one size in all launches, or "
                "KERNEL.CONSTEXPR to say which"
            )
        tiles[role] = values.pop()
    return tiles, ""


def _lower(need: int, have: int) -> float:
    """The ratio of a lower bound: 1 or less where there is enough."""
    return need / have if have else float("inf") if need else 0.0


def _words(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
