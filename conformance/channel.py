"""The framed channel between judge and worker: a JSON header and raw tensor bytes.

Bytes travel as safetensors of unsigned bytes, so that a frame never executes anything when it
is read and every dtype is carried alike. Beyond a few megabytes they go through a file in a
private folder in shared memory; the frame then only says so.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, load_file, save, save_file

Storages = Mapping[str, npt.NDArray[np.uint8]]

_FRAME = struct.Struct("<4sIQ")
_MAGIC = b"kp01"
_MAX_HEADER = 16 << 20
SHARED_FROM = 4 << 20
CHANNEL_LOST = 86  # exit code of a worker that cannot reach its judge any more
MAX_BYTES = 4 << 30
_TICK = 0.05


class ChannelClosed(Exception):
    """The other side is gone."""


class ChannelTimeout(Exception):
    """The deadline passed before a whole frame was through."""


class BadFrame(Exception):
    """What came is not a frame."""


class Channel:
    """One end of a connected socket. ``name`` tells the two ends' shared files apart."""

    def __init__(
        self, sock: socket.socket, folder: Path, name: str, alive: Callable[[], bool] = lambda: True
    ) -> None:
        self._socket, self._folder, self._name, self._alive = sock, folder, name, alive

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def send(
        self, header: Mapping[str, Any], storages: Storages, seconds: float | None = None
    ) -> None:
        """Send one frame within ``seconds``. Raises ChannelClosed or ChannelTimeout."""
        data, shared = b"", sum(s.nbytes for s in storages.values()) > SHARED_FROM
        if shared:
            save_file(dict(storages), self._file(self._name))
        elif storages:
            data = save(dict(storages))
        text = json.dumps({**header, "shared": shared}).encode()
        frame = memoryview(_FRAME.pack(_MAGIC, len(text), len(data)) + text + data)
        deadline = _deadline(seconds)
        while frame:
            frame = frame[self._wait(deadline, partial(self._socket.send, frame)) :]

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next frame: header and storages. Raises ChannelClosed, ChannelTimeout, BadFrame."""
        deadline = _deadline(seconds)
        magic, header_size, data_size = _FRAME.unpack(self._exactly(_FRAME.size, deadline))
        if magic != _MAGIC or header_size > _MAX_HEADER or data_size > 2 * SHARED_FROM:
            raise BadFrame("wanted a kernelproof frame, got other bytes")
        text = self._exactly(header_size, deadline)
        data = self._exactly(data_size, deadline)
        try:
            header = json.loads(text)
            shared = header.pop("shared")
            storages = self._load_shared() if shared else load(data) if data else {}
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            raise BadFrame(f"unreadable frame: {error}") from None
        except Exception as error:  # safetensors has an error type of its own
            raise BadFrame(f"unreadable tensors: {error}") from None
        return header, storages

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def _load_shared(self) -> dict[str, Any]:
        path = self._file({"judge": "worker", "worker": "judge"}[self._name])
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise BadFrame(
                f"shared file of {status.st_size} bytes: wanted a plain file up to {MAX_BYTES}"
            )
        storages = load_file(path)
        path.unlink()
        return storages

    def _exactly(self, size: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            want = min(size - len(parts), 1 << 20)
            part = self._wait(deadline, partial(self._socket.recv, want))
            if not part:
                raise ChannelClosed
            parts += part
        return bytes(parts)

    def _wait(self, deadline: float, act: Callable[[], Any]) -> Any:
        """Try until it goes through; a grandchild may keep the socket open after a death."""
        while True:
            alive = self._alive()
            try:
                self._socket.settimeout(max(min(_TICK, deadline - time.monotonic()), 1e-3))
                return act()
            except TimeoutError:
                if not alive:
                    raise ChannelClosed from None
                if time.monotonic() >= deadline:
                    raise ChannelTimeout from None
            except OSError:
                raise ChannelClosed from None


def _deadline(seconds: float | None) -> float:
    return float("inf") if seconds is None else time.monotonic() + seconds


def make_exchange_folder() -> Path:
    """A private folder in shared memory, where there is any."""
    shared = Path("/dev/shm")
    root = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix="kernelproof-", dir=root))
