"""Sentences that several layers say alike."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def unknown_word(word: str, what: str, known: Sequence[str]) -> str:
    """What to say of a word that is none of those known.

    >>> unknown_word("float33", "dtype", ("float64", "float32"))
    "unknown dtype 'float33': did you mean 'float32'?"
    """
    near = difflib.get_close_matches(str(word), list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"wanted {', '.join(known) or 'none'}"
    return f"unknown {what} {word!r}: {hint}"
