"""Make FHIR R4 AuditEvents.

Those of FHIR searches and reads follow IHE BALP (https://profiles.ihe.net/ITI/BALP/). Those of
retrievals and QIDO-RS have DICOM's codes (PS3.15 A.5, PS3.16 annex D), which AuditEvent.type takes.
"""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

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
    {"imaging-study-search", "imaging-study-search-post", "imaging-study-compartment"}
)
_READS = frozenset({"imaging-study-read", "endpoint-read"})

LEFT_OUT = 3
"""Limit of studies that an event names as left out of a list.

The line must be short enough to be written at once (PIPE_BUF).
"""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditSource:
    """AuditEvent.source: our ``name`` and ``site``, and the EHR's ``fhir_url`` for references."""

    name: str
    fhir_url: str
    site: str | None = None


def audit_event(
    record: AccessRecord, source: AuditSource, *, recorded: str, outcome: str, step: str
) -> Json:
    """Return the AuditEvent of a ``record``.

    ``recorded`` is an instant. ``step`` is the ``outcomeDesc`` when the record has no reason.
    """
    kind = _kind(record)
    event: Json = {"resourceType": "AuditEvent"}
    if outcome == SUCCESS and kind.profile is not None:
        event["meta"] = {"profile": [_BALP + kind.profile]}
    event |= {
        "type": kind.type,
        "subtype": [kind.subtype],
        "action": kind.action,
        "recorded": recorded,
        "outcome": outcome,
        "outcomeDesc": record.reason or step,
        "agent": _agents(record, source),
        "source": {
            "observer": {"display": source.name},
            "type": [_APPLICATION_SERVER],
        },
        "entity": _entities(record, source),
    }
    if record.reason in INVALID_TOKEN:
        event["type"] = _SECURITY_ALERT
    if source.site is not None:
        event["source"]["site"] = source.site
    return event


@dataclass(frozen=True, slots=True)
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
_REQUEST_ID = _coding(_BALP_ENTITY_TYPE, "XrequestId", "XrequestId")
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


def _agents(record: AccessRecord, source: AuditSource) -> list[Json]:
    """Return client, server and user. In BALP the client is the source, even of a read."""
    token = record.token
    client: Json = {
        "type": _CLIENT_TYPE,
        "who": {"display": "unknown client"},
        "requestor": False,
    }
    if token is not None and token.client_id is not None:
        client["who"] = {"identifier": {"value": token.client_id}}
    if record.address is not None:
        client["network"] = {"address": record.address, "type": "2"}
    server: Json = {
        "type": _SERVER_TYPE,
        "who": {"display": source.name},
        "requestor": False,
    }
    return [client, server, _user(record)]


def _user(record: AccessRecord) -> Json:
    user: Json = {
        "type": _USER_TYPE,
        "who": {"display": "unknown user"},
        "requestor": True,
    }
    token = record.token
    if token is not None and token.subject is not None:
        user["who"] = {"identifier": {"value": token.subject}}
        if token.issuer is not None:
            user["who"]["identifier"]["system"] = token.issuer
    if record.token_hash is not None:
        user["policy"] = ["urn:smart-imaging-sidecar:token:" + record.token_hash]
    return user


def _entities(record: AccessRecord, source: AuditSource) -> list[Json]:
    entities: list[Json] = []
    if record.patient is not None:
        entities.append(
            {
                "what": {"reference": f"{source.fhir_url}/Patient/{record.patient}"},
                "type": _PERSON,
                "role": _PATIENT_ROLE,
            }
        )
    if record.search is not None:
        query: Json = {
            "type": _SYSTEM_OBJECT,
            "role": _QUERY_ROLE,
            "query": b64encode(record.search.encode()).decode("ascii"),
        }
        if record.left_out:
            named = sorted(record.left_out)[:LEFT_OUT]
            query["detail"] = [{"type": "shared_uid", "valueString": uid} for uid in named]
        entities.append(query)
    if record.part is not None:
        entities.append(_study(record))
    entities.append(
        {
            "what": {"identifier": {"value": record.request_id}},
            "type": _REQUEST_ID,
        }
    )
    return entities


def _study(record: AccessRecord) -> Json:
    assert record.part is not None  # noqa: S101
    part = record.part
    study: Json = {
        "what": {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:" + part.study}},
        "type": _SYSTEM_OBJECT,
        "role": _REPORT_ROLE,
    }
    named = (("SeriesInstanceUID", part.series), ("SOPInstanceUID", part.instance))
    detail = [{"type": keyword, "valueString": uid} for keyword, uid in named if uid is not None]
    return study | ({"detail": detail} if detail else {})
