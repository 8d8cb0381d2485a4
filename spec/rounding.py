"""Number formats, and which roundings an implementation declares.

Notation of Higham, Accuracy and Stability of Numerical Algorithms (2002): u is the unit
roundoff, gamma_n = n u / (1 - n u) bounds the relative error of n operations in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: significand bits (with the hidden one), exponent, range."""

    name: str
    significand: int
    emin: int
    largest: float

    @property
    def unit(self) -> float:
        """Unit roundoff u of rounding to nearest."""
        return 2.0**-self.significand

    @property
    def eta(self) -> float:
        """Half the smallest subnormal: the absolute error of a result that underflows."""
        return max(2.0 ** (self.emin - self.significand), 5e-324)

    @property
    def bytes(self) -> int:
        """Size in memory; TF32 lies there as float32."""
        return {"float64": 8, "float32": 4, "tf32": 4}.get(self.name, 1 if "8_" in self.name else 2)

    def within(self, other: Format) -> bool:
        """Whether a rounding to this format is never worse than one to ``other``."""
        finer = self.unit <= other.unit and self.eta <= other.eta
        return finer and self.largest >= other.largest

    @property
    def tiny(self) -> float:
        """The smallest normal number: the error of an underflow that is flushed to zero."""
        return 2.0**self.emin


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format("float64", 53, -1022, 1.7976931348623157e308),
        Format("float32", 24, -126, 3.4028234663852886e38),
        Format("tf32", 11, -126, 3.4011621342146535e38),
        Format("float16", 11, -14, 65504.0),
        Format("bfloat16", 8, -126, 3.3895313892515355e38),
        Format("float8_e4m3fn", 4, -6, 448.0),
        Format("float8_e5m2", 3, -14, 57344.0),
    )
}

DTYPES = ("float64", "float32", "float16", "bfloat16")
"""Dtypes that the specs have cases for. The fp8 formats above wait for their specs."""


def gamma(n: float, unit: float) -> float:
    """Higham's gamma_n: the relative error of n roundings in any order (ASNA, Lemma 3.1).

    >>> gamma(1024, 2.0**-24) < 6.2e-5
    True
    """
    product = n * unit
    return product / (1 - product) if product < 1 else float("inf")


def compose(*relative: float) -> float:
    """The relative error of a product of factors that are each off by so much.

    >>> compose(0.5, 0.5)
    1.25
    """
    total = 0.0
    for each in relative:  # not a product of 1 + each: that would lose what is below 2^-53
        total += each + (total * each if total and each else 0.0)
    return total


STORED = ("scores", "scaled_query", "weights", "intermediates", "projections", "tanh")
"""Quantities that an implementation may keep in a narrower format, if it declares which."""


@dataclass(frozen=True)
class Precision:
    """The roundings that an implementation declares; each one enters its error bound.

    ``"input"`` stands for the dtype of the inputs, ``None`` for no rounding of that quantity.

    accumulate: format of dot products, sums and running statistics.
    truncating: accumulations, and conversions to TF32, may truncate instead of round, as tensor
        cores do (Fasi, Higham, Mikaitis, Pranesh, PeerJ CS 2021): doubles their unit.
    operands: format to which operands of dot products are rounded (TF32).
    scores, scaled_query, weights: format of the stored S = scale q k^T, of scale * q, and
        of P before it multiplies V.
    normalised: P is divided by its row sum before that rounding (its underflow then weighs more).
    intermediates: format of what lies in memory between the products of a layer: projections and
        joined heads, before and after a bias.
    projections, tanh: where a network makes the scores, format of stored projections, whose sum is
        the argument of tanh, and of tanh: ``tanh.approx`` of PTX is as good as float16.
    """

    name: str = "custom"
    accumulate: str = "float32"
    truncating: bool = False
    operands: str | None = None
    scores: str | None = None
    scaled_query: str | None = None
    weights: str | None = None
    normalised: bool = False
    intermediates: str | None = None
    projections: str | None = None
    tanh: str | None = None

    @classmethod
    def from_json(cls, given: str | Mapping[str, Any]) -> Precision:
        """A preset by name, or a mapping of the fields above. Raises ValueError."""
        if isinstance(given, str):
            if given not in PRESETS:
                raise ValueError(f"unknown precision {given!r}: wanted one of {', '.join(PRESETS)}")
            return PRESETS[given]
        known = {f.name for f in fields(cls)} - {"name"}
        if unknown := sorted(set(given) - known):
            raise ValueError(
                f"unknown precision field {unknown[0]!r}: wanted {', '.join(sorted(known))}"
            )
        precision = cls(**given)
        precision.check()
        return precision

    def check(self) -> None:
        """Raise ValueError for a format that does not exist or an accumulator below float32."""
        for field in STORED:
            value = getattr(self, field)
            if value not in (None, "input", *FORMATS):
                raise ValueError(f"precision {field}={value!r}: wanted input, {', '.join(FORMATS)}")
        if self.operands not in (None, "tf32", "bfloat16"):
            # only these have float32's range: others would overflow, and underflow, on their own
            raise ValueError(f"precision operands={self.operands!r}: wanted tf32 or bfloat16")
        for field in ("truncating", "normalised"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(
                    f"precision {field}={getattr(self, field)!r}: wanted true or false"
                )
        if self.accumulate not in ("float32", "float64"):
            raise ValueError(
                f"precision accumulate={self.accumulate!r}: every spec wants accumulators of at "
                "least float32, so declare float32 or float64"
            )

    def rounding(self, dtype: str) -> Rounding:
        """The same as numbers, for inputs and outputs of ``dtype``."""

        def of(field: str | None) -> Format | None:
            if field is None:
                return None
            made = FORMATS[dtype if field == "input" else field]
            # tensor cores that are fed float32 drop its low bits where they make TF32 of it
            cut = self.truncating and field == "tf32"
            return replace(made, significand=made.significand - 1) if cut else made

        accumulate = FORMATS[self.accumulate]
        return Rounding(
            out=FORMATS[dtype],
            accumulate=accumulate.unit * (2 if self.truncating else 1),
            truncating=self.truncating,
            underflow=accumulate.tiny,
            statistics=FORMATS["float64" if dtype == "float64" else "float32"],
            operands=of(self.operands),
            scores=of(self.scores),
            scaled_query=of(self.scaled_query),
            weights=of(self.weights),
            normalised=self.normalised,
            intermediates=of(self.intermediates),
            projections=of(self.projections),
            tanh=of(self.tanh),
        )

    def looser_than(self, required: Precision, dtype: str) -> str | None:
        """The first declared rounding that ``required`` does not allow, in words, or None.

        >>> PRESETS["eager16"].looser_than(PRESETS["mixed16"], "float16")
        'scores in float16'
        """
        mine, other = self.rounding(dtype), required.rounding(dtype)
        if mine.accumulate > other.accumulate:
            return f"accumulation in {'truncating ' * self.truncating}{self.accumulate}"
        for field in ("operands", *STORED):
            have: Format | None = getattr(mine, field)
            allowed: Format | None = getattr(other, field)
            if have and not (allowed and have.within(allowed)):
                return f"{field.replace('_', ' ')} in {have.name}"
        if mine.normalised and not other.normalised and mine.weights:
            return "weights rounded after normalisation"
        return None


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs of one implementation at one dtype: what an error bound is computed from.

    truncating: errors of accumulation may all have one sign, so that they do not average out.
    """

    out: Format
    accumulate: float
    underflow: float
    statistics: Format
    truncating: bool = False
    operands: Format | None = None
    scores: Format | None = None
    scaled_query: Format | None = None
    weights: Format | None = None
    normalised: bool = False
    intermediates: Format | None = None
    projections: Format | None = None
    tanh: Format | None = None

    @property
    def narrow(self) -> bool:
        """Whether a declared intermediate may overflow where float32 would not."""
        formats = [getattr(self, field) for field in ("operands", *STORED)]
        return any(f is not None and f.largest < FORMATS["float32"].largest / 2 for f in formats)

    def output_error(self, error: Array, magnitude: Array) -> Array:
        """The error after the last rounding, of a value of this magnitude, to the output's format.

        Infinite where the rounding may overflow. A result below the accumulator's normal range
        may be flushed to zero: GPUs and the matrix instructions of CPUs do so.
        """
        u = self.out.unit
        rounded = u * magnitude + max(self.out.eta, self.underflow) + (1 + u) * error
        return np.where(magnitude + error < self.out.largest, rounded, np.inf)


def reference_rounding(dtype: str, significand: int) -> Rounding:
    """The rounding of a reference evaluated with ``significand`` bits and never rounded to dtype.

    Its bound is the error of the reference itself.
    """
    fine = replace(FORMATS["float64"], name="reference", significand=significand, emin=-1022)
    return Rounding(out=fine, accumulate=fine.unit, underflow=fine.tiny, statistics=fine)


PRESETS: Mapping[str, Precision] = {
    p.name: p
    for p in (
        Precision("strict64", accumulate="float64"),
        Precision("strict32"),
        Precision("mixed16", truncating=True, weights="input", intermediates="input"),
        Precision(
            "eager16",
            truncating=True,
            scores="input",
            scaled_query="input",
            weights="input",
            normalised=True,
            intermediates="input",
            projections="input",
            tanh="input",
        ),
        Precision("tf32", truncating=True, operands="tf32", weights="tf32"),
        Precision("fp8", truncating=True, weights="input"),
    )
}

_MEANT_FOR: Mapping[str, tuple[str, ...]] = {
    "strict64": ("float64",),
    "strict32": ("float32", "float16", "bfloat16"),
    "mixed16": ("float16", "bfloat16"),
    "eager16": ("float16", "bfloat16"),
    "tf32": ("float32",),
    "fp8": ("float8_e4m3fn", "float8_e5m2"),
}

DEFAULT_PRESET: Mapping[str, str] = {
    "float64": "strict64",
    "float32": "strict32",
    "float16": "mixed16",
    "bfloat16": "mixed16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


def resolve_precision(declared: Any, dtype: str) -> Precision:
    """What holds at ``dtype``, from a declaration: a preset, fields, or either per dtype.

    A preset applies to the dtypes it is meant for; the others keep their default, so
    ``precision="eager16"`` leaves the float32 runs of the same kernel strict.

    >>> resolve_precision("eager16", "float32").name
    'strict32'
    """
    if isinstance(declared, Mapping) and set(declared) <= set(FORMATS):
        declared = declared.get(dtype)
    if declared is None:
        return PRESETS[DEFAULT_PRESET[dtype]]
    precision = Precision.from_json(declared)
    if precision.name in _MEANT_FOR and dtype not in _MEANT_FOR[precision.name]:
        return PRESETS[DEFAULT_PRESET[dtype]]
    return precision
