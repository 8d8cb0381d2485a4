"""From what was measured on both sides to one finding for each series."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kernelproof.conformance.history.collect import (
    Called,
    called,
    measurements_of,
    series_of,
    times_of,
)
from kernelproof.conformance.history.measurement import ACCEPTED, METRICS, Measurement, Series
from kernelproof.conformance.regression.counted import (
    compare,
    has_worse_error,
    moved,
    redeclared,
    same_kernel,
)
from kernelproof.conformance.regression.outcome import Policy
from kernelproof.conformance.regression.sides import Side
from kernelproof.conformance.regression.timed import Times
from kernelproof.conformance.regression.verdicts import Finding, Word
from kernelproof.conformance.regression.wording import percent, plural
from kernelproof.conformance.verdict import Result


def results_of(side: Side, times: Times | None) -> Iterator[Result]:
    """All results of a side, the worst reading of each timed call among them."""
    yield from side.results
    for call in times.readings[side.name] if times else ():
        if wrong := times and times.wrong(side.name, call):
            yield wrong


def measured_on(side: Side, times: Times | None) -> list[Measurement]:
    """The numbers of a side, those of each process among them."""
    if side.suite is None:
        return []
    found = list(measurements_of(side.results, side.suite))
    for call, readings in times.readings[side.name].items() if times else ():
        for process, reading in enumerate(readings):
            found += times_of(side.suite, call, reading.seconds, reading.yardstick, process)
    return found


def find(
    sides: Mapping[str, Side],
    measured: Mapping[str, Sequence[Measurement]],
    policy: Policy,
    times: Times | None,
) -> list[Finding]:
    """What was compared exactly, then time, which refers to it."""
    exact = {
        name: [m for m in each if METRICS[m.series.metric].kind != "timed"]
        for name, each in measured.items()
    }
    results = {name: [*side.results, *side.outside] for name, side in sides.items()}
    compared = compare(exact["base"], exact["head"], policy.allowances, results)
    found = [_at_its_precision(each, sides) for each in compared]
    told = {(called(f.series), f.series.metric) for f in found if f.word is Word.MORE}
    timed = [
        _explained(each, found)
        for each in _times_found(sides, times, policy)
        if (called(each.series), each.series.metric) not in told
    ]
    return found + timed


def _at_its_precision(found: Finding, sides: Mapping[str, Side]) -> Finding:
    """An error that both sides have, with what they declare."""
    compared = found.word in (Word.PASS, Word.LESS, Word.MORE, Word.INCOMPARABLE)
    base, head = (sides[name].precision_of(found.series) for name in ("base", "head"))
    if found.series.metric != "error" or not compared or base is None or head is None:
        return found
    return redeclared(found, base, head)


def _times_found(
    sides: Mapping[str, Side], times: Times | None, policy: Policy
) -> Iterator[Finding]:
    if times is None:
        return
    for name, calls in times.alone.items():
        word = Word.MISSING if name == "base" else Word.NO_BASELINE
        for call in calls:
            series = _series(sides[name], call, "time")
            yield Finding(series, word, reason=f"timed on {name} alone")
    for call in times.readings["head"]:
        found = Finding(
            _series(sides["head"], call, "time"),
            Word.PASS,
            base=times.median("base", call),
            head=times.median("head", call),
            control=call in times.controls,
        )
        timed = _time_found(found, call, times, policy)
        yield timed
        # a speed-up that costs accuracy is told as one, and is void
        if timed.word not in (Word.VOID, Word.FASTER) and _is_worse(call, times, policy):
            yield Finding(
                _series(sides["head"], call, "error"),
                Word.MORE,
                base=times.error("base", call),
                head=times.error("head", call),
                reason="of the outputs that were timed",
            )


def _time_found(found: Finding, call: Called, times: Times, policy: Policy) -> Finding:
    """The verdict on one call that both sides have."""
    if wrong := times.wrong("head", call):
        return replace(found, word=Word.VOID, reason=f"{wrong.verdict}: {wrong.message}")
    if wrong := times.wrong("base", call):
        reason = f"base: {wrong.verdict}: {wrong.message}"
        # one bad process among good ones: base has a time, and it is not known
        word = Word.NO_BASELINE if found.base is None else Word.INCONCLUSIVE
        return replace(found, word=word, reason=reason)
    decision = times.decided[call]
    judged = replace(
        found,
        word=Word.PASS if found.control else Word(decision.verdict),
        effect=decision.effect,
        interval=decision.interval,
        sees=decision.minimum_detectable_effect,
    )
    if judged.word is Word.FASTER and _is_worse(call, times, policy):
        before, now = times.error("base", call) or 0.0, times.error("head", call) or 0.0
        reason = f"faster, but its error is {now:.3g} of the bound, on base {before:.3g}"
        return replace(judged, word=Word.VOID, reason=reason)
    return judged


def _is_worse(call: Called, times: Times, policy: Policy) -> bool:
    """Whether the outputs that were timed are less accurate on head; of one code they are not."""
    before, now = times.error("base", call) or 0.0, times.error("head", call) or 0.0
    allowed = policy.allowances.get("error", 0.0)
    return call not in times.controls and has_worse_error(now, before, allowed)


def _explained(timed: Finding, exact: Sequence[Finding]) -> Finding:
    """A change of time with what else changed; a speed-up that costs accuracy is none."""
    if timed.word not in (Word.SLOWER, Word.FASTER, Word.INCONCLUSIVE):
        return timed
    of = timed.series
    mine = [f for f in exact if same_kernel(f.series, of)]
    broken = [f for f in mine if f.word is Word.VOID]
    worse = [f for f in mine if f.series.metric == "error" and f.word is Word.MORE]
    if timed.word is Word.FASTER and (broken or worse):
        looser = next((f"it {f.reason}" for f in worse if f.redeclared), "")
        why = looser or "its error grew where it was compared"
        why = "head fails some of its cases" if broken else why
        return replace(timed, word=Word.VOID, reason=f"faster, but {why}")
    words = [f"{percent(change)} {metric}" for metric, change in moved(exact, of)]
    return replace(timed, with_it=", ".join(words))


def with_verdicts(
    measured: Iterable[Measurement], findings: Iterable[Finding]
) -> list[Measurement]:
    """Measurements with the gate's verdict on their series, and whether it was accepted; what the
    gate says of a time holds for it in units of the yardstick."""
    words = {f.series: f"{ACCEPTED * bool(f.accepted)}{f.word}" for f in findings}
    words |= {
        replace(series, metric="yardstick"): word
        for series, word in words.items()
        if series.metric == "time"
    }
    return [replace(each, verdict=words.get(each.series, "")) for each in measured]


def notes_on(
    sides: Mapping[str, Side],
    times: Times | None,
    unchanged: Collection[str],
    failing: Sequence[Result],
    before: Sequence[Result],
) -> Iterator[str]:
    """What a reader should know beside the verdicts."""
    for sentence in sides["base"].unloaded:
        yield f"base cannot be compared with: {sentence}"
    still = {_check_of(r) for r in failing}
    mended = sum(r.check != "registration" and _check_of(r) not in still for r in before)
    if mended:
        yield f"{mended} {plural('check', mended)} failed on base and pass on head, or are gone"
    if also := len(still & {_check_of(r) for r in before}):
        yield f"{also} of the failing checks failed on base, too"
    if unchanged:
        yield f"the code of {', '.join(unchanged)} is the same on both sides: its times show noise"
    if times and times.controls:
        yield _control_note(times)
    if times is not None and not times.readings["head"]:
        yield (
            "no times were compared: nothing here runs on a backend that can be timed; on "
            "interpret there are counts alone"
        )


def _control_note(times: Times) -> str:
    """What the pairs of unchanged code say of this machine."""
    decisions = [times.decided[call] for call in times.controls if call in times.decided]
    largest = max((abs(each.effect) for each in decisions), default=0.0)
    noise = statistics.median([each.noise for each in decisions]) if decisions else 0.0
    return (
        f"A/A control: {len(decisions)} {plural('series', len(decisions))} of unchanged code, "
        f"noise between processes {100 * noise:.1f} %, largest difference {100 * largest:.1f} %"
    )


def _check_of(result: Result) -> tuple[Called, str]:
    return called(result), result.check


def _series(side: Side, call: Called, metric: str) -> Series:
    assert side.suite is not None
    return series_of(side.suite, call, metric)
