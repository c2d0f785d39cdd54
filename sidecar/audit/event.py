"""Make FHIR R4 AuditEvents.

Those of FHIR searches and reads follow IHE BALP (https://profiles.ihe.net/ITI/BALP/). Those of
retrievals and QIDO-RS have DICOM's codes (PS3.15 A.5, PS3.16 annex D), which AuditEvent.type takes.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import orjson

from sidecar.access.facts import Part, is_fhir_id
from sidecar.access.reasons import INVALID_TOKEN
from sidecar.audit import codes
from sidecar.audit.codes import Json
from sidecar.audit.record import AccessRecord

_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_URI = "urn:ietf:rfc:3986"

SUCCESS, REFUSED, SERIOUS = "0", "4", "8"
"""Values of AuditEvent.outcome."""

_SEARCHES = frozenset(
    {
        "imaging-study-search",
        "imaging-study-search-post",
        "imaging-study-compartment",
        "imaging-study-compartment-post",
    }
)
_ENDPOINT_READ = "endpoint-read"
_READS = frozenset({"imaging-study-read", _ENDPOINT_READ})

LINE_BYTES = 4_096
"""Length in bytes of lines that are written at once (PIPE_BUF).

Where long names of app and user make a longer one, the names that are for searches are left out.
"""
LEFT_OUT = 3
"""Limit of studies that an event names as left out of a list.

The line must be short enough (``LINE_BYTES``).
"""

_LINE = (
    b'%b"recorded":"%b","outcome":"%b","outcomeDesc":%b,%b"entity":[%b'
    b'{"what":{"identifier":{"value":%b}},"type":%b}]}\n'
)
_REQUESTS = 64
"""Requests whose entities are kept as JSON, for the second event of each."""
_CALLERS = 512
"""Callers whose part of an event is kept as JSON, some 600 bytes each."""
_NOBODY = (None, None, None)

PatientReference = Literal["absolute", "relative", "logical"]


@dataclass(frozen=True, slots=True, eq=False)
class AuditSource:
    """Where events come from.

    ``name``, ``site`` and ``fhir_base`` are ours. ``fhir_url`` is the EHR's, for references to
    patients, which have the form ``patients``: an ``absolute`` URL, a ``relative`` one, or a
    ``logical`` reference by an identifier (FHIR R4 references.html).
    """

    name: str
    fhir_url: str
    fhir_base: str
    site: str | None = None
    patients: PatientReference = "logical"


def audit_line(
    record: AccessRecord, source: AuditSource, *, recorded: str, outcome: str, step: str
) -> bytes:
    """Return the AuditEvent of a ``record`` as JSON in ASCII, with the line's end.

    ``recorded`` is an instant. ``step`` is the ``outcomeDesc`` when the record has no reason.
    In ASCII no text of a server can end a line, whichever reader splits them. Raises
    ``ValueError``.
    """
    kind = _kind(record)
    is_success = outcome == SUCCESS
    begin = _beginning(
        kind,
        is_in_profile=is_success and _is_in_profile(record),
        is_alert=record.reason in INVALID_TOKEN,
    )
    token = record.token
    caller = (token.client_id, token.subject, token.issuer) if token is not None else _NOBODY
    # Whoever is refused may have named anybody.
    is_known = is_success or (token is not None and record.patient == token.patient)
    entities = _entities(
        source,
        record.patient,
        source.patients if is_known else "logical",
        record.search,
        record.left_out,
        record.part,
        # Of a refused one this would be another than was asked for.
        is_success and record.route == _ENDPOINT_READ,
    )
    line = b""
    for is_brief in (False, True):
        line = _LINE % (
            begin,
            recorded.encode(),
            outcome.encode(),
            _json(record.reason or step),
            _agents_and_source(
                source, kind.is_query, record.address, *caller, record.token_hash, is_brief
            ),
            entities,
            _json(record.request_id),
            _REQUEST_ID,
        )
        if len(line) <= LINE_BYTES:
            break
    return line


def _is_in_profile(record: AccessRecord) -> bool:
    """Return whether the event of an answered request has all that BALP wants."""
    if record.address is None or record.patient is None:
        return False
    if record.route in _SEARCHES:
        return record.search is not None and record.part is None
    return record.part is not None or record.route == _ENDPOINT_READ


def _json(value: object) -> bytes:
    """Return ASCII. Raises ``ValueError``."""
    try:
        if (text := orjson.dumps(value)).isascii():
            return text
    except TypeError:  # Half a surrogate pair.
        pass
    return json.dumps(value, separators=(",", ":")).encode("ascii")


_REQUEST_ID = _json(codes.REQUEST_ID)


def _fields(value: Json) -> bytes:
    """Return the fields of an object, which more of them follow."""
    return _json(value)[1:-1] + b","


def _kind(record: AccessRecord) -> codes.EventKind:
    if record.route in _SEARCHES:
        return codes.SEARCH
    if record.route in _READS:
        return codes.READ
    if record.is_query:
        return codes.QUERY
    return codes.RETRIEVAL if record.instances else codes.LOOK


@cache
def _beginning(kind: codes.EventKind, *, is_in_profile: bool, is_alert: bool) -> bytes:
    """Return what is the same in all events of a kind."""
    event: Json = {"resourceType": "AuditEvent"}
    if is_in_profile and kind.profile is not None:
        event["meta"] = {"profile": [_BALP + kind.profile]}
    event |= {
        "type": codes.SECURITY_ALERT if is_alert else kind.type,
        "subtype": [kind.subtype],
        "action": kind.action,
    }
    return b"{" + _fields(event)


@lru_cache(_CALLERS)
def _agents_and_source(
    source: AuditSource,
    is_query: bool,
    address: str | None,
    client_id: str | None,
    subject: str | None,
    issuer: str | None,
    token_hash: str | None,
    is_brief: bool,
) -> bytes:
    """Return client, server and user, and the source, as fields.

    A query goes from the client to the server, and what is read from the server to the client
    (BALP Query and Read, PS3.15 A.5.3).
    """
    client: Json = {
        "type": codes.FROM if is_query else codes.TO,
        "role": [codes.APPLICATION],
        "who": {"display": "unknown client"},
        "requestor": False,
    }
    if (client_id or "").strip():  # What is blank is no string of FHIR.
        client |= _named(client_id, is_brief)
    if address is not None:
        client["network"] = {"address": address, "type": "2"}
    server: Json = {
        "type": codes.TO if is_query else codes.FROM,
        "who": {"display": source.name},
        "name": source.name,
        "requestor": False,
        "network": {"address": source.fhir_base, "type": "5"},
    }
    user: Json = {"type": codes.USER_TYPE, "who": {"display": "unknown user"}, "requestor": True}
    if (subject or "").strip():
        user |= _named(subject, is_brief)
        if issuer is not None:
            user["who"]["identifier"]["system"] = issuer
    if token_hash is not None:
        user["policy"] = ["urn:smart-imaging-sidecar:token:" + token_hash]
    observed: Json = {"observer": {"display": source.name}, "type": [codes.APPLICATION_SERVER]}
    if source.site is not None:
        observed["site"] = source.site
    return _fields({"agent": [client, server, user], "source": observed})


def _named(value: str | None, is_brief: bool) -> Json:
    """Return who it is; unless ``is_brief``, so that ``altid`` and ``agent-name`` find it."""
    who: Json = {"who": {"identifier": {"value": value}}}
    return who if is_brief else who | {"altId": value, "name": value}


@lru_cache(_REQUESTS)
def _entities(
    source: AuditSource,
    patient: str | None,
    patient_reference: PatientReference,
    search: str | None,
    left_out: frozenset[str],
    part: Part | None,
    is_endpoint: bool,
) -> bytes:
    """Return the entities in front of the request's id, each with a comma.

    Patient and study have a name: ``entity-name`` finds them where no search finds identifiers.
    """
    entities: list[Json] = []
    if patient is not None:
        entities.append(
            {
                "what": _patient(source, patient, patient_reference),
                "type": codes.PERSON,
                "role": codes.PATIENT_ROLE,
                "name": "Patient/" + patient,
            }
        )
    if patient is not None and is_endpoint:  # It has the patient's id (SIA-31).
        what = _logical("Endpoint", f"{source.fhir_base}/Endpoint/{patient}")
        entities.append({"what": what, "type": codes.SYSTEM_OBJECT, "role": codes.RESOURCE_ROLE})
    if search is not None:
        query: Json = {
            "type": codes.SYSTEM_OBJECT,
            "role": codes.QUERY_ROLE,
            "query": b64encode(search.encode()).decode("ascii"),
        }
        entities.append(query)
    if left_out:  # In BALP a query has no detail, and is the only system object.
        named = sorted(left_out)[:LEFT_OUT]
        detail = [{"type": "shared_uid", "valueString": uid} for uid in named]
        entities.append({"type": codes.OTHER, "detail": detail})
    if part is not None:
        entities.append(_study(part))
    return b"".join(_json(entity) + b"," for entity in entities)


def _patient(source: AuditSource, patient: str, form: PatientReference) -> Json:
    """Return a reference of this form. What is no id, which a client may have named, is in none.

    A repository would reject the event for it.
    """
    url = f"{source.fhir_url}/Patient/{patient}"
    if form == "logical" or not is_fhir_id(patient):
        return _logical("Patient", url)
    return {"reference": url if form == "absolute" else f"Patient/{patient}"}


def _logical(resource_type: str, url: str) -> Json:
    """Return a reference that no repository looks up (FHIR R4 references.html#logical)."""
    return {"type": resource_type, "identifier": {"system": _URI, "value": url}}


def _study(part: Part) -> Json:
    study: Json = {
        "what": {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:" + part.study}},
        "type": codes.SYSTEM_OBJECT,
        "role": codes.REPORT_ROLE,
        "name": part.study,
    }
    named = (("SeriesInstanceUID", part.series), ("SOPInstanceUID", part.instance))
    detail = [{"type": keyword, "valueString": uid} for keyword, uid in named if uid is not None]
    return study | ({"detail": detail} if detail else {})
