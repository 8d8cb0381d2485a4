"""A case as a worker gets it: views on storages, laid out as the case says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.layout import (
    NUMPY_DTYPES,
    lay_out,
    layout_of,
    layout_of_input,
)
from kernelproof.spec.domain import REPEATING, Case
from kernelproof.spec.language import Clause, Program, Step

Array = npt.NDArray[Any]


def build_request(
    implementation: Capabilities,
    case: Case,
    clause: Clause,
    steps: Sequence[Step],
    tiles: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the storages of a run request; ``tiles``: sizes to choose, by constexpr."""
    call, storages = implementation.judged(clause).call, _Storages(case.dtype)
    new = None
    if isinstance(call, Program):
        new = {name: size for name, size in case.axes if name in call.new}
    request = {
        "implementation": implementation.number,
        "new": new,
        "dtype": case.dtype,
        "steps": [
            {
                "operation": step.operation,
                "inputs": [
                    storages.view(
                        t.name, step.inputs[t.name], layout_of_input(case.layout, position, t)
                    )
                    for position, t in enumerate(call.operations[step.operation].inputs)
                ],
                "options": {
                    name: storages.option(name, value, case.layout)
                    for name, value in step.options.items()
                },
            }
            for step in steps
        ],
        "repeat": 2 if clause.repeat else 1,
        "metered": clause.metric is not None,
        "tiles": dict(tiles or {}),
        "gradients": _gradients(implementation) if clause.check == "gradients" else None,
    }
    return request, storages.bytes


def _gradients(implementation: Capabilities) -> dict[str, Any]:
    """Of which inputs there must be gradients, by number, and of which of the returned outputs; the
    last input is its cotangent."""
    spec = implementation.spec
    assert spec.backward
    names = [tensor.name for tensor in spec.call.operations["call"].inputs]
    return {
        "of": [names.index(name) for name in spec.backward.inputs],
        "through": implementation.returns.index(spec.backward.through),
    }


class _Storages:
    """Collects the bytes of all tensors of a request."""

    def __init__(self, dtype: str) -> None:
        self._dtype = NUMPY_DTYPES[dtype]
        self.bytes: dict[str, Array] = {}
        self._apart = 0

    def view(self, name: str, array: Array, layout: str) -> dict[str, Any]:
        """Lay an array out; the description from which a worker rebuilds it.

        Inputs whose parts lie far apart take turns in one stretch of addresses: the first part of
        each, then the second.
        """
        view, key = lay_out(array, layout), f"s{len(self.bytes)}"
        if view.apart:
            view = view._replace(offset=self._apart)
            self._apart += view.storage.size // view.shape[0]
        self.bytes[key] = np.ascontiguousarray(view.storage).view(np.uint8)
        return {
            "name": name,
            "storage": key,
            "dtype": str(array.dtype),
            "offset": view.offset,
            "shape": list(view.shape),
            "strides": list(view.strides),
            "apart": view.apart,
        }

    def option(self, name: str, value: Any, layout: str) -> Any:
        """An option; a tensor in it (a mask) has the layout of the inputs, and keeps its values;
        one of floats has the dtype of the inputs, too."""
        if isinstance(value, tuple):
            return [self.option(f"{name}[{n}]", each, layout) for n, each in enumerate(value)]
        if not isinstance(value, np.ndarray):
            return value
        value = value.astype(self._dtype) if value.dtype.kind == "f" else value
        own = "contiguous" if layout in (*REPEATING, "far") else layout_of(layout, 0)
        return self.view(name, value, own)
