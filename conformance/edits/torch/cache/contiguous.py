"""Edits of the contiguous cache in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.cache import cache_costs
from kernelproof.conformance.edits.editing import Edited, wrong_values

_ATTEND = "return attend(q, self.k[:, :, : self.tokens], self.v[:, :, : self.tokens])"
_WRITE_V = "self.v[:, :, self.tokens : end] = v"
_REFUSE = 'raise OverflowError(f"{end} tokens do not fit a cache of {capacity}")'


def _reads(tokens: str) -> tuple[str, str]:
    return _ATTEND, _ATTEND.replace(": self.tokens", tokens)


VALUES = wrong_values(
    {
        "last-token-lost": ("the newest token is not read", _reads(": max(self.tokens - 1, 0)")),
        "first-token-lost": ("the oldest token is not read", _reads("1 : self.tokens")),
        "unwritten-slot-read": (
            "a slot beyond the last token is read",
            _reads(": self.tokens + 1"),
        ),
        "batch-of-first": (
            "every sequence reads the tokens of the first",
            (
                _ATTEND,
                "first = [x[:1, :, : self.tokens].expand(len(q), -1, -1, -1) "
                "for x in (self.k, self.v)]\n        return attend(q, *first)",
            ),
        ),
        "newest-value-not-written": (
            "the last value of an append is not written",
            (_WRITE_V, "self.v[:, :, self.tokens : end - 1] = v[:, :, :-1]"),
        ),
        "chunk-not-counted": ("an append counts as one token", ("= end\n", "+= 1\n")),
        "overflow-accepted": ("an append beyond the capacity is dropped", (_REFUSE, "return")),
        "refusal-counted": (
            "an append that is refused fills the cache",
            (_REFUSE, f"self.tokens = capacity\n            {_REFUSE}"),
        ),
        "refused-too-early": (
            "the last slot is never taken",
            ("end > capacity", "end >= capacity"),
        ),
    }
)

COSTS = cache_costs(_ATTEND, "self.tokens = end", "self.tokens")

EDITED = Edited("torch-contiguous", "Contiguous", (*VALUES, *COSTS))
