"""The codes of AuditEvents, and which of them each kind of event has.

A client that reads is the destination, and one that queries the source: so BALP's Read and Query
have it, and the messages of PS3.15 A.5.3.
"""

from dataclasses import dataclass
from typing import Any

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP_ENTITY_TYPE = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class EventKind:
    """``profile``: the end of its BALP profile's URL. ``is_query``: data go to the server."""

    type: Json
    subtype: Json
    action: str
    profile: str | None = None
    is_query: bool = False


def coding(system: str, code: str, display: str | None = None) -> Json:
    """Return a Coding. Those that each event has several times have no ``display``."""
    return {"system": system, "code": code} | ({} if display is None else {"display": display})


APPLICATION_SERVER = coding(_SOURCE_TYPE, "4", "Application Server")
SECURITY_ALERT = coding(_DCM, "110113", "Security Alert")
FROM = {"coding": [coding(_DCM, "110153")]}  # Source Role ID
TO = {"coding": [coding(_DCM, "110152")]}  # Destination Role ID
APPLICATION = {"coding": [coding(_DCM, "110150")]}  # Application
USER_TYPE = {"coding": [coding(_PARTICIPATION, "IRCP")]}  # information recipient
PERSON = coding(_ENTITY_TYPE, "1")  # Person
SYSTEM_OBJECT = coding(_ENTITY_TYPE, "2")  # System Object
OTHER = coding(_ENTITY_TYPE, "4")  # Other
REQUEST_ID = coding(_BALP_ENTITY_TYPE, "XrequestId")
PATIENT_ROLE = coding(_ENTITY_ROLE, "1")  # Patient
REPORT_ROLE = coding(_ENTITY_ROLE, "3")  # Report
RESOURCE_ROLE = coding(_ENTITY_ROLE, "4")  # Domain Resource
QUERY_ROLE = coding(_ENTITY_ROLE, "24")  # Query
_RESTFUL = coding(_REST, "rest", "Restful Operation")
SEARCH = EventKind(_RESTFUL, coding(_INTERACTION, "search", "search"), "E", "PatientQuery", True)
READ = EventKind(_RESTFUL, coding(_INTERACTION, "read", "read"), "R", "PatientRead")
_DICOM_QUERY = coding(_DCM, "110112", "Query")
QUERY = EventKind(_DICOM_QUERY, _DICOM_QUERY, "E", is_query=True)
_EXPORT = coding(_DCM, "110106", "Export")
RETRIEVAL = EventKind(_EXPORT, coding(_DCM, "110104", "DICOM Instances Transferred"), "R")
LOOK = EventKind(_EXPORT, coding(_DCM, "110103", "DICOM Instances Accessed"), "R")
