"""Make FHIR R4 AuditEvents.

Those of FHIR searches and reads follow IHE BALP (https://profiles.ihe.net/ITI/BALP/). Those of
retrievals and QIDO-RS have DICOM's codes (PS3.15 A.5, PS3.16 annex D), which AuditEvent.type takes.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import orjson

from sidecar.access.facts import Part
from sidecar.access.reasons import INVALID_TOKEN
from sidecar.audit.record import AccessRecord

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_BALP_ENTITY_TYPE = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"

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
_READS = frozenset({"imaging-study-read", "endpoint-read"})

LEFT_OUT = 3
"""Limit of studies that an event names as left out of a list.

The line must be short enough to be written at once (PIPE_BUF).
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

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditSource:
    """AuditEvent.source: our ``name`` and ``site``, and the EHR's ``fhir_url`` for references."""

    name: str
    fhir_url: str
    site: str | None = None


def audit_line(
    record: AccessRecord, source: AuditSource, *, recorded: str, outcome: str, step: str
) -> bytes:
    """Return the AuditEvent of a ``record`` as JSON in ASCII, with the line's end.

    ``recorded`` is an instant. ``step`` is the ``outcomeDesc`` when the record has no reason.
    In ASCII no text of a server can end a line, whichever reader splits them. Raises
    ``ValueError``.
    """
    begin = _beginning(
        _kind(record), is_success=outcome == SUCCESS, is_alert=record.reason in INVALID_TOKEN
    )
    token = record.token
    agents_and_source = _agents_and_source(
        source.name,
        source.site,
        record.address,
        *((token.client_id, token.subject, token.issuer) if token is not None else _NOBODY),
        record.token_hash,
    )
    entities = _entities(
        source.fhir_url, record.patient, record.search, record.left_out, record.part
    )
    return _LINE % (
        begin,
        recorded.encode(),
        outcome.encode(),
        _json(record.reason or step),
        agents_and_source,
        entities,
        _json(record.request_id),
        _REQUEST_ID,
    )


def _json(value: object) -> bytes:
    """Return ASCII. Raises ``ValueError``."""
    try:
        if (text := orjson.dumps(value)).isascii():
            return text
    except TypeError:  # Half a surrogate pair.
        pass
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _fields(value: Json) -> bytes:
    """Return the fields of an object, which more of them follow."""
    return _json(value)[1:-1] + b","


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    type: Json
    subtype: Json
    action: str
    profile: str | None = None


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": system, "code": code, "display": display}


_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_APPLICATION_SERVER = _coding(_SOURCE_TYPE, "4", "Application Server")
_SECURITY_ALERT = _coding(_DCM, "110113", "Security Alert")
_CLIENT_TYPE = {"coding": [_coding(_DCM, "110153", "Source Role ID")]}
_SERVER_TYPE = {"coding": [_coding(_DCM, "110152", "Destination Role ID")]}
_USER_TYPE = {"coding": [_coding(_PARTICIPATION, "IRCP", "information recipient")]}
_PERSON = _coding(_ENTITY_TYPE, "1", "Person")
_SYSTEM_OBJECT = _coding(_ENTITY_TYPE, "2", "System Object")
_REQUEST_ID = _json(_coding(_BALP_ENTITY_TYPE, "XrequestId", "XrequestId"))
_PATIENT_ROLE = _coding(_ENTITY_ROLE, "1", "Patient")
_REPORT_ROLE = _coding(_ENTITY_ROLE, "3", "Report")
_QUERY_ROLE = _coding(_ENTITY_ROLE, "24", "Query")
_RESTFUL = _coding(_REST, "rest", "Restful Operation")
_SEARCH = _Kind(_RESTFUL, _coding(_INTERACTION, "search", "search"), "E", "PatientQuery")
_READ = _Kind(_RESTFUL, _coding(_INTERACTION, "read", "read"), "R", "PatientRead")
_QUERY = _Kind(_coding(_DCM, "110112", "Query"), _coding(_DCM, "110112", "Query"), "E")
_EXPORT = _coding(_DCM, "110106", "Export")
_RETRIEVAL = _Kind(_EXPORT, _coding(_DCM, "110104", "DICOM Instances Transferred"), "R")
_LOOK = _Kind(_EXPORT, _coding(_DCM, "110103", "DICOM Instances Accessed"), "R")


def _kind(record: AccessRecord) -> _Kind:
    if record.route in _SEARCHES:
        return _SEARCH
    if record.route in _READS:
        return _READ
    if record.is_query:
        return _QUERY
    return _RETRIEVAL if record.instances else _LOOK


@cache
def _beginning(kind: _Kind, *, is_success: bool, is_alert: bool) -> bytes:
    """Return what is the same in all events of a kind."""
    event: Json = {"resourceType": "AuditEvent"}
    if is_success and kind.profile is not None:
        event["meta"] = {"profile": [_BALP + kind.profile]}
    event |= {
        "type": _SECURITY_ALERT if is_alert else kind.type,
        "subtype": [kind.subtype],
        "action": kind.action,
    }
    return b"{" + _fields(event)


@lru_cache(_CALLERS)
def _agents_and_source(
    name: str,
    site: str | None,
    address: str | None,
    client_id: str | None,
    subject: str | None,
    issuer: str | None,
    token_hash: str | None,
) -> bytes:
    """Return client, server and user, and the source, as fields.

    In BALP the client is the source, even of a read.
    """
    client: Json = {
        "type": _CLIENT_TYPE,
        "who": {"display": "unknown client"},
        "requestor": False,
    }
    if client_id is not None:
        client["who"] = {"identifier": {"value": client_id}}
    if address is not None:
        client["network"] = {"address": address, "type": "2"}
    server: Json = {
        "type": _SERVER_TYPE,
        "who": {"display": name},
        "requestor": False,
    }
    user: Json = {
        "type": _USER_TYPE,
        "who": {"display": "unknown user"},
        "requestor": True,
    }
    if subject is not None:
        user["who"] = {"identifier": {"value": subject}}
        if issuer is not None:
            user["who"]["identifier"]["system"] = issuer
    if token_hash is not None:
        user["policy"] = ["urn:smart-imaging-sidecar:token:" + token_hash]
    source: Json = {"observer": {"display": name}, "type": [_APPLICATION_SERVER]}
    if site is not None:
        source["site"] = site
    return _fields({"agent": [client, server, user], "source": source})


@lru_cache(_REQUESTS)
def _entities(
    fhir_url: str,
    patient: str | None,
    search: str | None,
    left_out: frozenset[str],
    part: Part | None,
) -> bytes:
    """Return the entities in front of the request's id, each with a comma."""
    entities: list[Json] = []
    if patient is not None:
        entities.append(
            {
                "what": {"reference": f"{fhir_url}/Patient/{patient}"},
                "type": _PERSON,
                "role": _PATIENT_ROLE,
            }
        )
    if search is not None:
        query: Json = {
            "type": _SYSTEM_OBJECT,
            "role": _QUERY_ROLE,
            "query": b64encode(search.encode()).decode("ascii"),
        }
        if left_out:
            named = sorted(left_out)[:LEFT_OUT]
            query["detail"] = [{"type": "shared_uid", "valueString": uid} for uid in named]
        entities.append(query)
    if part is not None:
        entities.append(_study(part))
    return b"".join(_json(entity) + b"," for entity in entities)


def _study(part: Part) -> Json:
    study: Json = {
        "what": {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:" + part.study}},
        "type": _SYSTEM_OBJECT,
        "role": _REPORT_ROLE,
    }
    named = (("SeriesInstanceUID", part.series), ("SOPInstanceUID", part.instance))
    detail = [{"type": keyword, "valueString": uid} for keyword, uid in named if uid is not None]
    return study | ({"detail": detail} if detail else {})
