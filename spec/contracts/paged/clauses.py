"""Clauses of paged attention: of pages and tables its own, the others those of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.decoding.clauses import DECODING_CLAUSES
from kernelproof.spec.contracts.paged.properties import PROPERTIES
from kernelproof.spec.language import Clause, Growth

HEADS = "hq4.hkv2"
"""Groups of two query heads, in the cases of clauses."""


def _taken_over(anchor: str, smoke: Sequence[str], core: Sequence[str] = ()) -> Clause:
    """The clause of decoding with this anchor, less its ``attention.``, in cases of pages."""
    clause = next(c for c in DECODING_CLAUSES if c.anchor == f"attention.{anchor}")
    return replace(clause, anchor=f"cache.{anchor}", smoke=smoke, core=core)


_SMALL = f"b3.{HEADS}.d32.pages20.page16.n5"
_PLAIN = f"b2.{HEADS}.d32.pages9.page16.n3"
_ONE = "b1.{}.pages9.page16.n3"

OWN = (
    Clause(
        "cache.pages",
        "Token j of sequence i lies in slot j mod page of page page_table[i, j // page]: any pages "
        "of the pool in any order, also those of other sequences.",
        "semantics",
        smoke=[
            f"{_SMALL}/lengths-ragged+tables-{name}/normal"
            for name in ("permuted", "shared", "identity")
        ],
        core=[
            f"b5.{HEADS}.d64.pages70.page16.n9/lengths-{lengths}+tables-{tables}/normal"
            for lengths in ("ragged", "full")
            for tables in ("permuted", "shared")
        ],
    ),
    Clause(
        "cache.pages.size",
        "A page has any number of slots, from 1 to more than a tile has keys.",
        "semantics",
        smoke=[
            f"b2.{HEADS}.d32.pages{pages}.page{page}.n{n}/lengths-ragged/normal"
            for pages, page, n in ((80, 1, 33), (12, 32, 4), (7, 128, 2))
        ],
        core=[
            f"b2.{HEADS}.d64.pages{pages}.page{page}.n{n}/lengths-ragged+tables-shared/normal"
            for pages, page, n in ((60, 7, 25), (20, 48, 5), (9, 64, 4), (5, 256, 2))
        ],
    ),
    Clause(
        "cache.pages.poison",
        "Slots that no sequence holds never influence the output, whatever they have: free pages "
        "and the rest of a last page, in these cases NaN. Entries of the table behind a last page, "
        "here -1, are never looked up.",
        "semantics",
        smoke=[
            f"{_SMALL}/lengths-{name}+tables-shared+splits-2/normal" for name in ("ragged", "one")
        ],
        core=[
            f"b3.{HEADS}.d64.pages30.page64.n3/lengths-{name}+splits-3/normal/{layout}"
            for name, layout in (("ragged", "mixed"), ("one", "sliced"), ("some-empty", "offset"))
        ],
    ),
    _taken_over(
        "lengths",
        [f"{_PLAIN}/lengths-{name}/normal" for name in ("ragged", "full", "one")],
        [f"b17.{HEADS}.d16.pages60.page16.n3/lengths-ragged/normal"],
    ),
    _taken_over(
        "lengths.empty",
        [
            f"b4.{HEADS}.d32.pages20.page16.n5/lengths-some-empty+splits-2/normal",
            f"{_PLAIN}/lengths-empty/normal",
        ],
    ),
    _taken_over(
        "splits",
        [f"{_PLAIN}/lengths-ragged+splits-{n}/normal" for n in (1, 2, 400)],
        [
            f"b1.{HEADS}.d64.pages80.page{page}.n{n}/splits-8/normal"
            for page, n in ((16, 33), (32, 35))
        ],
    ),
    _taken_over(
        "splits.empty",
        [f"{_SMALL}/lengths-ragged+splits-8/normal"],
        [f"{_SMALL}/lengths-one+splits-3/normal"],
    ),
    replace(
        _taken_over(
            "options.together",
            [f"{_SMALL}/lengths-ragged+tables-shared+splits-2+scale-0.3/normal"],
            [f"{_SMALL}/lengths-some-empty+splits-3+scale--0.3/normal"],
        ),
        sentence="Options hold together: splits and scale do with any lengths and tables what they "
        "do alone.",
    ),
    _taken_over(
        "groups",
        [_ONE.format("hq6.hkv3.d32") + "/lengths-ragged/normal"],
        [
            _ONE.format(f"{heads}.d16") + "/lengths-ragged+splits-2/normal"
            for heads in ("hq8.hkv1", "hq9.hkv3", "hq40.hkv1", "hq12.hkv12")
        ],
    ),
    _taken_over(
        "scale.default",
        [f"b1.{HEADS}.d80.pages5.page16.n3/default/normal"],
        [f"b1.{HEADS}.d{d}.pages5.page16.n3/default/normal" for d in (8, 16, 24, 96, 128)],
    ),
    _taken_over("scale.explicit", [f"{_PLAIN}/scale-{s}/normal" for s in (0.0, 1.0, -0.3)]),
    *(
        _taken_over(f"nan.{name}", [f"{_PLAIN}/default/nan-{name}"])
        for name in ("query", "key", "value")
    ),
    _taken_over(
        "shape.ragged",
        [f"b1.{HEADS}.d64.pages1.page16.n1/lengths-ragged/normal"],
        [f"b1.{HEADS}.d{d}.pages5.page16.n3/lengths-ragged/normal" for d in (20, 33, 160, 256)]
        + [f"b1.{HEADS}.d16.pages300.page16.n270/lengths-ragged/normal"],
    ),
    replace(
        _taken_over(
            "shape.empty",
            [f"b2.{HEADS}.d32.pages3.page16.n0/default/normal"],
            [
                f"b0.{HEADS}.d32.pages9.page16.n3/splits-2/normal",
                "b1.hq0.hkv0.d32.pages9.page16.n3/default/normal",
                f"b2.{HEADS}.d32.pages0.page16.n0/splits-3/normal",
            ],
        ),
        sentence="Tables without pages give zeros (lse -inf); b = 0 or no heads give empty "
        "tensors.",
    ),
    _taken_over(
        "statistics.wide",
        [
            _ONE.format(f"{HEADS}.d16") + "/lengths-ragged/beyond-65504",
            # logits below any finite number that stands for -inf
            _ONE.format(f"{HEADS}.d16") + "/lengths-ragged+scale--0.2/beyond-65504",
            _ONE.format(f"{HEADS}.d32") + "/lengths-ragged+splits-2/huge",
        ],
    ),
    _taken_over(
        "layout",
        [
            f"{_PLAIN}/lengths-ragged/normal/{layout}"
            for layout in ("transposed", "columns", "sliced", "offset", "mixed")
        ],
        [f"{_SMALL}/lengths-ragged+tables-shared+splits-2/normal/repeated"],
    ),
    Clause(
        "cache.layout.far",
        "Offsets of pages may exceed 2^31 elements: a pool is as large as memory allows.",
        "integrity",
        # a pool without a free page: the last one is read, too
        smoke=[f"b2.{HEADS}.d32.pages40.page8.n20/splits-2/normal/far"],
        # of wider ones, pages that far apart want more address space than a worker has
        dtypes=("float16", "bfloat16"),
    ),
    _taken_over("deterministic", [f"{_SMALL}/lengths-ragged+tables-shared/normal"]),
)

COSTS = (
    *cost_clauses(
        "cache",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            # a pool of which few pages are held: a copy of it stands out from any workspace
            f"b3.{HEADS}.d64.pages200.page32.n10/lengths-ragged+splits-2/normal",
            f"b4.{HEADS}.d32.pages90.page4.n20/lengths-some-empty+splits-8/normal",
            f"b3.{HEADS}.d64.pages20.page128.n3/lengths-ragged+tables-shared/normal",
            # heads enough for a copy of the keys for each to stand out from any workspace
            "b1.hq8.hkv1.d64.pages40.page16.n38/splits-4/normal",
        ),
        core=(f"b2.{HEADS}.d80.pages40.page16.n9/lengths-one+splits-3/normal",),
    ),
    *(
        growth_clause(
            f"cache.complexity.{metric}",
            metric,
            Growth(1, ("n",), sizes=(16, 32, 48, 64, 80)),
            at=f"b1.{HEADS}.d32.pages80.page16.n80/splits-2/normal",
            where=", the pages held, whatever the pool holds",
        )
        for metric in ("flops", "traffic")
    ),
)

PAGED_CLAUSES = (
    Clause(
        "cache.accuracy",
        "out and lse differ from those of attention over the tokens that the pages hold by no more "
        "than the worst case of the declared roundings, in every element.",
        "accuracy",
    ),
    *OWN,
    *PROPERTIES,
    *COSTS,
)
"""What holds of one query per sequence over tokens that lie in pages."""
