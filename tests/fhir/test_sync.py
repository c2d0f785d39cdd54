"""A client that syncs with ``_lastUpdated=gt<meta.lastUpdated of a Bundle>`` misses no change
(SIA-20, docs/api.md).
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidecar.dicom.json_model import Row
from sidecar.fhir.catalog.catalog import MemoryStore
from sidecar.pacs.listing import Listing
from tests.fhir.rows import row
from tests.fhir.syncing import Client, Clock, Server

UIDS = st.sampled_from(["1.2.1", "1.2.2", "1.2.3", "1.2.4"])
CLIENTS = st.integers(0, 2)


class Synchronisation(RuleBasedStateMachine):
    """Three clients with pages of 1, 2 and 50, an archive that changes, and a server that forgets.

    Each begins anew at the ``meta.lastUpdated`` of the page it got last. Whenever nothing changed
    during a pass, the copy must be the archive (deletions are not told).
    """

    @initialize(max_entries=st.sampled_from([2, 200_000]))
    def begin(self, max_entries: int) -> None:
        self.clock = Clock()
        self.server = Server(self.clock, max_entries=max_entries)
        self.clients = [Client(count) for count in (1, 2, 50)]
        self.asked: list[Listing | None] = [None, None, None]
        self.changes = 0

    @rule(ticks=st.sampled_from([1, 10, 300, 500, 999, 1_000, 1_001, 60_000_000]))
    def time_goes_on(self, ticks: int) -> None:
        self.clock.ticks += ticks

    @rule(uid=UIDS, count=st.integers(1, 2), day=st.sampled_from(["20240101", "20240229", None]))
    def a_study_changes(self, uid: str, count: int, day: str | None) -> None:
        self.server.archive[uid] = row(
            StudyInstanceUID=uid, StudyDate=day, NumberOfStudyRelatedInstances=count
        )
        self.changes += 1

    @precondition(lambda self: self.server.archive)
    @rule(data=st.data(), description=st.sampled_from(["Axial", "Coronal", None]))
    def a_series_is_corrected(self, data: st.DataObject, description: str | None) -> None:
        """Which the study's own row does not tell."""
        uid = data.draw(st.sampled_from(sorted(self.server.archive)))
        self.server.series[uid] = [row(SeriesInstanceUID=uid + ".1", SeriesDescription=description)]
        self.changes += 1

    @rule(uid=UIDS)
    def a_study_goes(self, uid: str) -> None:
        if self.server.archive.pop(uid, None):
            self.changes += 1

    @rule()
    def somebody_else_looks(self) -> None:
        self.server.whole_pass(Client(50))

    @rule()
    def the_server_restarts(self) -> None:
        self.server.restart()

    @precondition(lambda self: None in self.asked)
    @rule(who=CLIENTS)
    def a_client_asks_for_a_page(self, who: int) -> None:
        if self.asked[who] is None:
            if self.clients[who].after is None:
                self.clients[who].changes = self.changes
            self.asked[who] = self.server.ask()

    @precondition(lambda self: any(self.asked))
    @rule(who=CLIENTS)
    def a_client_gets_its_page(self, who: int) -> None:
        client, asked = self.clients[who], self.asked[who]
        if asked is None:
            return
        self.asked[who] = None
        bundle, last = self.server.answer(client, asked)
        if last:
            client.since = bundle["meta"]["lastUpdated"]
            if client.changes == self.changes:
                self.check(client)

    def check(self, client: Client) -> None:
        truth = self.server.truth()
        assert {uid: client.copy.get(uid) for uid in truth} == truth

    def teardown(self) -> None:
        """When all is quiet, one more pass brings everything."""
        for who, client in enumerate(getattr(self, "clients", [])):
            while self.asked[who] is not None or client.after is not None:
                self.a_client_gets_its_page(who)
                if client.after is not None:
                    self.a_client_asks_for_a_page(who)
            self.server.whole_pass(client)
            self.check(client)


TestSynchronisation = Synchronisation.TestCase
TestSynchronisation.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=40, deadline=None
)


SKEW = 2.0


class TwoReplicas(RuleBasedStateMachine):
    """Two servers with one store, clocks that differ, and lists that each remembers for any time.

    A client asks now one, now the other. Once both have looked anew, its next pass must make its
    copy whole.
    """

    @initialize(ahead=st.floats(-SKEW, SKEW))
    def begin(self, ahead: float) -> None:
        self.clock = Clock()
        store = MemoryStore()
        self.servers = [
            Server(self.clock, store=store, skew=SKEW),
            Server(self.clock, store=store, ahead=ahead, skew=SKEW),
        ]
        self.archive: dict[str, Row] = {}
        self.series: dict[str, list[Row]] = {}
        for server in self.servers:
            server.archive, server.series = self.archive, self.series
        self.client = Client(50)

    @rule(ticks=st.sampled_from([1, 500, 1_000, 700_000, 2_000_000, 60_000_000]))
    def time_goes_on(self, ticks: int) -> None:
        self.clock.ticks += ticks

    @rule(uid=UIDS, count=st.integers(1, 2))
    def a_study_changes(self, uid: str, count: int) -> None:
        self.archive[uid] = row(StudyInstanceUID=uid, NumberOfStudyRelatedInstances=count)

    @rule(uid=UIDS, description=st.sampled_from(["Axial", "Coronal"]))
    def a_series_is_corrected(self, uid: str, description: str) -> None:
        self.series[uid] = [row(SeriesInstanceUID=uid + ".1", SeriesDescription=description)]

    @rule(uid=UIDS)
    def a_study_goes(self, uid: str) -> None:
        self.archive.pop(uid, None)

    @rule(who=st.integers(0, 1), fresh=st.booleans())
    def somebody_else_looks(self, who: int, fresh: bool) -> None:
        self.servers[who].whole_pass(Client(50), fresh=fresh)

    @rule(who=st.integers(0, 1))
    def a_replica_restarts(self, who: int) -> None:
        self.servers[who].restart()

    @rule(who=st.integers(0, 1), fresh=st.booleans())
    def the_client_syncs(self, who: int, fresh: bool) -> None:
        self.client.since = self.servers[who].whole_pass(self.client, fresh=fresh)[-1]

    def teardown(self) -> None:
        for who in (0, 1):
            if hasattr(self, "servers"):
                self.the_client_syncs(who, fresh=True)
                truth = self.servers[who].truth()
                assert {uid: self.client.copy.get(uid) for uid in truth} == truth


TestTwoReplicas = TwoReplicas.TestCase
TestTwoReplicas.settings = settings(
    max_examples=3 * settings().max_examples, stateful_step_count=30, deadline=None
)


SECOND = 1_000_000


def changed(server: Server, uid: str) -> None:
    """One more instance came into the study."""
    server.archive[uid] = dict(server.archive[uid]) | row(NumberOfStudyRelatedInstances=7)


def test_a_corrected_series_is_a_change_of_its_study() -> None:
    server, client = Server(Clock()), Client(50)
    server.archive = {uid: row(StudyInstanceUID=uid) for uid in ("1.2.1", "1.2.2")}
    server.series = {"1.2.1": [row(SeriesInstanceUID="1.2.1.1", SeriesDescription="Axail")]}
    for _ in range(2):
        client.since = server.whole_pass(client)[0]
        server.clock.ticks += SECOND
    server.series["1.2.1"] = [row(SeriesInstanceUID="1.2.1.1", SeriesDescription="Axial")]
    client.copy.clear()
    server.whole_pass(client)
    assert set(client.copy) == {"1.2.1"}


def three_pages_and_a_change(server: Server, client: Client) -> list[str]:
    """The study of the first page changes before the second is asked for; return each page's
    meta.lastUpdated.
    """
    days = {"1.2.1": "20240103", "1.2.2": "20240102", "1.2.3": "20240101"}
    server.archive = {uid: row(StudyInstanceUID=uid, StudyDate=day) for uid, day in days.items()}
    shown = []
    for _ in days:
        bundle, last = server.answer(client, server.ask())
        shown.append(str(bundle["meta"]["lastUpdated"]))
        server.clock.ticks += SECOND
        if len(shown) == 1:
            changed(server, "1.2.1")
    assert last
    return shown


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_sync_from_any_page_misses_nothing(page: int) -> None:
    """docs/api.md speaks of "the Bundle you got last", which is the last page's."""
    server, client = Server(Clock()), Client(1)
    client.since = three_pages_and_a_change(server, client)[page]
    assert client.copy != server.truth()  # The change is not on the pages that it got.
    server.whole_pass(client)
    assert client.copy == server.truth()


def test_a_clock_that_is_set_back_hides_no_change() -> None:
    """Clocks are corrected; a later observation must have a later time than those before."""
    server, client = Server(Clock()), Client(50)
    server.archive = {"1.2.1": row(StudyInstanceUID="1.2.1")}
    server.clock.ticks = 10 * SECOND
    client.since = server.whole_pass(client)[0]
    server.clock.ticks -= 5 * SECOND
    changed(server, "1.2.1")
    server.whole_pass(client)
    server.clock.ticks += 60 * SECOND
    server.whole_pass(client)
    assert client.copy == server.truth()
