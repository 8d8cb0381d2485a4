"""What the exit status of a command says; the README's table lists the same."""

import enum


class ExitCode(enum.IntEnum):
    """Each names what a caller should do about it; 0 is a pass, and pytest's own 2 and 3 stay.

    REGRESSION also ends a conformance run with a failed check, as pytest does. USAGE and NOTHING
    are pytest's numbers for a wrong call and for an empty selection.
    """

    REGRESSION = 1
    USAGE = 4
    NOTHING = 5
    INCONCLUSIVE = 7
    MISSING = 8
    INFRASTRUCTURE = 9
    INTERRUPTED = 130
