"""What edits of several key/value caches share."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edit, wrong_costs

_REALLOCATED = "self.k, self.v = self.k.clone(), self.v.clone()"


def cache_costs(attend: str, written: str, tokens: str) -> tuple[Edit, ...]:
    """Edits before ``attend``, the text that attends to all that is held, and behind ``written``,
    the last text of an append; tokens: how many are held."""
    recomputed = (
        f"every = torch.cat([q[:, :, :1].expand(-1, -1, {tokens}, -1), q], 2)\n"
        f"        out, lse = {attend.removeprefix('return ').replace('(q,', '(every,')}\n"
        f"        return out[:, :, {tokens} :], lse[:, :, {tokens} :]"
    )
    return (
        *wrong_costs(
            "traffic",
            {
                "append-reallocates": (
                    "an append makes a new cache and copies the old one",
                    (written, f"{written}\n        {_REALLOCATED}"),
                ),
            },
        ),
        *wrong_costs(
            "flops",
            {
                "prefix-recomputed": (
                    "attention is computed for every token, of which the newest are returned",
                    (attend, recomputed),
                ),
            },
        ),
        *wrong_costs(
            "exps",
            {
                "exponentials-of-keys": (
                    "exponentials of all keys are computed and not used",
                    (attend, f"self.k[:, :, : {tokens}].exp()\n        {attend}"),
                ),
            },
        ),
        *wrong_costs(
            "memory",
            {
                "unused-scratch": (
                    "the keys 32 times over are allocated and never read",
                    (attend, f"torch.empty(32, *self.k.shape)\n        {attend}"),
                ),
            },
        ),
    )
