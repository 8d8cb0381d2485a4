"""The judge's end of a worker: start it, ask it, time it, bury it, start it again."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from kernelproof.conformance.channel import (
    CHANNEL_LOST,
    BadFrame,
    Channel,
    ChannelClosed,
    ChannelTimeout,
    Storages,
    make_exchange_folder,
)

_START_SECONDS = 60.0
_HERE = Path(__file__).parent
_NOT_ITS_OWN = "does it close file descriptors that it does not own?"
_OUTPUT_BYTES = 16 << 10
_MARK = "KERNELPROOF_WORKER"  # in the environment of a worker and of all that it starts


class WorkerFailure(Exception):
    """A call that got no answer: ``kind`` is crash or timeout; the message is one sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(printable(message))
        self.kind = kind


class WorkerUnavailable(Exception):
    """A worker that cannot start at all: the installation is broken, not an implementation."""


@dataclass(frozen=True)
class WorkerLimits:
    """Seconds per call and per import, bytes of address space (0 = none), threads (0 = torch's)."""

    call_seconds: float = 60.0
    import_seconds: float = 60.0
    memory: int = 8 << 30
    threads: int = 0


@dataclass(frozen=True)
class Place:
    """Where a worker runs.

    folder: its current one; None is the judge's. paths: folders whose modules come before those
        that are installed.
    """

    folder: Path | None = None
    paths: tuple[Path, ...] = ()


class Worker:
    """The process for one (target, backend); it is started when first asked."""

    def __init__(
        self,
        target: Mapping[str, Any],
        backend: str,
        limits: WorkerLimits,
        place: Place = Place(),  # it is frozen
    ) -> None:
        self._target, self._backend, self._limits, self._place = target, backend, limits, place
        self._process: _Process | None = None
        self._loaded = self._restarted = False
        self._number = 0
        self._last: int | str | None = None

    def describe(self) -> dict[str, Any]:
        """What the target registers. Raises WorkerFailure if its import hangs or dies."""
        reply, _ = self._ask(
            {"kind": "load", "target": dict(self._target)}, {}, self._limits.import_seconds
        )
        self._loaded = "error" not in reply
        return reply

    def imported(self, folder: Path | None = None) -> list[str]:
        """Files of a folder, its current one by default, from which it has imported anything,
        relative to that folder.

        Raises WorkerFailure, also if it was started again: what it had imported is not known.
        """
        if self._restarted:
            raise WorkerFailure("crash", "was started again since its first import")
        request = {"kind": "imported", "folder": str(folder) if folder else None}
        reply, _ = self._ask(request, {}, self._limits.import_seconds)
        return [str(file) for file in reply.get("imported", ())]

    def run(
        self, request: Mapping[str, Any], storages: Storages, patience: float = 1.0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run one case, in up to ``patience`` times the usual seconds. Raises WorkerFailure."""
        self._bury_the_dead(request["implementation"])
        if not self._loaded:
            reply = self.describe()
            if "error" in reply:
                raise WorkerFailure("crash", f"cannot be loaded again: {reply['error']}")
        self._last = request["implementation"]
        return self._sound({"kind": "run", **request}, storages, patience)

    def lay(self, request: Mapping[str, Any], storages: Storages) -> None:
        """Lay inputs out for rounds of timed calls. Raises WorkerFailure."""
        self.run({**request, "kind": "lay"}, storages)

    def time(
        self, rounds: int, number: int, salt: str, patience: float = 1.0
    ) -> tuple[dict[str, Any], dict[str, Any], float]:
        """Rounds of what was laid out: reply, storages and the seconds until they were here. Raises
        WorkerFailure."""
        self._bury_the_dead(self._last)
        request = {"kind": "time", "rounds": rounds, "calls": number, "salt": salt}
        start = time.perf_counter()
        reply, received = self._sound(request, {}, patience)
        return reply, received, time.perf_counter() - start

    def roofs(self, dtype: str) -> dict[str, Any]:
        """What this machine can copy and multiply. Raises WorkerFailure."""
        return self._sound({"kind": "roofs", "dtype": dtype}, {}, 1.0)[0]

    def busy(self) -> float | None:
        """Seconds that its processor has worked for this process, or None if there is none."""
        try:
            times = psutil.Process(self._running().pid).cpu_times()
        except psutil.Error:
            return None
        return float(times.user + times.system)

    def _sound(
        self, request: Mapping[str, Any], storages: Storages, patience: float
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reply of a process that is able to go on."""
        reply, received = self._ask(request, storages, patience * self._limits.call_seconds)
        if "broken" in reply:
            self.restart()
            raise WorkerFailure(
                "crash", f"left the worker unable to go on: {reply['broken']}"[:500]
            )
        return reply, received

    def _bury_the_dead(self, implementation: int | str | None) -> None:
        """A process that died after its last answer is the fault of whom it ran then."""
        if self._process is None or self._process.alive():
            return
        how, last = self._process.epitaph(), self._last
        self.restart()
        if implementation == last:
            raise WorkerFailure("crash", f"after it had answered the call before, it {how}")

    def warm(self) -> None:
        """Start the process without waiting for it."""
        self._running()

    def close(self) -> None:
        """Stop the process and everything that it started."""
        if self._process:
            self._process.kill()
        self._process, self._loaded = None, False

    def restart(self) -> None:
        """Bury the process and start the next one, which the next case finds started."""
        self.close()
        self._restarted = True
        self.warm()

    def _running(self) -> _Process:
        if self._process is None:
            self._process = _Process(self._backend, self._limits, self._place)
        return self._process

    def _ask(
        self, request: Mapping[str, Any], storages: Storages, seconds: float
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        process = self._running()
        process.wait_for_hello()
        self._number += 1
        try:
            process.channel.send({**request, "number": self._number}, storages, seconds)
            reply, received = process.channel.receive(seconds)
            if reply.get("number") == self._number:
                return printable(reply), received
            failure = WorkerFailure("crash", "answered a request that was not asked")
        except ChannelClosed:
            failure = WorkerFailure("crash", process.epitaph())
        except ChannelTimeout:
            failure = WorkerFailure("timeout", process.hang(seconds))
        except (BadFrame, RecursionError) as error:
            failure = WorkerFailure("crash", f"wrote into the judge's channel: {error}")
        self.restart()
        raise failure


def printable(value: Any) -> Any:
    """The same JSON without control characters: a worker's words go to a terminal."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    if isinstance(value, list):
        return [printable(each) for each in value]
    if isinstance(value, dict):
        return {printable(name): printable(each) for name, each in value.items()}
    return value


def _variables(backend: str) -> dict[str, str]:
    """Of a worker's environment: Triton reads when it is imported whether it interprets."""
    interpret = "1" if backend == "interpret" else "0"
    return {**_HEAP, "PYTHONUNBUFFERED": "1", "TRITON_INTERPRET": interpret}


_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""Freed memory stays with the process, as torch's allocator keeps it on a GPU. By glibc's own rule,
which learns from the order in which blocks are freed, a process has one of two speeds by chance: an
attention whose scores take 4 MB ran in 1.5 ms in one half of processes, in 4.8 ms in the other."""


class _Process:
    """One worker process with its socket, exchange folder and captured output."""

    def __init__(self, backend: str, limits: WorkerLimits, place: Place) -> None:
        self._ready = False
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        self._folder = make_exchange_folder()
        ours, theirs = socket.socketpair()
        command = [
            *(sys.executable, "-P", "-m", "kernelproof.conformance.worker"),
            *("--socket", str(theirs.fileno()), "--folder", str(self._folder)),
            *("--backend", backend),
            *("--memory", str(limits.memory), "--threads", str(limits.threads)),
            *(word for path in place.paths for word in ("--path", str(path))),
        ]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=place.folder,
                env={**os.environ, **_variables(backend), **dict([self._mark.split("=")])},
            )
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise WorkerUnavailable(f"the worker cannot start: {error}") from None
        finally:
            theirs.close()
        self.channel = Channel(ours, self._folder, "judge", self.alive)
        assert self._popen.stdout is not None
        self._output = _Tail(self._popen.stdout)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._popen.pid

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._popen.poll() is None

    def wait_for_hello(self) -> None:
        """Until it is ready to be asked. Raises WorkerUnavailable if it never is."""
        if self._ready:
            return
        try:
            self.channel.receive(_START_SECONDS)
        except (ChannelClosed, ChannelTimeout, BadFrame):
            self.kill()
            lines = self._output.text().strip().splitlines() or ["it printed nothing"]
            last = printable(lines[-1])
            raise WorkerUnavailable(f"the worker process cannot start: {last}") from None
        self._ready = True

    def epitaph(self) -> str:
        """How it died, in one sentence."""
        try:
            code = self._popen.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"closed its channel to the judge ({_NOT_ITS_OWN})"
        if code == CHANNEL_LOST:
            return f"closed its channel to the judge ({_NOT_ITS_OWN})"
        where = self._output.python_line()
        if code < 0:
            return f"died of {signal.Signals(-code).name}{where}"
        return f"ended the process with exit code {code}{where}"

    def hang(self, seconds: float) -> str:
        """Where it hangs, in one sentence; faulthandler prints the stack on SIGUSR1."""
        mark = self._output.size
        self._popen.send_signal(signal.SIGUSR1)
        self._output.wait_for_more(mark, 3.0)
        return f"gave no answer within {seconds:g} s{self._output.python_line()}"

    def kill(self) -> None:
        """Kill the process and its descendants, orphans and those in other sessions included."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        name, _, token = self._mark.partition("=")
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(name) == token:
                    process.kill()
        self.channel.close()
        self._output.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Tail:
    """Drains a worker's output and keeps its end; megabytes of it cost nothing."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._parts, self.size = stream, deque[bytes](), 0
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        kept = 0
        try:
            while part := os.read(self._stream.fileno(), 1 << 16):
                with self._more:
                    self._parts.append(part)
                    self.size += len(part)
                    kept += len(part)
                    while kept > _OUTPUT_BYTES and len(self._parts) > 1:
                        kept -= len(self._parts.popleft())
                    self._more.notify_all()
        except (OSError, ValueError):
            return

    def wait_for_more(self, mark: int, seconds: float) -> None:
        """Until something came behind ``mark``, and nothing more follows for a moment."""
        with self._more:
            end = time.monotonic() + seconds
            came = self._more.wait_for(lambda: self.size > mark, seconds)
            while came and time.monotonic() < end:  # a stack comes in many small pieces
                came = self._more.wait(0.1)

    def text(self) -> str:
        """The end of the output."""
        with self._more:
            return b"".join(self._parts)[-_OUTPUT_BYTES:].decode(errors="replace")

    def python_line(self) -> str:
        """The innermost frame of a faulthandler dump, as `` in f (file.py, line 7)``.

        Of the target's own code: frames of libraries and of the worker say less. The thread that
        a signal interrupts need not be the one that runs the call.
        """
        self.wait_for_more(self.size - 1, 0.5)
        text = self.text()
        for dump in (text.rpartition("Current thread")[2], text):
            frames = re.findall(r'File "([^"<]+)", line (\d+) in (\S+)', dump)
            for file, number, function in frames:
                if "/lib/python" not in file and Path(file).parent != _HERE:
                    return f" in {function} ({Path(file).name}, line {number})"
        return ""

    def close(self) -> None:
        """Let go of the pipe; a descendant that holds its other end is no reason to wait."""
        self._thread.join(0.2)
        self._stream.close() if not self._thread.is_alive() else None
