"""False alarms and power of the gate, and of the rules that other tools gate by.

    python benchmarks/gate_study.py --json docs/measurements/gate-study.json [--runs 1000]
        [--otava ENVIRONMENT/bin/python]
    python benchmarks/gate_study.py --read docs/measurements/gate-study.json [--plot FILE.svg]

A run is 500 series, each a sequence of fresh processes with 1 percent of noise between processes
and 1 percent between the rounds within one. In clean runs base and head are equal: a run with any
series called slower (by our gate also: faster) is a false alarm. In the others five series each are
slower by 2, 3, 5 and 10 percent. All rules judge the same simulated processes: 40 of earlier
commits, then those of the pull request. What each looks at stands in its docstring. ``--read``
prints the tables of docs/performance-gate.md; plotting wants matplotlib, and apache-otava, which
pins numpy, an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.stats import beta, mannwhitneyu

from kernelproof.conformance.regression.decision import Rule, decide, head_first, screen

Array: TypeAlias = npt.NDArray[Any]
Generator: TypeAlias = np.random.Generator

SERIES, HISTORY, ROUNDS, NOISE = 500, 40, 20, 0.01
SHIFTS = {0.02: 5, 0.03: 5, 0.05: 5, 0.10: 5}
"""How many series of a run are slower, by how much."""

RULE = Rule()
PRESENT = 2 * (RULE.processes + RULE.confirm)
"""Processes of a pull request that our gate may ask for."""


def gaussian(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Independent, normal."""
    return NOISE * rng.standard_normal(shape)


def heavy(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with 3 degrees of freedom, scaled to the same standard deviation."""
    return np.asarray(NOISE / math.sqrt(3) * rng.standard_t(3, shape))


def correlated(rng: Generator, shape: tuple[int, ...]) -> Array:
    """AR(1) over time: a process resembles the one before it by 0.9."""
    drawn = rng.standard_normal(shape)
    drawn[..., 1:] *= math.sqrt(1 - 0.9**2)
    return np.asarray(NOISE * lfilter([1], [1, -0.9], drawn))


def clocks(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Two clocks, 4 percent apart: the slow one 30 percent of the time, for 7 processes on end."""
    slow = np.empty(shape, bool)
    slow[..., 0] = rng.random(shape[:-1]) < 0.3
    for t in range(1, shape[-1]):
        stays = np.where(slow[..., t - 1], 6 / 7, 1 - 0.3 / 0.7 / 7)
        slow[..., t] = slow[..., t - 1] ^ (rng.random(shape[:-1]) > stays)
    return gaussian(rng, shape) + np.log1p(0.04) * slow


def two_modes(rng: Generator, shape: tuple[int, ...]) -> Array:
    """As of clocks, but each process draws its own: alignment of memory, say."""
    return gaussian(rng, shape) + np.log1p(0.04) * (rng.random(shape) < 0.3)


def spikes(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Of 100, three are slower by 5 to 50 percent."""
    spike = np.where(rng.random(shape) < 0.03, np.log1p(rng.uniform(0.05, 0.5, shape)), 0)
    return gaussian(rng, shape) + spike


Draw: TypeAlias = Callable[[Generator, tuple[int, ...]], Array]
KINDS: dict[str, tuple[Draw, Draw]] = {
    "Gaussian": (gaussian, gaussian),
    "heavy-tailed (t3)": (heavy, heavy),
    "autocorrelated": (correlated, gaussian),
    "two clocks": (clocks, gaussian),
    "two modes": (two_modes, gaussian),
    "spikes": (spikes, spikes),
}
"""Noise between processes, and between the rounds of one."""


@dataclass
class Machine:
    """One run's processes: series by time, the latter counted from the oldest commit.

    shift: log of how much slower the head is, series.
    """

    rng: Generator
    kind: str
    shift: Array
    between: Array = field(init=False)

    def __post_init__(self) -> None:
        self.between = KINDS[self.kind][0](self.rng, (len(self.shift), HISTORY + PRESENT))

    def rounds(self, times: Any, *, head: Any, series: Any = slice(None), n: int = ROUNDS) -> Array:
        """Seconds of n rounds. head: whether that code ran, series times. -> series times n."""
        log = self.between[series][:, times] + self.shift[series][:, None] * head
        return np.asarray(np.exp(log[..., None] + KINDS[self.kind][1](self.rng, (*log.shape, n))))


@dataclass
class Judged:
    """What a rule said of one run: alarms, series; inconclusive, series; processes per series."""

    alarms: Array
    processes: float
    inconclusive: Array | None = None


def kernelproof_gate(machine: Machine, run: int) -> Judged:
    """``kernelproof gate``: five pairs, 24 more of the suspects."""
    pairs = RULE.processes + RULE.confirm
    turned = np.array(head_first(pairs, f"{machine.kind} {run}"))
    base, head = HISTORY + 2 * np.arange(pairs) + np.array([turned, ~turned])
    first = slice(0, RULE.processes)
    logs = [_log_medians(machine, base[first], False), _log_medians(machine, head[first], True)]
    suspects = screen(*logs, RULE)
    rest = slice(RULE.processes, None)
    for i, (times, code) in enumerate(((base[rest], False), (head[rest], True))):
        again = _log_medians(machine, times, code, suspects)
        logs[i] = np.concatenate([logs[i][suspects], again], axis=1)
    alarms, blind = np.zeros((2, len(machine.shift)), bool)
    for i, decision in zip(suspects, decide(*logs, RULE), strict=True):
        alarms[i] = decision.verdict in ("slower", "faster")
        blind[i] = decision.verdict == "inconclusive"
    processes = 2 * (RULE.processes + RULE.confirm * len(suspects) / len(machine.shift))
    return Judged(alarms, processes, blind)


def _log_medians(machine: Machine, times: Any, head: bool, series: Any = slice(None)) -> Array:
    rounds = machine.rounds(times, head=head, series=series)
    return np.log(np.median(rounds, axis=-1))


def compare_fail(machine: Machine, run: int) -> Judged:
    """pytest-benchmark 5.3, ``--benchmark-compare-fail=mean:5%``: one process a side fails if
    current / saved * 100 - 100 > 5 (``utils.PercentageRegressionCheck``)."""
    saved, current = _means(machine)
    return Judged(current / saved * 100 - 100 > 5, 2)


def _means(machine: Machine) -> tuple[Array, Array]:
    """The mean of the rounds of one process of the base and of one of the head."""
    rounds = machine.rounds([HISTORY - 1, HISTORY], head=np.array([False, True]))
    base, head = rounds.mean(-1).T
    return base, head


def action_benchmark(threshold: float) -> Callable[[Machine, int], Judged]:
    """github-action-benchmark: an alert if the ratio of the worse value to the previous one is
    above alert-threshold (``findAlerts``); of pytest-benchmark it reads rounds per second."""

    def judge(machine: Machine, run: int) -> Judged:
        previous, current = (1 / mean for mean in _means(machine))
        return Judged(previous / current > threshold, 2)

    return judge


def asv_continuous(factor: float) -> Callable[[Machine, int], Judged]:
    """``asv continuous --factor``, asv 0.6.6: two processes of five samples a side, one side after
    the other; worse if the exact two-sided Mann-Whitney test of the pooled samples has p < 0.002
    (``_stats.is_different``) and the medians differ by more than the factor."""

    def judge(machine: Machine, run: int) -> Judged:
        head = np.array([False, False, True, True])
        times = HISTORY - 2 + np.arange(4)
        samples = machine.rounds(times, head=head, n=5).reshape(len(machine.shift), 2, 10)
        base, other = samples[:, 0], samples[:, 1]
        p = mannwhitneyu(base, other, axis=-1, method="exact").pvalue
        slower = np.median(base, -1) < np.median(other, -1) / factor
        return Judged((p < 0.002) & slower, 4)

    return judge


RULES: dict[str, Callable[[Machine, int], Judged]] = {
    "kernelproof gate": kernelproof_gate,
    "pytest-benchmark, mean:5%": compare_fail,
    "asv continuous, factor 1.1": asv_continuous(1.1),
    "asv continuous, factor 1.05": asv_continuous(1.05),
    "github-action-benchmark, 105%": action_benchmark(1.05),
    "github-action-benchmark, 200%": action_benchmark(2.0),
}

OTAVA = "apache-otava, p 0.001"

OTAVA_SCRIPT = """
import json, sys
import numpy as np
from otava.analysis import compute_change_points
found = []
for values in np.load(sys.argv[1]):
    points, _ = compute_change_points(list(values), window_len=50, max_pvalue=0.001)
    found.append([(int(p.index), float(p.stats.forward_rel_change())) for p in points])
print(json.dumps(found))
"""


def otava(machine: Machine, run: int, *, python: str, scratch: Path) -> Judged:
    """apache-otava with its defaults (window 50, p 0.001) on 40 earlier commits, a process each,
    and five processes of the head: an alarm if it sees a rise there or up to two points before."""
    times = np.arange(HISTORY + 5)
    means = machine.rounds(times, head=times >= HISTORY).mean(-1)
    np.save(scratch, means)
    done = subprocess.run(
        [python, "-c", OTAVA_SCRIPT, str(scratch)], check=True, capture_output=True, text=True
    )
    scratch.unlink()
    points = json.loads(done.stdout)
    return Judged(np.array([any(i >= HISTORY - 2 and c > 0 for i, c in p) for p in points]), 5)


def study(kind: str, rules: dict[str, Any], runs: int, seed: int) -> list[dict[str, Any]]:
    """A row for every rule: false alarms of clean runs, and power where some series are slower."""
    clean = {name: [] for name in rules}
    slower = {name: [] for name in rules}
    sizes, counts = np.array(list(SHIFTS)), list(SHIFTS.values())
    shifted = np.zeros(SERIES)
    shifted[: sum(counts)] = np.repeat(np.log1p(sizes), counts)
    for run in range(runs):
        for results, shift in ((clean, np.zeros(SERIES)), (slower, shifted)):
            if results is slower and run >= max(runs / 5, 20):
                continue
            keys = [seed, list(KINDS).index(kind), run, int(results is slower)]
            machine = Machine(np.random.default_rng(keys), kind, shift)
            for name, rule in rules.items():
                results[name].append(rule(machine, run))
    return [_row(name, kind, clean[name], slower[name]) for name in rules]


def _row(name: str, kind: str, clean: list[Judged], slower: list[Judged]) -> dict[str, Any]:
    false = sum(bool(each.alarms.any()) for each in clean)
    found = np.mean([each.alarms for each in slower], axis=0)
    power, start = {}, 0
    for size, count in SHIFTS.items():
        power[f"{size:g}"] = float(found[start : start + count].mean())
        start += count
    blind = [each.inconclusive for each in clean if each.inconclusive is not None]
    return {
        "rule": name,
        "noise": kind,
        "clean_runs": len(clean),
        "runs_with_false_alarm": false,
        "at_most": float(beta.ppf(0.95, false + 1, len(clean) - false))
        if false < len(clean)
        else 1,
        "false_alarms_per_run": float(np.mean([each.alarms.sum() for each in clean])),
        "power": power,
        "trials_per_shift": len(slower) * max(SHIFTS.values()),
        "inconclusive_series": float(np.mean(blind)) if blind else None,
        "processes_per_series": float(np.mean([each.processes for each in clean])),
    }


def tables(found: dict[str, Any]) -> str:
    """Markdown: false alarms and power of all rules, and what our gate pays for it."""
    rows = found["rows"]
    names = list(dict.fromkeys(row["rule"] for row in rows))
    lines = ["Runs of 500 equal series with at least one false alarm:", ""]
    lines += ["| rule | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    at = {(row["rule"], row["noise"]): row for row in rows}
    for name in names:
        cells = [_rate(at[name, kind]) for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Slow-downs of 2 / 3 / 5 / 10 percent that are found, percent:", ""]
    lines += ["| rule | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name in names:
        cells = [_power(at[name, kind]["power"]) for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "What it takes, and how often our gate says that it cannot tell:", ""]
    lines += ["| | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    ours = [at["kernelproof gate", kind] for kind in KINDS]
    processes = [f"{row['processes_per_series']:.1f}" for row in ours]
    blind = [f"{100 * row['inconclusive_series']:.2g}" for row in ours]
    lines.append("| processes per series, both sides | " + " | ".join(processes) + " |")
    lines.append("| series inconclusive, percent | " + " | ".join(blind) + " |")
    return "\n".join(lines)


def _rate(row: dict[str, Any]) -> str:
    return f"{row['runs_with_false_alarm']} of {row['clean_runs']}"


def _power(power: dict[str, float]) -> str:
    return " / ".join(f"{100 * power[f'{size:g}']:.0f}" for size in SHIFTS)


def plot(found: dict[str, Any], file: str) -> None:
    """Left: power by slow-down under Gaussian noise. Right: false alarms by noise."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "gate", "font.size": 9})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    at = {(row["rule"], row["noise"]): row for row in found["rows"]}
    names = list(dict.fromkeys(row["rule"] for row in found["rows"]))
    for i, (name, marker) in enumerate(zip(names, "os^vDPX", strict=False)):
        style = {"marker": marker, "label": name, "color": f"C{i}", "zorder": 10 - i}
        style |= {"linewidth": 2.5} if i == 0 else {"linewidth": 1, "alpha": 0.8}
        power = at[name, "Gaussian"]["power"]
        left.plot([100 * float(size) for size in power], [100 * p for p in power.values()], **style)
        rows = [at[name, kind] for kind in KINDS]
        rates = [100 * row["runs_with_false_alarm"] / row["clean_runs"] for row in rows]
        # side by side: most rules are at 100 percent everywhere
        offsets = np.arange(len(KINDS)) + 0.09 * (i - (len(names) - 1) / 2)
        right.plot(offsets, rates, **(style | {"linestyle": "none", "markersize": 7}))
    left.set(xlabel="slow-down, percent", ylabel="found, percent", title="Power, Gaussian noise")
    left.set(xticks=[2, 3, 5, 10], ylim=(-4, 104))
    right.set(title="Runs of 500 equal series with a false alarm", ylabel="percent of runs")
    right.set_xticks(range(len(KINDS)), [kind.replace(" (t3)", "") for kind in KINDS], rotation=20)
    right.set_yscale("symlog", linthresh=1, linscale=0.4)
    right.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    right.set(ylim=(-0.3, 170))
    right.axhline(1, color="black", linewidth=0.8, linestyle=":")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(file, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, or read what was simulated; print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="clean runs; a fifth has slow ones")
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--noise", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--otava", help="a Python that has apache-otava; its runs are a fiftieth")
    parser.add_argument("--json", help="write the numbers to this file")
    parser.add_argument("--read", help="simulate nothing, read this file")
    parser.add_argument("--plot", help="draw to this file")
    given = parser.parse_args(arguments)
    if given.read:
        found = json.loads(Path(given.read).read_text())
    else:
        found = {"seed": given.seed, "rule": asdict(RULE), "rounds": ROUNDS, "rows": []}
        for kind in given.noise:
            found["rows"] += study(kind, RULES, given.runs, given.seed)
            if given.otava:
                scratch = Path(f".gate-study-{given.seed}.npy")
                rules = {OTAVA: partial(otava, python=given.otava, scratch=scratch)}
                found["rows"] += study(kind, rules, math.ceil(given.runs / 50), given.seed)
            print(f"{kind}: done", file=sys.stderr, flush=True)
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    if len({row["noise"] for row in found["rows"]}) == len(KINDS):
        print(tables(found))
    if given.plot:
        plot(found, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
