"""What edits of several implementations of attention share."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Rows


def keys_copied_per_head(call: str) -> Rows:
    """The edit before ``call``, the text that passes q, k and v on."""
    copied = (
        "g = q.shape[1] // k.shape[1]\n"
        "    k, v = k.repeat_interleave(g, 1), v.repeat_interleave(g, 1)\n"
        f"    {call}"
    )
    return {
        "keys-copied-per-head": ("k and v are copied for each head of a group", (call, copied)),
    }
