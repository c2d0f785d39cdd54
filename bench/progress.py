"""Lines that say how far a measurement is."""

import sys
import time

_BEGUN = time.monotonic()


def progress(what: str, number: int, rounds: int) -> None:
    """Write to standard error which round of ``rounds`` begins (from 0), and when."""
    print(
        f"{time.monotonic() - _BEGUN:5.0f} s  {what}: round {number + 1} of {rounds}",
        file=sys.stderr,
    )
