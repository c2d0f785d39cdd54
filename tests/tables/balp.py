"""What IHE BALP's profiles of AuditEvent demand (https://profiles.ihe.net/ITI/BALP/, 1.1.x).

From the definitions of Query, PatientQuery, Read and PatientRead. Both slice ``agent`` and
``entity`` by ``type``, and both are open.
"""

from dataclasses import dataclass

DCM = "http://dicom.nema.org/resources/ontology/DCM"
REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
OWN = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
Code = tuple[str, str]


@dataclass(frozen=True)
class Slice:
    """The elements whose ``type`` is this: how many, and what each has and does not have.

    ``roles``: one of them is the ``role``; empty for any or none. ``fixed``: elements with their
    values. ``is_patient``: ``what`` may refer to a Patient alone.
    """

    type: Code
    least: int
    most: int
    has: tuple[str, ...] = ()
    has_not: tuple[str, ...] = ()
    roles: tuple[Code, ...] = ()
    fixed: tuple[tuple[str, object], ...] = ()
    is_patient: bool = False


@dataclass(frozen=True)
class Profile:
    """What a whole event has. ``subtypes``: one of them is among its subtypes."""

    subtypes: tuple[Code, ...]
    action: str
    agents: dict[str, Slice]
    entities: dict[str, Slice]
    least_entities: int
    type: Code = (REST, "rest")
    outcome: str = "0"


def _agents(client: str, server: str) -> dict[str, Slice]:
    return {
        "client": Slice((DCM, client), 1, 1, ("who", "network"), ("media",)),
        "server": Slice((DCM, server), 1, 1, ("who", "network"), ("media",)),
        "user": Slice(
            (PARTICIPATION, "IRCP"),
            0,
            1,
            ("who",),
            ("media", "network"),
            fixed=(("requestor", True),),
        ),
    }


_TRANSACTION = Slice((OWN, "XrequestId"), 0, 1, ("what",))
_PATIENT = Slice((ENTITY, "1"), 1, 1, ("what",), roles=((ROLE, "1"),), is_patient=True)
_QUERY = Slice(
    (ENTITY, "2"), 1, 1, ("query",), ("what", "lifecycle", "detail"), roles=((ROLE, "24"),)
)
_DATA = Slice((ENTITY, "2"), 1, 1, ("what",), roles=((ROLE, "3"), (ROLE, "4"), (ROLE, "20")))

PROFILES = {
    "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientQuery": Profile(
        tuple((INTERACTION, code) for code in ("search", "search-type", "search-system")),
        "E",
        _agents(client="110153", server="110152"),
        {"transaction": _TRANSACTION, "query": _QUERY, "patient": _PATIENT},
        2,
    ),
    "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead": Profile(
        tuple((INTERACTION, code) for code in ("read", "vread")),
        "R",
        _agents(client="110152", server="110153"),
        {"transaction": _TRANSACTION, "data": _DATA, "patient": _PATIENT},
        2,
    ),
}
"""Profile -> what it demands."""

BREACHES: dict[str, tuple[str, str, object]] = {
    "the server has no network": ("search", "agent.1.network", None),
    "the client has no network": ("read", "agent.0.network", None),
    "who the client is": ("search", "agent.0.who", None),
    "client and server are exchanged": ("read", "agent.0.type.coding.0.code", "110153"),
    "two clients": ("search", "agent.1.type.coding.0.code", "110153"),
    "the user has a network": ("read", "agent.2.network", {"address": "192.0.2.1"}),
    "the user did not ask": ("read", "agent.2.requestor", False),
    "the query has a detail": ("search", "entity.1.detail", [{"type": "a", "valueString": "b"}]),
    "the query is no query": ("search", "entity.1.role.code", "4"),
    "a second system object": ("search", "entity.0.type.code", "2"),
    "no query": ("search", "entity.1.query", None),
    "no data": ("read", "entity.1", None),
    "the data's role": ("read", "entity.1.role.code", "24"),
    "no patient": ("read", "entity.0", None),
    "the patient's role": ("search", "entity.0.role", None),
    "the patient is none": ("search", "entity.0.what.type", "Practitioner"),
    "action": ("search", "action", "R"),
    "a failure": ("search", "outcome", "4"),
    "type": ("read", "type.code", "110106"),
    "subtype": ("search", "subtype.0.code", "read"),
}
"""What the profiles do not allow: kind of event, element, value (``None``: it is missing)."""
