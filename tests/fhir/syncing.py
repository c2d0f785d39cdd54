"""Clients that keep copies by ``_lastUpdated``, and the sidecar's side of it, on a clock that tests move."""

from datetime import UTC, datetime
from typing import Any

from sidecar.fhir.bundle import searchset, select
from sidecar.fhir.catalog import Catalog
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search import Cursor, parse_search
from tests.fhir.rows import Row

SITE = Site("https://ehr.example.org/fhir", UTC)
BASE = "https://imaging.example.org/fhir"
START = 1_700_000_000.0


class Clock:
    """A clock that tests move. It stands at whole and at broken milliseconds."""

    def __init__(self) -> None:
        self.ticks = 0
        """Microseconds since ``START``."""

    def __call__(self) -> float:
        return START + self.ticks / 1_000_000


class Client:
    """An app that keeps a copy of its patient's studies, page by page; ``count`` is its page size."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.copy: dict[str, Row] = {}
        self.since: str | None = None
        """The ``meta.lastUpdated`` that its searches begin at, once it has been through all pages."""
        self.after: Cursor | None = None
        self.changes = -1
        """How many changes the archive had seen when the client asked for its first page."""

    def parameters(self) -> list[tuple[str, str]]:
        return [
            ("patient", "123"),
            ("_count", str(self.count)),
            *([("_lastUpdated", "gt" + self.since)] if self.since else []),
            *([("_after", self.after.encode())] if self.after else []),
        ]


class Server:
    """The way of a search through the sidecar, in two halves, as requests overlap."""

    def __init__(self, clock: Clock, *, max_entries: int = 200_000) -> None:
        self.clock = clock
        self.max_entries = max_entries
        self.archive: dict[str, Row] = {}
        self.restart()

    def restart(self) -> None:
        self.catalog = Catalog(max_entries=self.max_entries, clock=self.clock)

    def ask(self) -> tuple[datetime, list[Row]]:
        """The archive is asked; time goes on while it answers."""
        asked = self.catalog.now(), list(self.archive.values())
        self.clock.ticks += 10
        return asked

    def answer(self, client: Client, asked: tuple[datetime, list[Row]]) -> tuple[dict[str, Any], bool]:
        """Give the client its page. Return the Bundle and whether it was the last page."""
        as_of, rows = asked
        search = parse_search(client.parameters(), ehr_fhir_url=SITE.ehr_fhir_url, zone=UTC)
        page = select(rows, search, patient="123", site=SITE, catalog=self.catalog, page_size=50)
        client.copy |= {one.key.uid: dict(one.row) for one in page.studies}
        client.after = page.next_after
        bundle = searchset([], [], fhir_base=BASE, search=search, patient="123", page=page, as_of=as_of)
        return bundle, page.next_after is None

    def whole_pass(self, client: Client) -> list[str]:
        """All pages at once; return their ``meta.lastUpdated``."""
        shown = []
        last = False
        while not last:
            bundle, last = self.answer(client, self.ask())
            shown.append(str(bundle["meta"]["lastUpdated"]))
        return shown
