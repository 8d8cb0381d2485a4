"""Clauses that hold for every call of every spec, and the frames of those that many specs have."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.spec.language import Clause
from kernelproof.spec.relations import Relation

STATISTICAL_CLAUSES = {
    "accuracy.probable": "Where rounding errors are independent, no element is farther off than "
    "such errors are but once in a thousand million outputs.",
    "accuracy.mean": "Where rounding errors are independent, the errors of an output, each with "
    "the sign of its result, cancel as such errors do, but once in a thousand million outputs.",
    "accuracy.mean-square": "Where rounding errors are independent, the mean square error of each "
    "head and of the whole output is no larger than such errors have, but once in a thousand "
    "million outputs.",
}

INTEGRITY_CLAUSES = {
    "integrity.inputs-unchanged": "A call leaves its inputs, and the memory around them, as is.",
    "integrity.fresh-outputs": "Outputs share memory with no input and no earlier result.",
    "integrity.bounds": "A kernel loads and stores within the storages of its arguments.",
    "integrity.kernels": "On the interpreted backend Triton kernels do the work: a call launches "
    "some, and torch operators make no matrix products.",
    "integrity.global-state": "A call leaves torch's settings, environment and directory alone.",
}

REGISTRATION_CLAUSES = {
    "registration": "A target loads, and what it registers can be true.",
    "registration.precision": "No declared rounding is looser than --require allows.",
}

STRIDED = ("transposed", "columns", "sliced", "offset", "expanded", "mixed")
"""Layouts that any input may have."""


def layout_clause(
    area: str, at: str, layouts: Sequence[str] = STRIDED, *, core: Sequence[str] = ()
) -> Clause:
    """That inputs need not be contiguous: in the case ``at``, in each of these layouts."""
    return Clause(
        f"{area}.layout",
        "Inputs may be transposed, sliced, expanded or at an offset in a larger storage.",
        "integrity",
        smoke=tuple(f"{at}/{layout}" for layout in layouts),
        core=core,
    )


def repeat_clause(area: str, at: str, *, core: Sequence[str] = ()) -> Clause:
    """That the case ``at`` gives the same bits twice."""
    return Clause(
        f"{area}.deterministic",
        "The same call twice gives equal bits, unless the implementation declares atomics.",
        "integrity",
        smoke=(at,),
        core=core,
        repeat=True,
    )


def property_clause(
    area: str,
    name: str,
    sentence: str,
    relation: Relation,
    smoke: Sequence[str],
    core: Sequence[str] = (),
    dtypes: Sequence[str] | None = None,
) -> Clause:
    """That this relation holds between calls, of some dtypes alone where these are named."""
    anchor = f"{area}.property.{name}"
    return Clause(anchor, sentence, "properties", smoke, core, dtypes=dtypes, relation=relation)
