"""Which storage an address lies in, and which bytes of an input were read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from kernelproof.conformance.meters.counts import Counts


class Meter:
    """Counts of one call, and the storages of its inputs, for every meter that sees the call.

    ``inputs``: the tensors that hold the storages of the inputs, whole, by role.
    ``before``: of an earlier step of the same object, which may have kept what it made.
    """

    def __init__(self, inputs: Mapping[str, torch.Tensor], before: Meter | None = None) -> None:
        self.counts = Counts()
        self.inputs = inputs
        self._known: dict[int, StorageWeakRef] = before._known if before else {}
        self._starts: list[int] = []
        self._inputs: list[Input] = []
        whole = [Input(name, tensor) for name, tensor in inputs.items() if tensor.numel()]
        for each in sorted(whole, key=lambda i: i.start):
            self._starts.append(each.start)
            self._inputs.append(each)

    def input_at(self, address: int) -> Input | None:
        """The input in whose storage an address lies."""
        place = bisect_right(self._starts, address) - 1
        if place >= 0 and address < self._inputs[place].end:
            return self._inputs[place]
        return None

    def made(self, tensor: torch.Tensor) -> None:
        """Note that something metered has written to the storage of a tensor."""
        storage = tensor.untyped_storage()
        self._known[storage.data_ptr()] = StorageWeakRef(storage)

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether what a tensor holds came with the call, or something metered has made it."""
        if not tensor.numel():
            return True
        start = tensor.untyped_storage().data_ptr()
        if self.input_at(start) is not None:
            return True
        storage = self._known.get(start)  # freed memory comes again, with nothing known of it
        return storage is not None and not storage.expired()

    def miss(self, why: str) -> None:
        """Note that work went past the meters; the first few reasons are enough."""
        if why not in self.counts.unseen and len(self.counts.unseen) < 3:
            self.counts.unseen.append(why)

    def finish(self) -> Counts:
        """The counts, footprints included."""
        for each in self._inputs:
            self.counts.access(each.name).footprint = each.footprint
        return self.counts


class Input:
    """The storage of one input, and which of its elements were read."""

    def __init__(self, name: str, storage: torch.Tensor) -> None:
        self.name, self.item = name, storage.element_size()
        self.start = storage.data_ptr()
        self.end = self.start + storage.numel() * self.item
        self._read = np.zeros(storage.numel(), np.bool_)

    @property
    def footprint(self) -> int:
        """Distinct bytes read."""
        return int(self._read.sum()) * self.item

    def mark(self, addresses: Any, size: int) -> None:
        """Elements of ``size`` bytes were read at these addresses, all inside this storage."""
        self._resolve(size)
        places = (addresses - self.start) // self.item
        for more in range(size // self.item):
            self._read[places + more] = True

    def mark_view(self, view: torch.Tensor) -> None:
        """A torch operator read this view of the storage."""
        size = view.element_size()
        self._resolve(size)
        first = (view.data_ptr() - self.start) // self.item
        parts = size // self.item
        np.lib.stride_tricks.as_strided(
            self._read[first:], (*view.shape, parts), (*(s * parts for s in view.stride()), 1)
        )[...] = True

    def _resolve(self, size: int) -> None:
        """Tell elements of ``size`` bytes apart, where the dtype of the storage is a wider one."""
        if size < self.item:
            self._read = np.repeat(self._read, self.item // size)
            self.item = size
