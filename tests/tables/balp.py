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
