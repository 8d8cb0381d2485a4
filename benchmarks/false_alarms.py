"""False alarms: right implementations on random cases, of which none may fail.

    python benchmarks/false_alarms.py --cases 2000 --simulated 2000 [--seed 1] [--json FILE]
        [TARGET ...]

Sizes, options, families, dtypes and layouts are drawn at random, and so are the inputs. Where
inputs are contiguous, the costs of the case are judged too, and one property that fits it, and
gradients always where they are declared. Right
simulations (every declared rounding, several tiles and orders) take turns on the simulated cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from typing import Any

import numpy as np

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.fuzzing import chosen_from
from kernelproof.conformance.power import trials
from kernelproof.conformance.simulation.families import right_variants
from kernelproof.conformance.suite import Planned, Settings, Suite, judging
from kernelproof.conformance.verdict import Verdict
from kernelproof.spec.catalogue import load_spec, with_derivatives
from kernelproof.spec.language import Spec


def main() -> int:
    """Print the worst ratio per implementation and dtype; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="default: the built-in implementations")
    parser.add_argument("--cases", type=int, default=2000, help="over all implementations")
    parser.add_argument("--simulated", type=int, default=0, help="over all specs")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--spec", action="append", help="only these specs")
    parser.add_argument("--impl", help="only these implementations")
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    settings = Settings.read(
        {
            "targets": arguments.targets,
            "specs": arguments.spec,
            "implementation": arguments.impl,
            "tier": "core",
            "seed": arguments.seed,
            "timeout": 120,
            "import_timeout": 60,
            "memory": 8,
        }
    )
    suite = Suite(settings)
    chosen = list(suite.selected())
    share = -(-arguments.cases // len(chosen))
    start, rows, alarms = time.perf_counter(), [], 0
    runs = [
        partial(_run, suite, implementation, backend, share, arguments.seed)
        for implementation, backend in chosen
    ]
    names = dict.fromkeys(implementation.spec.name for implementation, _ in chosen)
    specs = [load_spec(name) for name in with_derivatives(names)]
    if arguments.simulated:
        part = -(-arguments.simulated // len(specs))
        runs += [partial(_simulate, spec, part, arguments.seed) for spec in specs]
    for run in runs:
        found = run()
        rows.append(found)
        alarms += len(found["failing"])
        print(f"{found['spec']}  {found['implementation']}  {found['verdicts']}", flush=True)
        for gate, (ratio, case) in sorted(found["worst"].items()):
            print(f"  {gate:<21} worst ratio {ratio:.3f} at {case}")
        for metric, (ratio, case) in found["costs"].items():
            print(f"  {metric:<9} worst ratio {ratio:.3f} at {case}")
        for line in found["failing"]:
            print(f"  FALSE ALARM {line}")
    suite.close()
    total = sum(sum(row["verdicts"].values()) for row in rows)
    print(f"{alarms} false alarms in {total:,} cases, {time.perf_counter() - start:.0f} s")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"cases": total, "false_alarms": alarms, "rows": rows}, file, indent=1)
    return 1 if alarms else 0


def _run(
    suite: Suite, implementation: Capabilities, backend: str, share: int, seed: str
) -> dict[str, Any]:
    spec = implementation.spec
    clause = next(c for c in spec.clauses if c.check == "accuracy")
    rng = np.random.default_rng([*seed.encode(), len(implementation.name)])
    cases = spec.domain.random_cases(rng, spec.call.axes, spec.call.axis_defaults)
    claimed = (c for c in cases if not implementation.unsupported(c, clause))
    verdicts: Counter[str] = Counter()
    worst: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    costs: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    failing: list[str] = []
    right = (Verdict.PASS, Verdict.UNMEASURED)
    for case in itertools.islice(claimed, share):
        for each in chosen_from(case, judging(implementation, backend, case)):
            result = suite.check(Planned(implementation, backend, case, each))
            if each.metric or each.relation:
                key = each.metric or each.anchor
                costs[key] = max(costs[key], (result.ratio or 0.0, case.id))
            for gate, ratio in (result.gates or {}).items():
                of = " of gradients" * (each.check == "gradients")
                key = f"{case.dtype} {gate}{of}"
                worst[key] = max(worst[key], (ratio, case.id))
            verdicts[str(result.verdict)] += each is clause
            # calls of a property may go beyond the limits that its case keeps
            allowed = (*right, Verdict.UNSUPPORTED) if each.relation else right
            if result.verdict not in allowed:
                failing.append(f"{each.anchor} {case.id} ratio {result.ratio} {result.message}")
    return {
        "spec": spec.name,
        "implementation": implementation.name,
        "verdicts": dict(verdicts),
        "backend": backend,
        "worst": dict(worst),
        "costs": dict(costs),
        "failing": failing,
    }


def _simulate(spec: Spec, share: int, seed: str) -> dict[str, Any]:
    """Right variants of one spec, in this process, each case with the next of them."""
    rng = np.random.default_rng([*seed.encode(), 7])
    cases = spec.domain.random_cases(rng, spec.call.axes, spec.call.axis_defaults)
    clause = next(c for c in spec.clauses if c.check == "accuracy")
    worst: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    failing: list[str] = []
    for number, case in enumerate(itertools.islice(cases, share)):
        for trial in trials(spec, case, clause):
            variants = list(right_variants(trial.record, case.dtype))
            variant = variants[number % len(variants)]
            with np.errstate(all="ignore"):
                outputs = trial.rounded(variant.run(trial.record, case.dtype))
            for gate, ratio in trial.ratios(outputs, variant.precision).items():
                key = f"{case.dtype} {gate}"
                worst[key] = max(worst[key], (ratio, f"{case.id} ({variant.name})"))
                if not ratio <= 1:
                    failing.append(f"{gate} {variant.name} {case.id} ratio {ratio}")
    return {
        "spec": spec.name,
        "implementation": "simulations",
        "verdicts": {"pass": share - len(failing), "fail": len(failing)},
        "backend": "",
        "worst": dict(worst),
        "costs": {},
        "failing": failing,
    }


if __name__ == "__main__":
    sys.exit(main())
