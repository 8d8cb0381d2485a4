"""Inputs of the timed calls: parts of two draws, in other parts for every call.

A call gets the first elements of one draw and the rest of the other, with a cut of its own, so that
no two calls of a series have equal inputs and a result that was kept from one is wrong in the next.
Worker and judge compute the same cuts from a salt that is drawn when the series is measured.
"""

from __future__ import annotations

import random


def base_of(call: int) -> int:
    """Which of the two draws gives a call's tables, options and last elements."""
    return call % 2


def cut_of(salt: str, call: int, storage: str, size: int) -> int:
    """How many elements of an input come from the other draw; 0 of one that cannot be cut.

    >>> cut_of("salt", 3, "s0", 1)
    0
    """
    if size < 2:
        return 0
    return random.Random(f"{salt}/{call}/{storage}").randrange(1, size)


def kept_of(salt: str, turn: int, number: int) -> int:
    """Which call of a round is the one whose outputs are kept: any, so that a kernel which knows
    the memory of the last cannot work for that one alone.

    >>> kept_of("salt", 3, 1)
    0
    """
    return random.Random(f"{salt}/{turn}/kept").randrange(number)
