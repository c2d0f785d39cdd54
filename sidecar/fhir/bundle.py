"""The searchset Bundle (SIA-24; https://hl7.org/fhir/R4/http.html#search)."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson

from sidecar.fhir.cursor import Cursor, PageLinks
from sidecar.fhir.list_snapshot import EPOCH, BundleEntry, microseconds
from sidecar.fhir.outcome import operation_outcome
from sidecar.fhir.search import Search
from sidecar.fhir.select import StudyPage


@dataclass(frozen=True, slots=True)
class Searchset:
    """A Bundle as JSON in ``parts``, and what of it differs when the search's answer does."""

    parts: Sequence[bytes]
    identity: bytes


def searchset(
    entries: Sequence[BundleEntry],
    *,
    fhir_base: str,
    search: Search,
    patient: str,
    page: StudyPage,
    as_of: datetime,
    page_links: PageLinks,
) -> Searchset:
    """Return the Bundle of ``entries``: the page's studies, and what comes with them.

    ``as_of``: ``Catalog.now()`` before the PACS was queried. It is the ``meta.lastUpdated`` of
    every page, and a safe ``_lastUpdated=gt`` for the next sync.
    """
    if search.after is not None:
        as_of = min(as_of, EPOCH + timedelta(milliseconds=search.after.as_of))
    named = _named(search, patient)
    links = [{"relation": "self", "url": _link(fhir_base, named, search.after_text)}]
    if page.next_after is not None:
        following = replace(page.next_after, as_of=microseconds(as_of) // 1_000)
        sealed = page_links.seal(following, patient, named)
        links.append({"relation": "next", "url": _link(fhir_base, named, sealed)})
    if search.ignored and not search.result.only_total:
        text = "Ignored search parameters: " + ", ".join(search.ignored)
        if search.is_widened:
            text += ". There may be more studies than were asked for."
        outcome = operation_outcome("not-supported", text, severity="warning")
        url = uuid.uuid5(uuid.NAMESPACE_URL, text).urn
        entries = [*entries, entry(url, outcome, "outcome")]
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
    # Id, time and seals of the links differ each time: a client has the answer when the rest is
    # the same.
    following_page = page.next_after and [page.next_after.uid, page_links.key_id]
    identity = orjson.dumps([page.total, following_page])
    written = orjson.dumps(bundle)
    if not entries:  # FHIR JSON has no empty arrays.
        return Searchset([written], identity)
    joined = b",".join([found.body for found in entries])
    return Searchset(
        [written[:-1] + b',"entry":[', joined, b"]}"],
        identity + b"".join([found.digest for found in entries]),
    )


def entry(url: str, resource: Mapping[str, Any], mode: str) -> BundleEntry:
    """Return an entry of a Bundle. ``mode``: why it is there (R4 bundle.html#searchset)."""
    before = b'{"fullUrl":%b,"resource":' % orjson.dumps(url)
    after = b',"search":%b}' % orjson.dumps({"mode": mode})
    # What orjson returns keeps up to five times its length of memory; what is joined does not.
    body = b"%b%b%b" % (before, orjson.dumps(resource), after)
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return BundleEntry(body, digest, len(before), len(body) - len(after))


def instant(moment: datetime) -> str:
    """Return a FHIR instant in milliseconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
