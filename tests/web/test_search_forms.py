"""Each form of a search, with an archive that has another patient's study (decision 0054)."""

from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active
from tests.fakes.site import HEADERS, sidecar_between
from tests.tables.search_forms import ACCESSION_SYSTEM, FOREIGN, FORGIVEN, FORMS, ROWS, Form

SITE = {"fhir": {"accession_system": ACCESSION_SYSTEM}}
IDS = [form.query for form in FORMS]


def matches(bundle: dict[str, Any]) -> tuple[str, ...]:
    entries = [one for one in bundle.get("entry", ()) if one["search"]["mode"] == "match"]
    return tuple(one["resource"]["id"] for one in entries)


def ignored(bundle: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in the outcome entry."""
    outcomes = [one for one in bundle.get("entry", ()) if one["search"]["mode"] == "outcome"]
    said = "".join(one["resource"]["issue"][0]["diagnostics"] for one in outcomes)
    names, _, warning = said.removeprefix("Ignored search parameters: ").partition(". ")
    is_filter = "_has" in names or ":text" in names
    assert warning == ("There may be more studies than were asked for." if is_filter else "")
    return tuple(filter(None, names.split(", ")))


async def ask(client: aiohttp.ClientSession, url: str, query: str, **headers: str) -> Any:
    address = URL(f"{url}/fhir/ImagingStudy?{query}", encoded="%" in query)
    async with client.get(address, headers=headers) as response:
        body = await response.json(content_type=None)
        assert FOREIGN not in str(body.get("entry"))
        return response.status, body


@pytest.mark.parametrize("form", FORMS, ids=IDS)
async def test_each_form(form: Form) -> None:
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*ROWS), **SITE) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        status, bundle = await ask(client, url, form.query)
        assert status == (400 if form.found is None else 200), bundle
        if form.found is None:
            assert bundle["resourceType"] == "OperationOutcome"
            assert bundle["issue"][0]["diagnostics"]
        else:
            assert (matches(bundle), ignored(bundle)) == (form.found, form.ignored)
            assert bundle["total"] == len(form.found)
            own = next(one["url"] for one in bundle["link"] if one["relation"] == "self")
            # What is said to be used is the same search, which even a strict client may send.
            status, again = await ask(client, url, own.partition("?")[2], Prefer="handling=strict")
            assert (status, matches(again)) == (200, form.found)
        strict, _ = await ask(client, url, form.query, Prefer="handling=strict")
        assert strict == (400 if form.ignored else status)


@pytest.mark.parametrize("form", FORGIVEN, ids=[form.query for form in FORGIVEN])
async def test_what_is_forgiven_is_forgiven_in_no_scope(form: Form) -> None:
    """A constraint that is not understood permits nothing (SIA-11, 16)."""
    constrained = f"patient/ImagingStudy.rs?{form.query}"
    ehr = ScriptedEhr(active(PATIENT, scope=constrained))
    async with (
        sidecar_between(ehr, RowArchive(*ROWS)) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        status, body = await ask(client, url, "")
        assert status == 403, body
        for path in ("/fhir/ImagingStudy/1.2.1", "/wado-rs/studies/1.2.1"):
            async with client.get(url + path) as response:
                assert response.status == 403
