"""Check of the catalog of ``_lastUpdated``. Nothing is written, and no file is made."""

import asyncio
from pathlib import Path

from sidecar.check.files import writable
from sidecar.check.outcome import CheckOutcome, failure, ok
from sidecar.conformance.finding import State
from sidecar.settings.document import Settings

_HEADER = b"SQLite format 3\0"
_FULL = "Make room: while the catalog cannot be written, each search is a 503."
_ELSEWHERE = "or name another file: fhir.catalog.file, with fhir.catalog.store: sqlite"


async def catalog(settings: Settings) -> CheckOutcome:
    """Check the file or the database of ``fhir.catalog``."""
    store = settings.catalog_store()
    if store == "sqlite":
        return _sqlite(settings.fhir.catalog.file)
    if store == "postgresql":
        return await asyncio.to_thread(_postgresql, settings.fhir.catalog.dsn())
    return ok(store)


def _sqlite(file: Path) -> CheckOutcome:
    """Check the file, its folder, and the files that SQLite keeps beside one in use."""
    # SQLite makes those files in the folder, which must be writable although the file is there.
    beside = [file.with_name(file.name + end) for end in ("-wal", "-shm")]
    for path in (file, file.parent, *filter(Path.exists, beside)):
        outcome = writable(path, "fhir.catalog.file", _FULL)
        if outcome.state is not State.OK:
            return failure(outcome.text, f"{(outcome.hint or '').rstrip('.')}; {_ELSEWHERE}.")
    if file.exists() and not _is_database(file):
        return failure(
            f"{file} is no SQLite database that this user can read",
            f"Remove it if nobody needs it, {_ELSEWHERE}.",
        )
    return ok(f"sqlite: {file}")


def _is_database(file: Path) -> bool:
    """Return whether a file can be read and is a database, or empty, which becomes one."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_HEADER)) in (_HEADER, b"")
    except OSError:
        return False


def _postgresql(dsn: str) -> CheckOutcome:
    try:
        from sidecar.fhir.catalog.postgresql import probe  # noqa: PLC0415 - an extra
    except ImportError:
        return failure("postgresql needs psycopg", "Install the extra postgresql.")
    try:
        probe(dsn)
    except OSError as error:
        return failure(str(error.strerror), "Is fhir.catalog.dsn_file right? Is it reachable?")
    return ok("postgresql")
