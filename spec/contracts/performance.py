"""Clauses about timed calls. They hold for every spec, and are judged where calls are timed."""

from __future__ import annotations

PERFORMANCE_CLAUSES = {
    "performance.clock": "The time that a worker tells of its calls is the time that they take, by "
    "the judge's clock as by its own.",
    "performance.after-return": "The work of a call is done when it returns.",
    "performance.roof": "No call makes its operations several times faster than this machine "
    "multiplies matrices.",
}
