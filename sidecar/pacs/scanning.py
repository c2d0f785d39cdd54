"""Bodies of retrievals passed through their scanners on the event loop."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice

from sidecar.common.slices import in_slices
from sidecar.dicomweb.body_filter import Scanner
from sidecar.dicomweb.metadata import Metadata, takes_long

_REWRITING = ThreadPoolExecutor(1, "metadata")
"""One thread: a second would have the interpreter no sooner, and others need theirs."""


async def scan(scanner: Scanner, chunks: Iterable[bytes]) -> list[bytes | memoryview]:
    """Return what may be passed on of these ``chunks``; others have their turn in between.

    Metadata rows that take long are rewritten in a thread. Raises what the scanner raises.
    """
    if not isinstance(scanner, Metadata):
        return await in_slices(piece or None for chunk in chunks for piece in scanner.steps(chunk))
    written: list[bytes] = []
    loop = asyncio.get_running_loop()
    batches = (rows for chunk in chunks for rows in scanner.rows(chunk))
    # One after the other: to free many rows takes time, too.
    while batch := await in_slices(islice(batches, 1)):
        for is_long, rows in groupby(batch[0], takes_long):
            if is_long:
                written += [
                    await loop.run_in_executor(_REWRITING, scanner.rewrite, row) for row in rows
                ]
            else:
                written += await in_slices(map(scanner.rewrite, rows))
    return [b"".join(written)] if written else []
