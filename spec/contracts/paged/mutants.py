"""Planted bugs of paged attention: those of decoding over the gathered pages, and of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.flash_decoding import flash_decoding
from kernelproof.reference.cache.paged import gather
from kernelproof.spec.contracts.attention.mutants import (
    GROUP_MUTANTS,
    TILE_MUTANTS,
    attention_mutants,
    outputs_of,
)
from kernelproof.spec.contracts.decoding.mutants import DECODING_MUTANTS
from kernelproof.spec.contracts.paged.families import pages_held
from kernelproof.spec.language import Model, Mutant, mutants, tile_mutants

Array = npt.NDArray[Any]
Change = Callable[[Mapping[str, Array]], dict[str, Array]]


def _gathered(model: Model) -> Model:
    """A bug of decoding, in tokens that were gathered rightly."""

    def paged(reference: Any, x: Mapping[str, Array], options: Mapping[str, Any]) -> Any:
        k, v = (gather(x[name], x["page_table"]) for name in ("k_pages", "v_pages"))
        return model(
            flash_decoding, {"q": x["q"], "k": k, "v": v}, {**options, "lengths": x["lengths"]}
        )

    return paged


def _of_decoding(mutant: Mutant) -> Mutant:
    if mutant.model is None:
        return mutant
    return replace(
        mutant, model=_gathered(mutant.model), others=tuple(map(_gathered, mutant.others))
    )


def _changed(change: Change) -> Model:
    """The bug that finds other tokens; ``change`` gets the inputs, unless there is no page."""

    def model(reference: Any, x: Mapping[str, Array], options: Mapping[str, Any]) -> Any:
        if not x["page_table"].size:
            return None
        return outputs_of(reference(**{**x, **change(x)}, **options))

    return model


def _stale_page(x: Mapping[str, Array]) -> dict[str, Array]:
    table, newest = x["page_table"].copy(), pages_held(x["lengths"], x["k_pages"].shape[1]) - 1
    grown = np.nonzero(newest > 0)[0]
    table[grown, newest[grown]] = table[grown, newest[grown] - 1]
    return {"page_table": table}


def _row_of_neighbour(x: Mapping[str, Array]) -> dict[str, Array]:
    return {"page_table": np.roll(x["page_table"], 1, axis=0)}


def _whole_last_page(x: Mapping[str, Array]) -> dict[str, Array]:
    page = x["k_pages"].shape[1]
    return {"lengths": pages_held(x["lengths"], page) * page}


def _table_ignored(x: Mapping[str, Array]) -> dict[str, Array]:
    b, n = x["page_table"].shape
    return {"page_table": np.arange(b * n).reshape(b, n) % len(x["k_pages"])}


def _page_shifted(x: Mapping[str, Array]) -> dict[str, Array]:
    return {"page_table": np.roll(x["page_table"], 1, axis=1)}


def _first_slot(x: Mapping[str, Array]) -> dict[str, Array]:
    return {n: np.broadcast_to(x[n][:, :1], x[n].shape) for n in ("k_pages", "v_pages")}


def _values_before(x: Mapping[str, Array]) -> dict[str, Array]:
    before = np.maximum(np.arange(len(x["v_pages"])) - 1, 0)
    return {"v_pages": x["v_pages"][before]}


_WITHOUT = (
    "copy-of-values",  # one query over one key copies its value, and is right
    "scale-from-dv",  # values are as wide as keys
    *("padding-counted", "last-key-dropped"),  # these go by the lengths
)

PAGED_MUTANTS = (
    *map(
        _of_decoding,
        (
            *attention_mutants("lengths, splits, scale", without=_WITHOUT),
            *GROUP_MUTANTS,
            *(m for m in TILE_MUTANTS if m.name != "last-tile-skipped"),
            *DECODING_MUTANTS,
        ),
    ),
    *tile_mutants(
        {
            "last-tile-skipped": (
                "the last, ragged tile of a sequence is not visited",
                lambda tile: _changed(lambda x: {"lengths": x["lengths"] // tile * tile}),
            ),
        }
    ),
    *mutants(
        {
            "stale-page": (
                "for the newest page of a sequence the one before it is read",
                _changed(_stale_page),
            ),
            "table-of-neighbour": (
                "each sequence has the row of the table of its neighbour",
                _changed(_row_of_neighbour),
            ),
            "last-page-whole": (
                "the last page of a sequence is read to its end",
                _changed(_whole_last_page),
            ),
            "table-ignored": (
                "pages are taken in the order in which they lie in the pool",
                _changed(_table_ignored),
            ),
            "page-off-by-one": (
                "entry j - 1 of the table is taken for page j of a sequence",
                _changed(_page_shifted),
            ),
            "slot-ignored": (
                "every token of a page is taken from its first slot",
                _changed(_first_slot),
            ),
            "values-of-page-before": (
                "values are taken from the page before that of their keys",
                _changed(_values_before),
            ),
        }
    ),
)
"""What goes wrong in attention over pages."""
