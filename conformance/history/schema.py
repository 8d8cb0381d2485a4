"""The columns of a run file: one row per measurement, what is known of the run beside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA_VERSION = 1
"""Stands in the metadata of every file under :data:`VERSION_KEY`; it grows with any change of the
columns or of what they mean."""

VERSION_KEY = "kernelproof_schema"


@dataclass(frozen=True)
class Column:
    """A column: its type in SQL and in Parquet, and what it holds."""

    sql: str
    parquet: str
    sentence: str


def _text(sentence: str) -> Column:
    return Column("VARCHAR", "BYTE_ARRAY", sentence)


OF_THE_RUN: Mapping[str, Column] = {
    "run": _text("names the run; equal in all rows of a file"),
    "started": Column("TIMESTAMP WITH TIME ZONE", "INT64", "when it began, UTC"),
    "commit": _text("of the implementations' repository; empty where there is none"),
    "dirty": Column("BOOLEAN", "BOOLEAN", "whether files differed from that commit"),
    "kernelproof": _text("version of kernelproof"),
    "seed": _text("seed of the inputs"),
    "label": _text("what somebody wanted to remember of the run"),
}

OF_THE_MEASUREMENT: Mapping[str, Column] = {
    "spec": _text("algorithm, as `attention.flash`; of an imported number, where it came from"),
    "implementation": _text("name under which it is registered"),
    "backend": _text("`cpu`, `interpret` or `cuda`"),
    "case_id": _text("id of the case; with the seed it determines the inputs"),
    "metric": _text("what was measured; the table below has them all"),
    "device": _text("what ran it, or `any` where that is no matter"),
    "toolchain": _text("versions of torch, Triton, meters and arithmetic"),
    "value": Column("DOUBLE", "DOUBLE", "the number, in the metric's unit; less is better"),
    "process": Column("INTEGER", "INT32", "of a time: which of the run's processes, from 0"),
    "conformant": Column("BOOLEAN", "BOOLEAN", "whether the case passed in this run"),
    "verdict": _text("of the gate if it judged the series, else of the check that measured"),
}

COLUMNS: Mapping[str, Column] = {**OF_THE_RUN, **OF_THE_MEASUREMENT}

SERIES = ("spec", "implementation", "backend", "case_id", "metric", "device", "toolchain")
"""The columns in which comparable numbers are equal."""

SERIES_NAME = "spec || '/' || implementation || '/' || backend || '/' || case_id || ':' || metric"
"""In SQL, :attr:`~kernelproof.conformance.history.measurement.Series.name`."""
