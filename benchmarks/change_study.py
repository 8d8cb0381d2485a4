"""Change points over commits: false changes and power of ours, PELT and apache-otava.

    python benchmarks/change_study.py --json docs/measurements/change-study.json
        [--others ENVIRONMENT/bin/python] [--series 100]
    python benchmarks/change_study.py --read docs/measurements/change-study.json

A series is 100 commits, a point each, with 1 percent of noise between them, of the kinds of
gate_study.py and AR(1) of 0.5 beside that of 0.9. Clean ones: how many have any change. With a step
of 3 percent at commit 70, or of 5 percent at commit 98, the last but one: how many have a change
within one commit of it, and how many have others. The others run in an environment that has
ruptures (PELT, squared error, penalty 6.4 log n at the noise of successive differences, 2 commits
at least) and apache-otava (its defaults). Ours is asked with its budget of 2 percent, and without.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gate_study import KINDS, NOISE, Array, Generator
from scipy.signal import lfilter

from kernelproof.conformance.history.steps import find_steps

COMMITS = 100
STEPS = {"none": (COMMITS, 0.0), "3 percent at 70": (70, 0.03), "5 percent at 98": (98, 0.05)}


def less_correlated(rng: Generator, shape: tuple[int, ...]) -> Array:
    """AR(1) over time: 0.5."""
    drawn = rng.standard_normal(shape)
    drawn[..., 1:] *= math.sqrt(1 - 0.5**2)
    return np.asarray(NOISE * lfilter([1], [1, -0.5], drawn))


NOISES = {
    "Gaussian": KINDS["Gaussian"][0],
    "heavy-tailed (t3)": KINDS["heavy-tailed (t3)"][0],
    "AR(1), 0.5": less_correlated,
    "AR(1), 0.9": KINDS["autocorrelated"][0],
    "two modes": KINDS["two modes"][0],
    "spikes": KINDS["spikes"][0],
}

OTHERS = {
    "PELT (ruptures)": """
import numpy as np, ruptures
def places(x):
    scale = 1.4826 * np.median(np.abs(np.diff(x))) / 2**0.5
    model = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(x / scale)
    return model.predict(pen=6.4 * np.log(len(x)))[:-1]
""",
    "apache-otava, p 0.001": """
import numpy as np
from otava.analysis import compute_change_points
def places(x):
    points, _ = compute_change_points(list(np.exp(x)), window_len=50, max_pvalue=0.001)
    return [int(point.index) for point in points]
""",
}


def ours(budget: float) -> Callable[[Array], list[list[int]]]:
    """Places of ``find_steps`` in each row."""
    least = float(np.log1p(budget))
    return lambda rows: [[step.place for step in find_steps(x, least)] for x in rows]


def other(python: str, script: str) -> Callable[[Array], list[list[int]]]:
    """Places that a function of another environment names in each row."""

    def places(rows: Array) -> list[list[int]]:
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file, rows)
            file.flush()
            tail = f"import json\nprint(json.dumps([places(x) for x in np.load({file.name!r})]))"
            words = [python, "-W", "ignore", "-c", script + tail]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
        return [[int(k) for k in found] for found in json.loads(done.stdout)]

    return places


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, or read what was simulated; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--others", help="a Python that has ruptures and apache-otava")
    parser.add_argument("--json", help="write the numbers to this file")
    parser.add_argument("--read", help="simulate nothing, read this file")
    given = parser.parse_args(arguments)
    if given.read:
        found = json.loads(Path(given.read).read_text())
    else:
        methods = {"kernelproof": ours(0.02), "kernelproof, any size": ours(0.0)}
        for name, script in OTHERS.items() if given.others else ():
            methods[name] = other(given.others, script)
        rows = []
        for number, kind in enumerate(NOISES):
            for step, (place, size) in STEPS.items():
                rng = np.random.default_rng([given.seed, number, place])
                x = NOISES[kind](rng, (given.series, COMMITS))
                x[:, place:] += np.log1p(size)
                rows += [_row(name, kind, step, m(x), place) for name, m in methods.items()]
            print(f"{kind}: done", file=sys.stderr, flush=True)
        found = {"seed": given.seed, "series": given.series, "commits": COMMITS, "rows": rows}
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    return 0


def _row(name: str, kind: str, step: str, found: list[list[int]], place: int) -> dict[str, Any]:
    near = [any(abs(k - place) <= 1 for k in places) for places in found]
    false = [any(abs(k - place) > 1 for k in places) for places in found]
    located, others = float(np.mean(near)), float(np.mean(false))
    return {"method": name, "noise": kind, "step": step, "found": located, "false": others}


def table(found: dict[str, Any]) -> str:
    """Markdown: percent of series."""
    lines = ["| method | " + " | ".join(NOISES) + " |", "|---" * (len(NOISES) + 1) + "|"]
    at = {(r["method"], r["noise"], r["step"]): r for r in found["rows"]}
    for name in dict.fromkeys(row["method"] for row in found["rows"]):
        cells = []
        for kind in NOISES:
            clean, *steps = (at[name, kind, step] for step in STEPS)
            words = [f"{100 * clean['false']:.3g}", *(f"{100 * s['found']:.0f}" for s in steps)]
            cells.append(" / ".join(words))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
