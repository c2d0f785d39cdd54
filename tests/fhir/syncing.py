"""Clients that keep copies by ``_lastUpdated``, and the sidecar's side of it, on a clock that tests
move.
"""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sidecar.dicom.json_model import Row
from sidecar.fhir.bundle import open_cursor, searchset
from sidecar.fhir.catalog.catalog import Catalog, MemoryStore, Store
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search_parser import parse_search
from sidecar.pacs.listing import Listing
from tests.fhir.observing import observe
from tests.fhir.selection import select

SITE = Site("https://ehr.example.org/fhir", UTC)
BASE = "https://imaging.example.org/fhir"
Copy = tuple[Row, list[Row]]
"""A study's row, and those of its series."""
LINKS = PageLinks(b"key")
START = 1_700_000_000.0


class Clock:
    """A clock that tests move. It stands at whole and at broken milliseconds."""

    def __init__(self) -> None:
        self.ticks = 0
        """Microseconds since ``START``."""

    def __call__(self) -> float:
        return START + self.ticks / 1_000_000


class Client:
    """App that copies its patient's studies, page by page; ``count`` is its page size."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.copy: dict[str, Copy] = {}
        self.since: str | None = None
        """The ``meta.lastUpdated`` at which its searches begin after it has read all pages."""
        self.after: str | None = None
        self.changes = -1
        """How many changes the archive had seen when the client asked for its first page."""

    def parameters(self) -> list[tuple[str, str]]:
        return [
            ("patient", "123"),
            ("_count", str(self.count)),
            *([("_lastUpdated", "gt" + self.since)] if self.since else []),
            *([("_after", self.after)] if self.after else []),
        ]


class Server:
    """The way of a search through the sidecar, in two halves, as requests overlap."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_entries: int = 200_000,
        store: Store | None = None,
        ahead: float = 0,
        skew: float = 0,
    ) -> None:
        self.clock = clock
        self.max_entries = max_entries
        self.archive: dict[str, Row] = {}
        self.series: dict[str, list[Row]] = {}
        """Of each study in ``archive``."""
        self.store = store
        self.ahead, self.skew = ahead, skew
        self.restart()

    def restart(self) -> None:
        """With a store of its own everything is forgotten."""
        self.catalog = Catalog(
            self.store or MemoryStore(self.max_entries),
            clock=lambda: self.clock() + self.ahead,
            skew_seconds=self.skew,
        )
        self.remembered: Listing | None = None
        self.looked_at: dict[int, tuple[Listing, dict[str, datetime]]] = {}
        """Each list at which the catalog has looked, and what it said: it does so once."""

    def truth(self) -> dict[str, Copy]:
        """What a client that missed nothing has."""
        return {uid: (row, self.series.get(uid, [])) for uid, row in self.archive.items()}

    def ask(self, *, fresh: bool = True) -> Listing:
        """The archive is asked, or what it said is remembered; time goes on while it answers."""
        if fresh or self.remembered is None:
            series = {uid: list(rows) for uid, rows in self.series.items()}
            self.remembered = Listing(list(self.archive.values()), self.catalog.now(), series)
            self.clock.ticks += 10
        return self.remembered

    def answer(self, client: Client, asked: Listing) -> tuple[dict[str, Any], bool]:
        """Give the client its page. Return the Bundle and whether it was the last page."""
        series = asked.series or {}
        search = parse_search(client.parameters(), SITE)
        search.after = open_cursor(search, "123", LINKS)
        if id(asked) not in self.looked_at:
            self.looked_at[id(asked)] = asked, observe(self.catalog, "123", asked.rows, series)
        _, seen = self.looked_at[id(asked)]
        page = select(asked.rows, search, seen=seen, site=SITE, page_size=50)
        client.copy |= {
            study.uid: (study.row, list(series.get(study.uid, []))) for study in page.studies
        }
        made = searchset(
            [],
            fhir_base=BASE,
            search=search,
            patient="123",
            page=page,
            as_of=asked.asked,
            page_links=LINKS,
        )
        bundle = json.loads(b"".join(made.parts))
        client.after = _after(bundle)
        return bundle, client.after is None

    def whole_pass(self, client: Client, *, fresh: bool = True) -> list[str]:
        """All pages at once; return their ``meta.lastUpdated``."""
        shown = []
        last = False
        while not last:
            bundle, last = self.answer(client, self.ask(fresh=fresh))
            shown.append(str(bundle["meta"]["lastUpdated"]))
        return shown


def _after(bundle: dict[str, Any]) -> str | None:
    """The place that the ``next`` link names."""
    url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    return None if url is None else dict(parse_qsl(urlsplit(url).query))["_after"]
