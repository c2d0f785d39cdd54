"""The demo EHR's FHIR R4 server: reads of Patient, and its CapabilityStatement."""

from typing import Any

from aiohttp import web

from sidecar import RELEASED, __version__
from sidecar.demo.ehr.scopes import permits
from sidecar.demo.ehr.tokens import AccessToken, TokenStore
from sidecar.demo.people import MRN_SYSTEM, PATIENTS, DemoPatient
from sidecar.fhir.outcome import operation_outcome
from sidecar.tokens.bearer import MalformedCredentials, bearer_token
from sidecar.web.errors import json_response

OTHER_TYPES = (
    "AllergyIntolerance",
    "CarePlan",
    "CareTeam",
    "Condition",
    "Coverage",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Goal",
    "Immunization",
    "MedicationDispense",
    "MedicationRequest",
    "Observation",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
    "Specimen",
)
"""Types of a patient's record in US Core 7, of which this EHR has none."""


def patient_resource(patient: DemoPatient) -> dict[str, Any]:
    """Return a Patient (https://hl7.org/fhir/R4/patient.html).

    Its first medical record number is the official one.
    """
    return {
        "resourceType": "Patient",
        "id": patient.id,
        "active": True,
        "identifier": [
            {"use": "official" if number == 0 else "secondary", "system": MRN_SYSTEM, "value": mrn}
            for number, mrn in enumerate(patient.mrns)
        ],
        "name": [{"use": "official", "family": patient.family, "given": [patient.given]}],
        "gender": patient.gender,
        "birthDate": patient.birth_date,
    }


class FhirServer:
    """Handlers of ``<type>/<id>``, ``Patient?identifier=…``, ``<type>?patient=…`` and ``metadata``.

    ``smart`` is the smart-configuration.
    """

    def __init__(self, store: TokenStore, *, fhir_url: str, smart: dict[str, Any]) -> None:
        self._store = store
        self._fhir_url = fhir_url
        self._patients = {patient.id: patient for patient in PATIENTS}
        self._statement = _capability_statement(fhir_url, smart)

    async def metadata(self, request: web.Request) -> web.Response:
        """Answer ``GET /fhir/metadata``, which needs no token."""
        return json_response(self._statement)

    async def search(self, request: web.Request) -> web.Response:
        """Answer ``GET /fhir/Patient?identifier=system|value,…``, for the backend client alone."""
        token = self._token(request)
        if isinstance(token, web.Response):
            return token
        if token.authorization.patient is not None or "system/Patient.rs" not in token.scopes:
            return _uncovered()
        wanted = request.query.get("identifier", "").split(",")
        entries = [
            {"resource": patient_resource(patient), "search": {"mode": "match"}}
            for patient in self._patients.values()
            if any(f"{MRN_SYSTEM}|{mrn}" in wanted for mrn in patient.mrns)
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
        return json_response(bundle | ({"entry": entries} if entries else {}))

    async def read(self, request: web.Request) -> web.Response:
        """Answer ``GET /fhir/<type>/<id>``, which needs a token. There are patients alone."""
        token = self._token(request)
        if isinstance(token, web.Response):
            return token
        kind, patient = request.match_info["type"], token.authorization.patient
        if kind == "Patient":
            patient = request.match_info["id"]
        if not _permits(token, kind, "r", patient):
            return _uncovered()  # A patient who does not exist gets the same answer.
        if kind == "Patient" and patient in self._patients:
            return json_response(patient_resource(self._patients[patient]))
        return _refusal(404, "not-found", "There is no such resource.")

    async def search_others(self, request: web.Request) -> web.Response:
        """Answer ``GET /fhir/<type>?…`` with an empty Bundle, where the token covers the search."""
        token = self._token(request)
        if isinstance(token, web.Response):
            return token
        kind, patient = request.match_info["type"], token.authorization.patient
        asked = [*request.query.getall("patient", []), *request.query.getall("subject", [])]
        own = (patient, f"Patient/{patient}", f"{self._fhir_url}/Patient/{patient}")
        if patient is None or not set(asked) <= set(own) or not _permits(token, kind, "s", patient):
            return _uncovered()
        link = {"relation": "self", "url": f"{self._fhir_url}/{kind}?patient={patient}"}
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": 0, "link": [link]}
        return json_response(bundle)

    def _token(self, request: web.Request) -> AccessToken | web.Response:
        try:
            text = bearer_token(request.headers.getall("Authorization", []))
        except MalformedCredentials:
            return _refusal(
                401, "login", "The Authorization header must be one Bearer token.", "invalid_token"
            )
        if text is None:
            return _refusal(401, "login", "An access token is needed: Authorization: Bearer …", "")
        token = self._store.find(text)
        return token or _refusal(401, "login", "The access token is not active.", "invalid_token")


def _permits(token: AccessToken, kind: str, letter: str, patient: str | None) -> bool:
    token_patient = token.authorization.patient
    return permits(token.scopes, kind, letter, patient=patient, token_patient=token_patient)


def _refusal(status: int, code: str, text: str, error: str | None = None) -> web.Response:
    """Return an OperationOutcome.

    ``error`` is the error code of the challenge (RFC 6750). Empty: a challenge without a code.
    ``None``: no challenge.
    """
    headers = {}
    if error is not None:
        headers["WWW-Authenticate"] = 'Bearer realm="demo EHR"' + (
            f', error="{error}"' if error else ""
        )
    return json_response(operation_outcome(code, text), status=status, headers=headers)


def _uncovered() -> web.Response:
    text = "The access token does not cover this."
    return _refusal(403, "forbidden", text, "insufficient_scope")


def _capability_statement(fhir_url: str, smart: dict[str, Any]) -> dict[str, Any]:
    service = {
        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
        "code": "SMART-on-FHIR",
    }
    endpoints = [
        {"url": short, "valueUri": smart[name]}
        for short, name in (("authorize", "authorization_endpoint"), ("token", "token_endpoint"))
    ]
    oauth = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [
            *endpoints,
            {"url": "introspect", "valueUri": smart["introspection_endpoint"]},
        ],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": RELEASED,
        "kind": "instance",
        "software": {"name": "SMART Imaging Access sidecar, demo EHR", "version": __version__},
        "implementation": {"description": "Invented patients", "url": fhir_url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "extension": [oauth],
                    "cors": True,
                    "service": [{"coding": [service]}],
                },
                "resource": [
                    {
                        "type": "Patient",
                        "interaction": [{"code": "read"}, {"code": "search-type"}],
                        "searchParam": [{"name": "identifier", "type": "token"}],
                    },
                    *(_other(kind) for kind in OTHER_TYPES),
                ],
            }
        ],
    }


def _other(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": "patient", "type": "reference"}],
    }
