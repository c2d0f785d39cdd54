"""The searchset Bundle (SIA-24; https://hl7.org/fhir/R4/http.html#search)."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sidecar.fhir.cursor import Cursor, PageLinks
from sidecar.fhir.outcome import operation_outcome
from sidecar.fhir.result_parameters import subset
from sidecar.fhir.search import Search
from sidecar.fhir.select import StudyPage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def searchset(
    studies: Sequence[Mapping[str, Any]],
    included: Mapping[str, Mapping[str, Any]],
    *,
    fhir_base: str,
    search: Search,
    patient: str,
    page: StudyPage,
    as_of: datetime,
    page_links: PageLinks,
) -> dict[str, Any]:
    """Return the Bundle. ``included``: further resources by their ``fullUrl``.

    ``as_of``: ``Catalog.now()`` before the PACS was queried. It is the ``meta.lastUpdated`` of
    every page, and a safe ``_lastUpdated=gt`` for the next sync.
    """
    if search.after is not None:
        as_of = min(as_of, _EPOCH + search.after.as_of * _MILLISECOND)
    named = _named(search, patient)
    links = [{"relation": "self", "url": _link(fhir_base, named, search.after_text)}]
    if page.next_after is not None:
        following = replace(page.next_after, as_of=(as_of - _EPOCH) // _MILLISECOND)
        sealed = page_links.seal(following, patient, named)
        links.append({"relation": "next", "url": _link(fhir_base, named, sealed)})
    entries = [
        _entry(
            f"{fhir_base}/{study['resourceType']}/{study['id']}",
            subset(study, search.result),
            "match",
        )
        for study in studies
    ]
    entries += [_entry(url, resource, "include") for url, resource in included.items()]
    if search.ignored and not search.result.only_total:
        text = "Ignored search parameters: " + ", ".join(search.ignored)
        outcome = operation_outcome("not-supported", text, severity="warning")
        entries.append(_entry(uuid.uuid5(uuid.NAMESPACE_URL, text).urn, outcome, "outcome"))
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"lastUpdated": instant(as_of)},
        "type": "searchset",
        "total": page.total,
        "link": links,
    }
    if search.result.total == "none" and not search.result.only_total:
        del bundle["total"]
    # FHIR JSON has no empty arrays.
    return bundle | ({"entry": entries} if entries else {})


def instant(moment: datetime) -> str:
    """Return a FHIR instant in milliseconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(url: str, resource: Mapping[str, Any], mode: str) -> dict[str, Any]:
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def open_cursor(search: Search, patient: str, page_links: PageLinks) -> Cursor | None:
    """Return the cursor where the page of ``search`` begins.

    Raises ``BadRequest`` for a link that we did not write.
    """
    if search.after_text is None:
        return None
    return page_links.open(search.after_text, patient, _named(search, patient))


def _named(search: Search, patient: str) -> list[tuple[str, str]]:
    """Return the parameters of the links, with the patient, who may come from the token."""
    return search.parameters if search.patients else [("patient", patient), *search.parameters]


def _link(fhir_base: str, parameters: Sequence[tuple[str, str]], after: str | None) -> str:
    cursor = [("_after", after)] if after else []
    return f"{fhir_base}/ImagingStudy?" + urlencode([*parameters, *cursor])
