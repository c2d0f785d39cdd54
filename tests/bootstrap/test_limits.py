"""What is worked out of ``limits`` and ``compat`` reaches the parts that it is for."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.authorization.limits import RequestLimits
from sidecar.bootstrap.build import _catalog
from sidecar.fhir.catalog import postgresql
from sidecar.fhir.catalog.catalog import MemoryStore
from sidecar.fhir.endpoint import REQUIRES_ACCESS_TOKEN
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between, site_settings


@pytest.mark.parametrize(("retrievals", "of_app"), [(64, 16), (8, 2), (1, 1)])
async def test_one_app_has_a_quarter_of_the_retrievals(
    retrievals: int, of_app: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, int]] = []

    def remembered(**given: int) -> RequestLimits:
        made.append(given)
        return RequestLimits(**given)

    monkeypatch.setattr("sidecar.bootstrap.build.RequestLimits", remembered)
    async with sidecar_between(ScriptedEhr(), RowArchive(), limits={"retrievals": retrievals}):
        assert made == [{"transfers": retrievals, "transfers_of_app": of_app, "connections": 2_000}]


@pytest.mark.parametrize(("connections", "deferred"), [(100, 16), (12, 2), (1, 1)])
async def test_slow_retrievals_hold_a_sixth_of_the_connections(
    connections: int, deferred: int
) -> None:
    limits = {"pacs_connections": connections}
    async with sidecar_between(ScriptedEhr(), RowArchive(), limits=limits) as (_, sidecar):
        assert sidecar.retrievals._deferred is not None
        assert sidecar.retrievals._deferred._limit == deferred


def test_clocks_of_a_shared_database_may_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is on this machine, as is memory: whoever shares it has this clock."""
    monkeypatch.setattr(postgresql, "PostgresqlStore", lambda dsn: MemoryStore())
    dsn = tmp_path / "dsn"
    dsn.write_text("host=nowhere.invalid")
    catalogs: list[tuple[dict[str, Any], float]] = [
        ({}, 0),
        ({"store": "sqlite", "file": str(tmp_path / "catalog")}, 0),
        ({"store": "postgresql", "dsn_file": str(dsn)}, 7),
    ]
    for settings, seconds in catalogs:
        changes: dict[str, dict[str, Any]] = {
            "fhir": {"catalog": settings},
            "limits": {"clock_skew_seconds": 7},
        }
        catalog = _catalog(site_settings(1, "http://pacs.example.org", changes))
        assert catalog._skew == timedelta(seconds=seconds)
        catalog.close()


@pytest.mark.parametrize(("on", "urls"), [(False, ()), (True, REQUIRES_ACCESS_TOKEN)])
async def test_what_earlier_texts_had_is_one_switch(on: bool, urls: tuple[str, ...]) -> None:
    """SIA-31."""
    compat = {"requires_access_token": on}
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(), compat=compat) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as us,
        us.get(f"{url}/fhir/Endpoint/{PATIENT}") as answer,
    ):
        endpoint = await answer.json(content_type=None)
    assert tuple(extension["url"] for extension in endpoint.get("extension", ())) == urls
