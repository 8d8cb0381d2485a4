"""The channel between judge and worker, and the life of worker processes."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kernelproof.conformance import client
from kernelproof.conformance.channel import (
    SHARED_FROM,
    BadFrame,
    Channel,
    ChannelClosed,
    ChannelTimeout,
)
from kernelproof.conformance.client import Worker, WorkerFailure, WorkerLimits
from kernelproof.conformance.expectation import draw
from kernelproof.spec.catalogue import load_spec

# Frames -------------------------------------------------------------------------------------------


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Channel, Channel]]:
    """The judge's and the worker's end of a channel."""
    ours, theirs = socket.socketpair()
    yield Channel(ours, tmp_path, "judge"), Channel(theirs, tmp_path, "worker")
    ours.close()
    theirs.close()


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[tuple[Channel, socket.socket]]:
    """The judge's end of a channel, and the bare socket at the other one."""
    ours, theirs = socket.socketpair()
    yield Channel(ours, tmp_path, "judge"), theirs
    ours.close()
    theirs.close()


def frame(text: bytes, data: bytes = b"", magic: bytes = b"kp01") -> bytes:
    return struct.pack("<4sIQ", magic, len(text), len(data)) + text + data


def test_a_frame_arrives_as_it_was_sent(ends: tuple[Channel, Channel]) -> None:
    judge, worker = ends
    sent = {"a": np.arange(7, dtype=np.uint8), "empty": np.zeros(0, np.uint8)}
    judge.send({"x": [1, None, "ü"]}, sent)
    header, storages = worker.receive(5)
    assert header == {"x": [1, None, "ü"]}
    assert {n: s.tolist() for n, s in storages.items()} == {n: s.tolist() for n, s in sent.items()}


def test_frames_keep_their_order_and_their_bounds(ends: tuple[Channel, Channel]) -> None:
    judge, worker = ends
    for number in range(20):
        judge.send({"n": number}, {"s": np.full(number, number, np.uint8)})
    assert [worker.receive(5)[0]["n"] for _ in range(20)] == list(range(20))


BAD = {
    "other bytes": b"HTTP/1.1 200 OK\r\n\r\n",
    "another version": frame(b"{}", magic=b"kp00"),
    "an oversized header": struct.pack("<4sIQ", b"kp01", 1 << 31, 0),
    "oversized data": struct.pack("<4sIQ", b"kp01", 2, 1 << 62),
    "no JSON": frame(b"not json"),
    "half a string": frame(b'{"shared": "'),
    "bytes that are no text": frame(b"\xff\xfe"),
    "a list": frame(b"[]"),
    "a number": frame(b"7"),
    "no word of sharing": frame(b"{}"),
    "nesting without end": frame(b"[" * 200_000),
    "data that are no tensors": frame(b'{"shared": false}', b"garbage" * 10),
    "tensors cut short": frame(b'{"shared": false}', struct.pack("<Q", 1 << 40)),
    "a shared file that is not there": frame(b'{"shared": true}'),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_frame_is_refused(wire: tuple[Channel, socket.socket], what: str) -> None:
    channel, peer = wire
    peer.sendall(BAD[what])
    peer.close()
    with pytest.raises(BadFrame):
        channel.receive(5)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 20])
def test_a_peer_that_closes_within_a_frame_is_gone(
    wire: tuple[Channel, socket.socket], count: int
) -> None:
    channel, peer = wire
    peer.sendall(frame(b'{"shared": false}')[:count])
    peer.close()
    with pytest.raises(ChannelClosed):
        channel.receive(5)


@pytest.mark.parametrize("count", [0, 1, 16, 20])
def test_a_peer_that_goes_silent_within_a_frame_times_out(
    wire: tuple[Channel, socket.socket], count: int
) -> None:
    channel, peer = wire
    peer.sendall(frame(b'{"shared": false}')[:count])
    with pytest.raises(ChannelTimeout):
        channel.receive(0.1)


def test_a_peer_that_reads_nothing_times_out(wire: tuple[Channel, socket.socket]) -> None:
    channel, _ = wire
    with pytest.raises(ChannelTimeout):
        channel.send({}, {"s": np.zeros(3 << 20, np.uint8)}, 0.1)


def test_a_peer_that_drips_does_not_move_the_deadline(
    wire: tuple[Channel, socket.socket],
) -> None:
    channel, peer = wire
    done = threading.Event()

    def drip() -> None:
        for byte in frame(b'{"shared": false, "x": "' + b"y" * 10_000):
            if done.wait(0.01):
                return
            peer.send(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(ChannelTimeout):
        channel.receive(0.2)
    done.set()
    thread.join()


def test_a_dead_process_whose_socket_lives_on_in_a_grandchild_is_gone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, tmp_path, "judge", alive=lambda: False)
    with pytest.raises(ChannelClosed):
        channel.receive(5)
    ours.close()
    theirs.close()


def test_what_was_sent_before_a_death_is_still_read(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(frame(b'{"shared": false, "last": "word"}'))
    theirs.close()
    channel = Channel(ours, tmp_path, "judge", alive=lambda: False)
    assert channel.receive(5)[0] == {"last": "word"}
    ours.close()


# Shared memory ------------------------------------------------------------------------------------


def test_large_tensors_go_through_a_file_that_is_removed_when_read(
    ends: tuple[Channel, Channel], tmp_path: Path
) -> None:
    judge, worker = ends
    sent = np.random.default_rng(0).integers(0, 256, SHARED_FROM + 1, np.uint8)
    judge.send({}, {"s": sent})
    assert [p.stat().st_size > SHARED_FROM for p in tmp_path.iterdir()] == [True]
    _, storages = worker.receive(5)
    assert not list(tmp_path.iterdir())
    assert np.array_equal(storages["s"], sent)


def test_both_directions_share_at_once(ends: tuple[Channel, Channel]) -> None:
    judge, worker = ends
    for number, end in enumerate(ends):
        end.send({}, {"s": np.full(SHARED_FROM + 1, number, np.uint8)})
    assert worker.receive(5)[1]["s"].max() == 0
    assert judge.receive(5)[1]["s"].min() == 1


@pytest.mark.parametrize("kind", ["a link", "a folder", "a pipe", "garbage"])
def test_a_shared_file_of_another_kind_is_refused(
    wire: tuple[Channel, socket.socket], tmp_path: Path, kind: str
) -> None:
    channel, peer = wire
    path, secret = tmp_path / "worker.safetensors", tmp_path / "secret"
    secret.write_bytes(b"secret")
    make: dict[str, Callable[[], Any]] = {
        "a link": lambda: path.symlink_to(secret),
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "garbage": lambda: path.write_bytes(b"garbage" * 100),
    }
    make[kind]()
    peer.sendall(frame(b'{"shared": true}'))
    with pytest.raises(BadFrame):
        channel.receive(5)


# Processes ----------------------------------------------------------------------------------------


def workers() -> list[psutil.Process]:
    """Worker processes that this process started and that live."""
    return [
        p
        for p in psutil.Process().children(recursive=True)
        if p.status() != "zombie" and "kernelproof.conformance.worker" in p.cmdline()
    ]


@pytest.fixture(scope="module")
def inspector(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "inspector.py")


STRIDES = {
    "contiguous": ((1088, 544, 32, 1), 0),
    "transposed": ((1088, 32, 64, 1), 0),
    "sliced": ((5 * 20 * 35, 20 * 35, 35, 1), 5 * 20 * 35 + 20 * 35 + 35 + 1),
    "offset": ((1088, 544, 32, 1), 7),
    "expanded": ((0, 544, 32, 1), 0),
}


@pytest.mark.parametrize("layout", STRIDES)
def test_inputs_arrive_with_the_strides_and_offset_they_were_drawn_with(
    inspector: Any, layout: str
) -> None:
    part = "" if layout == "contiguous" else f"/{layout}"
    result = inspector("strides", f"float32/b2.h2.tq17.tk33.d32/default/normal{part}")
    strides, offset = STRIDES[layout]
    assert f"strides {strides} offset {offset}" in result.message


@pytest.mark.parametrize("size", [9, 1500])
def test_inputs_arrive_with_the_values_they_were_drawn_with(inspector: Any, size: int) -> None:
    case = f"float32/b2.h2.tq{size}.tk{size}.d32/default/normal"
    first, second = inspector("digest", case), inspector("digest", case)
    assert first.message == second.message
    assert "digest" in first.message
    assert inspector("digest", case.replace("normal", "rising")).message != first.message


PAGED = "float16/b2.hq4.hkv2.d32.pages40.page8.n20/splits-2/normal"


def test_pages_that_lie_far_apart_hold_what_was_drawn_and_take_no_memory_between(
    inspector: Any,
) -> None:
    def seen(case: str) -> tuple[str, ...]:
        found = re.search(r"stride (\d+) apart (-?\d+) MB (\d+) digest (\w+)", case)
        assert found
        return found.groups()

    _, _, before, _ = seen(inspector("pages", PAGED).message)
    stride, apart, after, digest = seen(inspector("pages", f"{PAGED}/far").message)
    assert 39 * int(stride) > 2**31
    assert int(apart) == 2 * 8 * 2 * 32  # k and v take turns in one stretch of addresses
    assert int(after) - int(before) < 300
    spec = load_spec("cache.paged")
    [step] = draw(spec, spec.case(f"{PAGED}/far"), "0")
    assert digest == hashlib.sha256(step.inputs["k_pages"].tobytes()).hexdigest()


def test_a_page_written_far_away_is_seen(inspector: Any) -> None:
    result = inspector("page written", PAGED.replace("splits", "lengths-empty+splits") + "/far")
    assert (result.verdict, result.clause) == ("fail", "integrity.inputs-unchanged")
    assert result.message == "call changed its input v_pages"


def test_where_there_are_no_addresses_for_a_case_it_is_unmeasured(
    suite_of: Callable[..., Any], kernels: Path
) -> None:
    narrow = suite_of(kernels / "inspector.py", memory=4)
    result = narrow("pages", f"{PAGED}/far")
    assert result.verdict == "unmeasured"
    assert result.message.startswith("no 4.4 GB of addresses: ")
    assert "digest" in narrow("pages", PAGED).message


def test_large_calls_leave_no_file_behind_and_close_leaves_nothing(
    suite_of: Callable[..., Any], kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(workers())
    folders: list[Path] = []

    def make() -> Path:
        folders.append(tmp_path / f"exchange{len(folders)}")
        folders[-1].mkdir()
        return folders[-1]

    monkeypatch.setattr(client, "make_exchange_folder", make)
    checker = suite_of(kernels / "honest.py")
    assert checker("honest", "float32/b2.h2.tq1500.tk1500.d256/default/normal").verdict == "pass"
    assert [list(folder.iterdir()) for folder in folders] == [[]]
    assert len(set(workers()) - before) == 1
    checker.suite.close()
    assert not [folder for folder in folders if folder.exists()]
    assert not set(workers()) - before


def test_after_a_crash_the_next_call_has_a_fresh_process(
    suite_of: Callable[..., Any], kernels: Path
) -> None:
    checker, before = suite_of(kernels / "hostile.py"), set(workers())
    assert checker("honest").verdict == "pass"
    (first,) = set(workers()) - before
    assert checker("os_exit").verdict == "crash"
    assert checker("honest").verdict == "pass"
    (second,) = set(workers()) - before
    assert first.pid != second.pid
    checker.suite.close()
    assert not set(workers()) - before


def test_a_suite_is_usable_again_after_close(suite_of: Callable[..., Any], kernels: Path) -> None:
    checker = suite_of(kernels / "honest.py")
    checker.suite.close()
    assert checker("honest").verdict == "pass"
    checker.suite.close()
    checker.suite.close()


def test_a_judge_that_is_killed_leaves_no_worker(kernels: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kernelproof.conformance.suite import Settings, Suite\n"
        "suite = Suite(Settings.read({'targets': [sys.argv[1]], 'tier': 'smoke', 'seed': '0',\n"
        "    'timeout': 60, 'import_timeout': 60, 'memory': 8}))\n"
        "suite.read()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-P", "-c", code, str(kernels / "honest.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as judge:
        assert judge.stdout is not None
        assert judge.stdout.readline() == b"ready\n"
        started = psutil.Process(judge.pid).children(recursive=True)
        judge.kill()
    assert started
    _, alive = psutil.wait_procs(started, timeout=10)
    for process in alive:
        process.kill()
    assert not alive


def test_a_reply_to_another_request_is_a_crash(kernels: Path) -> None:
    target = {"path": str(kernels / "honest.py"), "text": "honest.py"}
    worker = Worker(target, "cpu", WorkerLimits())
    assert [each["name"] for each in worker.describe()["implementations"]] == ["honest"]
    worker._running().channel.send({"kind": "load", "target": target, "number": 77}, {})
    with pytest.raises(WorkerFailure, match="answered a request that was not asked"):
        worker.describe()
    worker.close()


def test_a_worker_that_cannot_start_names_the_reason(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    worker = Worker({"path": str(kernels / "honest.py"), "text": "x"}, "cpu", WorkerLimits())
    with pytest.raises(client.WorkerUnavailable, match="ImportError: no torch here"):
        worker.describe()
    worker.close()
