"""Edits of the rolling cache in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.cache import cache_costs
from kernelproof.conformance.edits.editing import Edited, wrong_values

_ATTEND = "return attend(q, self.k[:, :, :held], self.v[:, :, :held])"
_HELD = "held = min(self.tokens, self.k.shape[2])"
_NEW = "((self.k, k[:, :, t - kept :]), (self.v, v[:, :, t - kept :]))"
_WRAPPED = "cache[:, :, : kept - before_the_wrap] = new[:, :, before_the_wrap:]"
_SLOT = "slot = (self.tokens - kept) % window"

VALUES = wrong_values(
    {
        "order-assumed": (
            "after a wrap only slots up to the newest token's are read",
            (_HELD, "held = (self.tokens - 1) % self.k.shape[2] + 1 if self.tokens else 0"),
        ),
        "unread-slots-read": (
            "slots that no token has taken are read",
            (_HELD, "held = self.k.shape[2]"),
        ),
        "rest-not-written": (
            "of an append that goes beyond the last slot the rest is not written to the first ones",
            (_WRAPPED, "pass"),
        ),
        "oldest-of-a-chunk-kept": (
            "of more tokens than the window holds the oldest are kept",
            (_NEW, _NEW.replace("t - kept :", ":kept")),
        ),
        "first-token-lost": (
            "the token in the first slot is not read",
            (_ATTEND, _ATTEND.replace(":held", "1:held")),
        ),
        "slot-one-further": (
            "a window is taken to be one slot longer",
            (_SLOT, f"{_SLOT.removesuffix('window')}(window + 1)"),
        ),
        "batch-of-first": (
            "every sequence reads the tokens of the first",
            (
                _ATTEND,
                "first = [x[:1, :, :held].expand(len(q), -1, -1, -1) for x in (self.k, self.v)]\n"
                "        return attend(q, *first)",
            ),
        ),
    }
)

COSTS = cache_costs(_ATTEND, _WRAPPED, "held")

EDITED = Edited("torch-rolling", "Rolling", (*VALUES, *COSTS))
