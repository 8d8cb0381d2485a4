"""In a worker: the calls of one case, laid out once, timed in as many rounds as the judge asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from kernelproof.conformance.running import DTYPES, Memory, Run
from kernelproof.conformance.timing.clocks import Clock, clock_of
from kernelproof.conformance.timing.mixing import base_of, cut_of, kept_of
from kernelproof.impls.registration import Registration

_now = time.perf_counter_ns  # bound before any target is imported


class Series(Run):
    """Two draws of one case's inputs on the device, and rounds of calls on copies of them.

    Unlike a run that is judged, nothing is metered and fresh memory is not poisoned: calls are made
    as in production. Every call of a round gets copies of its own, made before the round's clock
    starts, in memory that the next round uses again: what fresh memory costs differs from process
    to process many times more than what is timed, and would hide it from the judge's clock.
    """

    def __init__(
        self,
        registration: Registration,
        request: Mapping[str, Any],
        storages: Mapping[str, Any],
        backend: str,
    ) -> None:
        super().__init__(registration, request, backend)
        self._clock: Clock = clock_of(self._device)
        dtypes = {view["storage"]: DTYPES[view["dtype"]] for view in _views(request["draws"][0])}
        self._laid = [
            {key: self._flat(storages[f"{draw}.{key}"], dtype) for key, dtype in dtypes.items()}
            for draw in range(2)
        ]
        self._slots: list[dict[str, torch.Tensor]] = []

    def _flat(self, raw: Any, dtype: torch.dtype) -> torch.Tensor:
        """A storage on the device."""
        flat = torch.from_numpy(raw.copy()).view(dtype) if raw.size else torch.empty(0, dtype=dtype)
        return flat.to(self._device)

    def time(self, rounds: int, number: int, salt: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """So many rounds of ``number`` calls: seconds of each, and one call's outputs of the last.

        whole: seconds of everything, with what is made before and after the rounds.
        """
        begin, durations = _now(), []
        self._slots += [{} for _ in range(number - len(self._slots))]
        self._sent, self._kept, self._problems = {}, [], []
        with self._settings_are_kept():
            for turn in range(rounds):
                first, kept = turn * number, kept_of(salt, turn, number)
                calls = [_Call(self, salt, first + n, self._slots[n]) for n in range(number)]
                timed, raised = self._guard(partial(self._clock.time, calls, kept))
                if raised:
                    return {"runs": [[{"raised": raised}]], "problems": [], "durations": []}, {}
                durations.append(timed[0])
            steps = [
                self._outputs(f"0.{step}", result, calls[kept].memory)
                for step, result in enumerate(timed[1])
            ]
        reply = {
            "runs": [steps],
            "problems": self._problems,
            "durations": durations,
            "state": self._clock.state(),
        }
        return {**reply, "whole": (_now() - begin) * 1e-9}, self._sent

    def prepare(
        self, salt: str, call: int, slot: dict[str, torch.Tensor]
    ) -> tuple[Memory, list[Callable[[], Any]]]:
        """The inputs of one call, written into the storages of a slot, and its steps with these."""
        base = base_of(call)
        acts: list[Callable[[], Any]] = []
        memory = _Dealt(self._laid[base], self._laid[1 - base], self._cuts(salt, call), slot)
        target: Any = self._registration.target
        if (new := self._request["new"]) is not None:
            target = target(**new, **self._place())
        for step in self._request["draws"][base]:
            operation = target if new is None else getattr(target, step["operation"])
            inputs = [memory.view(view) for view in step["inputs"]]
            options = self._options(memory, step["options"])
            acts.append(partial(operation, *inputs, **options))
        return memory, acts

    def _cuts(self, salt: str, call: int) -> dict[str, int]:
        sizes = {key: self._laid[0][key].numel() for key in self._request["mixed"]}
        return {key: cut_of(salt, call, key, size) for key, size in sizes.items()}


class _Call:
    """One call, ready to be made: of a program all of its steps."""

    def __init__(self, series: Series, salt: str, call: int, slot: dict[str, torch.Tensor]) -> None:
        self.memory, self._acts = series.prepare(salt, call, slot)

    def __call__(self) -> list[Any]:
        return [act() for act in self._acts]


class _Dealt(Memory):
    """The inputs of one call: copies, the first elements of some of them from the other draw.

    slot: storages to write them into; what it lacks is made and kept.
    """

    def __init__(
        self,
        base: Mapping[str, torch.Tensor],
        other: Mapping[str, torch.Tensor],
        cuts: Mapping[str, int],
        slot: dict[str, torch.Tensor],
    ) -> None:
        super().__init__({}, torch.device("cpu"))
        self._base, self._other, self._cuts, self._slot = base, other, cuts, slot

    def _fresh(self, view: Mapping[str, Any]) -> torch.Tensor:
        key = view["storage"]
        base, other, cut = self._base[key], self._other[key], self._cuts.get(key, 0)
        if key not in self._slot:
            self._slot[key] = torch.empty_like(base)
        storage = self._slot[key]
        storage[:cut] = other[:cut]
        storage[cut:] = base[cut:]
        return storage


def _views(steps: list[Any]) -> list[Mapping[str, Any]]:
    """The descriptions of all tensors, those in options among them."""
    found: list[Mapping[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                look(each)
        elif isinstance(value, dict) and "storage" in value:
            found.append(value)

    for step in steps:
        look(step["inputs"])
        look(list(step["options"].values()))
    return found
