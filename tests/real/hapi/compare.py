"""Writes the rows of ``DIFFERENCES`` that are new, changed or no longer needed: ``python -m
tests.real.hapi.compare``.
"""

import tempfile
from pathlib import Path

from tests.real.hapi.oracle import both_searched
from tests.real.hapi.server import Hapi
from tests.tables.hapi_queries import DIFFERENCES, QUERIES


def main() -> None:
    """Each with the reason that the table has, or none."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Hapi() as hapi,
        both_searched(Path(folder), hapi) as both,
    ):
        for query in QUERIES:
            expected, reason = DIFFERENCES.get(query, (None, ""))
            found = both.difference(query)
            if found is None and expected is not None:
                print(f"- {query!r}")
            elif found != expected:
                print(f"+ {query!r}: ({found!r}, {reason!r}),")


if __name__ == "__main__":
    main()
