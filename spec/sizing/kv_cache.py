"""Every token leaves a key and a value in every layer, for each head of keys:

bytes = 2 x layers x hkv x d x bytes x tokens          (dv = d)

Fewer heads of keys shrink it hq / hkv times: one for all query heads (Shazeer
2019), one per group (Ainslie et al. 2023). A window keeps the last tokens
(Beltagy et al. 2020). A contiguous cache reserves its capacity; a paged one
fills pages, and wastes less than one per sequence (Kwon et al. 2023).
"""

from __future__ import annotations

from kernelproof.spec.sheets import Line, Quantity, Rule, Sheet

sheet = Sheet(
    name="sizing.kv_cache",
    title="Memory of cached keys and values",
    source="Shazeer 2019; Ainslie et al. 2023; Kwon et al. 2023",
    quantities=(
        Quantity("layers", "layers of the model"),
        Quantity("hkv", "heads of keys and values"),
        Quantity("hq", "heads of queries", default="hkv"),
        Quantity("d", "size of a key"),
        Quantity("dv", "size of a value", default="d"),
        Quantity("bytes", "bytes of an element", default=2),
        Quantity("tokens", "tokens of a sequence"),
        Quantity("batch", "sequences", default=1),
        Quantity("window", "last tokens that are kept", optional=True),
        Quantity("capacity", "tokens reserved per sequence", optional=True),
        Quantity("page", "tokens of a page", default=16),
    ),
    rules=(
        Rule("hq % hkv == 0", "hkv={hkv} does not divide hq={hq}: wanted groups of equal size"),
        Rule(
            "capacity is None or capacity >= tokens",
            "capacity={capacity} is below tokens={tokens}: wanted room for every token",
        ),
    ),
    lines=(
        Line("token", "layers * hkv * (d + dv) * bytes", "bytes", "one token, all layers"),
        Line("total", "token * tokens * batch", "bytes", "all tokens; grouped where hkv < hq"),
        Line("multi_head", "total * hq // hkv", "bytes", "with keys for each query head"),
        Line("multi_query", "total // hkv", "bytes", "with one head of keys for all"),
        Line("windowed", "token * min(tokens, window) * batch", "bytes", "the last tokens alone"),
        Line("reserved", "token * capacity * batch", "bytes", "contiguous, at full capacity"),
        Line("unused", "reserved - total", "bytes", "of these, without a token"),
        Line(
            "pages", "cdiv(tokens, page) * batch", "pages", "the last of each sequence part empty"
        ),
        Line("paged", "token * page * pages", "bytes", "all pages"),
        Line("waste", "paged - total", "bytes", "of these, without a token"),
    ),
)
