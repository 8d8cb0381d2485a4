"""Counted costs of the built-in kernels against their closed forms, per kernel and size.

python benchmarks/counted_costs.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys

from kernelproof.conformance.costs import read_tiles
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.suite import Planned, Settings, Suite

CASES = {
    "attention.flash": (
        "b1.hq4.hkv4.tq512.tk512.d64/default/normal",
        "b1.hq8.hkv2.tq500.tk700.d64/causal-bottom-right/normal",
        "b2.hq4.hkv2.tq1.tk1000.d128/default/normal",
        "b1.hq2.hkv1.tq300.tk300.d80/causal-top-left/normal",
        "b1.hq2.hkv2.tq1024.tk1024.d16/default/normal",
    ),
    "attention.grouped_query": (
        "b2.hq8.hkv2.tq1.tk1000.d64/default/normal",
        "b1.hq12.hkv4.tq130.tk257.d96/causal-bottom-right/normal",
    ),
    "attention.multi_query": ("b2.hq8.tq1.tk1000.d64/default/normal",),
    "matmul.tiled": (
        "m512.k512.n512/default/normal",
        "m300.k777.n130/default/normal",
        "m1.k1000.n1000/default/normal",
    ),
    "softmax.safe": ("r64.n5000/default/normal", "r300.n300/default/normal"),
    "softmax.online": ("r64.n5000/default/normal", "r300.n300/default/normal"),
}


def main() -> int:
    """Print a table; 1 if a count is not its closed form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    limits = {"tier": "core", "seed": "0", "timeout": 120, "import_timeout": 60, "memory": 8}
    suite = Suite(Settings.read({"targets": ["kernelproof.impls.triton"], **limits}))
    suite.read()
    rows = []
    for each in suite.implementations:
        traffic = next(c for c in each.spec.clauses if c.metric == "traffic")
        for point in CASES.get(each.spec.name, traffic.smoke):
            for dtype in each.dtypes:
                case = each.spec.case(f"{dtype}/{point}")
                result = suite.check(Planned(each, "interpret", case, traffic))
                counts = Counts.from_json(result.counts or {})
                tiles, _ = read_tiles(each.tiles, counts)
                x, costs = each.spec.sizes(case, dict(case.options), tiles), each.spec.costs
                rows.append(
                    {
                        "spec": each.spec.name,
                        "case": case.id,
                        "tiles": tiles,
                        "bytes": counts.traffic,
                        "bytes / closed form": counts.traffic / costs.traffic(x),
                        "bytes / compulsory": counts.traffic / costs.compulsory(x),
                        "bytes / cap": counts.traffic / costs.cap(x),
                        "FLOPs / closed form": counts.dots / max(costs.flops(x), 1),
                        "exps / closed form": counts.exps / max(costs.exps(x), 1),
                        "sectors / bytes": 32
                        * sum(a.sectors for a in counts.arguments.values())
                        / counts.traffic,
                    }
                )
                print("  ".join(_text(value) for value in rows[-1].values()))
    suite.close()
    print("columns: " + ", ".join(rows[0]))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    return any(row["bytes / closed form"] != 1 for row in rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{role}{size}" for role, size in value.items())
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
