"""The catalog in a real PostgreSQL: what the memory answers, over restarts of either side, for
several replicas.
"""

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sidecar.common.errors import Unavailable
from sidecar.fhir.catalog.catalog import Catalog, MemoryStore
from sidecar.fhir.catalog.postgresql import PostgresqlStore, probe
from tests.fhir.observing import observe
from tests.fhir.rows import row
from tests.fhir.stores import exchange_at_once
from tests.real.postgresql import Postgresql, postgresql

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as running:
        yield running


def test_a_probe_makes_nothing(server: Postgresql) -> None:
    """``check`` looks at the database, and leaves it as it is."""
    tables = "SELECT count(*) FROM pg_catalog.pg_tables WHERE tablename = 'smart_imaging_seen'"
    probe(server.dsn)
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute(tables).fetchone() == (0,)


def test_it_answers_as_the_memory_does(server: Postgresql) -> None:
    memory, database = MemoryStore(), PostgresqlStore(server.dsn)
    dice = random.Random(1)
    for moment in range(300):
        patient = dice.choice(["p1", "p2"])
        seen = {
            uid: dice.choice([b"a", b"b"]) for uid in ("1.1", "1.2", "1.3") if dice.random() < 0.6
        }
        assert database.exchange(patient, seen, moment) == memory.exchange(patient, seen, moment)
    database.close()


def test_it_outlives_restarts_of_both(server: Postgresql) -> None:
    rows = [row(StudyInstanceUID="1.2.3")]
    first = Catalog(PostgresqlStore(server.dsn), clock=lambda: 1_000.0)
    seen = observe(first, "restarting", rows)
    server.stop()
    with pytest.raises(Unavailable) as failure:
        observe(first, "restarting", rows)
    assert "restarting" not in str(failure.value)
    server.start()
    assert observe(first, "restarting", rows) == seen
    first.close()
    again = Catalog(PostgresqlStore(server.dsn), clock=lambda: 2_000.0)
    assert observe(again, "restarting", rows) == seen
    again.close()


def test_replicas_lose_nothing(server: Postgresql) -> None:
    """Exchanges of one patient come one after another."""
    results = exchange_at_once(lambda: PostgresqlStore(server.dsn), steps=40)
    assert len(results) == 120
    assert len({one["1.0"] for one in results}) == 1


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(OSError, match="cannot be used") as failure:
        PostgresqlStore("host=127.0.0.1 port=1 user=us password=s3cret connect_timeout=1")
    assert "s3cret" not in str(failure.value)


def test_a_database_in_which_nothing_may_be_made_is_left_again(
    server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as administrator:
        administrator.execute("CREATE ROLE reader LOGIN")
        administrator.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    opened: list[psycopg.Connection[Any]] = []
    connect = psycopg.connect

    def spy(*arguments: Any, **named: Any) -> psycopg.Connection[Any]:
        opened.append(connect(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(psycopg, "connect", spy)
    with pytest.raises(OSError, match="cannot be used"):
        PostgresqlStore(server.dsn.replace("user=postgres", "user=reader"))
    assert [one.closed for one in opened] == [True]
