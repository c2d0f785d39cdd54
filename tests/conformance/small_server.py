"""A second SMART Imaging Access server, as small as one that keeps the requirements can be, for
tests to break.
"""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from sidecar.conformance.resources import REQUIRES_ACCESS_TOKEN
from sidecar.fhir.capability_statement import APP_LAUNCH, BACKEND_SERVICES
from sidecar.fhir.imaging_study import DICOM_TERMINOLOGY
from tests.dicom_instances import dataset, encoded

TOKEN = "a-token.of-the~small+server/4711=="
PATIENT = "small-patient"
PATIENT_ID = "P-4711"
NAME = "Roe^Richard"
STUDIES = {"1.2.840.9.1": "CT", "1.2.840.9.2": "MR"}
OTHER_TOKEN, OTHER_PATIENT, OTHER_STUDY = "another-token~" * 2, "other-patient", "1.2.840.7.1"
BACKEND_TOKEN, EXPIRED_TOKEN = "a-token-of-a-service", "a-token-that-was-good"
PATIENTS = {TOKEN: PATIENT, OTHER_TOKEN: OTHER_PATIENT, BACKEND_TOKEN: PATIENT}
TOKENS: dict[str, Any] = {
    "patient": PATIENT,
    "other_token": OTHER_TOKEN,
    "other_patient": OTHER_PATIENT,
    "backend_token": BACKEND_TOKEN,
    "expired_token": EXPIRED_TOKEN,
}
"""All that the kit can be given beside a token."""
OWNED = {PATIENT: STUDIES, OTHER_PATIENT: {OTHER_STUDY: "CT"}}
_UPDATED, _STARTED = "2026-01-02T03:04:05.000Z", "2024-02-29T09:15:00Z"
_COUNT = 2

CONFIGURATION = {
    "capabilities": ["smart-imaging-access", APP_LAUNCH],
    "grant_types_supported": ["authorization_code"],
}
BOTH_MODES = {
    "capabilities": ["smart-imaging-access", APP_LAUNCH, BACKEND_SERVICES],
    "grant_types_supported": ["authorization_code", "client_credentials"],
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
    "scopes_supported": ["patient/ImagingStudy.rs", "system/ImagingStudy.rs"],
}

Change = Callable[[web.Request, web.Response], Awaitable[web.StreamResponse]]
"""What a broken server does with an answer that was right."""


async def sound(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Nothing is changed."""
    return response


def fhir(body: Any, status: int = 200) -> web.Response:
    """A FHIR resource."""
    return web.Response(
        body=json.dumps(body).encode(), status=status, content_type="application/fhir+json"
    )


def body_of(response: web.Response) -> Any:
    """The JSON of an answer."""
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def outcome(status: int, text: str = "No.") -> web.Response:
    """An error."""
    issue = [{"severity": "error", "code": "processing", "diagnostics": text}]
    return fhir({"resourceType": "OperationOutcome", "issue": issue}, status)


def instance(study: str, number: int, **attributes: object) -> bytes:
    """An instance as stored."""
    uids = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": f"{study}.1.{number}",
    }
    named = {"PatientID": PATIENT_ID, "PatientName": NAME, "Modality": STUDIES.get(study, "CT")}
    return encoded(dataset(**{**uids, **named, **attributes}))


def multipart(*instances: bytes) -> web.Response:
    """Instances, each a part."""
    parts = b"".join(
        b"--b\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in instances
    )
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    return web.Response(body=parts + b"--b--\r\n", headers=headers)


class SmallServer:
    """``change`` has every answer before it leaves; ``seen`` has the requests' methods, paths and
    Authorization.
    """

    has_backend_services = False

    def __init__(self, change: Change = sound) -> None:
        self._change = change
        self.seen: list[tuple[str, str, str | None]] = []

    def app(self) -> web.Application:
        """The application; its FHIR base is /fhir."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, request.headers.get("Authorization")))
        response = await self._respond(request)
        if "Origin" in request.headers:
            response.headers["Access-Control-Allow-Origin"] = "*"
        return await self._change(request, response)

    async def _respond(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if request.method == "OPTIONS":
            return web.Response(
                status=204, headers={"Access-Control-Allow-Headers": "Authorization"}
            )
        if path == "/fhir/.well-known/smart-configuration":
            return web.json_response(CONFIGURATION)
        if path == "/fhir/metadata":
            return fhir(_METADATA)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in PATIENTS:
            refused = outcome(401)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        if token == BACKEND_TOKEN and not self.has_backend_services:
            return outcome(403)
        patient = PATIENTS[token]
        if request.method not in ("GET", "HEAD") and path != "/fhir/ImagingStudy/_search":
            return outcome(405)
        if path.startswith("/dicom/studies"):
            path = path.removeprefix("/dicom/studies")
            return dicomweb(path, request.headers.get("Accept", ""), patient)
        return await _fhir(request, path, patient)


async def _fhir(request: web.Request, path: str, patient: str) -> web.Response:
    base = f"{request.url.origin()}/fhir"
    if "fhir" not in request.headers.get("Accept", ""):
        return outcome(406)
    if path in ("/fhir/ImagingStudy", "/fhir/ImagingStudy/_search"):
        parameters = {
            **request.query,
            **{name: str(value) for name, value in (await request.post()).items()},
        }
        return _tagged(request, search(base, parameters, patient))
    if path.removeprefix("/fhir/ImagingStudy/") in OWNED[patient]:
        return _tagged(request, fhir(study(path.removeprefix("/fhir/ImagingStudy/"))))
    return fhir(endpoint(base)) if path == "/fhir/Endpoint/e1" else outcome(404)


def _tagged(request: web.Request, response: web.Response) -> web.Response:
    if request.headers.get("If-None-Match") == 'W/"1"':
        return web.Response(status=304)
    response.headers["ETag"] = 'W/"1"'
    return response


def search(base: str, parameters: dict[str, str], patient: str) -> web.Response:
    """The answer to a search with a patient's token."""
    asked = parameters.get("patient") or parameters.get("subject") or patient
    if asked.removeprefix("Patient/") != patient:
        return outcome(403)
    all_of_them = [study(uid, patient) for uid in OWNED[patient]]
    found = [one for one in all_of_them if _matches(one, parameters)]
    begin, count = int(parameters.get("_page", 0)), int(parameters.get("_count", 10))
    links = [{"relation": "self", "url": f"{base}/ImagingStudy?patient={patient}"}]
    if begin + count < len(found):
        following = f"patient={patient}&_count={count}&_page={begin + count}"
        links.append({"relation": "next", "url": f"{base}/ImagingStudy?{following}"})
    entries = [entry(base, one, "match") for one in found[begin : begin + count]]
    entries += [entry(base, endpoint(base), "include")] if "_include" in parameters else []
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
    return fhir(bundle | ({"entry": entries} if entries else {}))


def _matches(one: dict[str, Any], parameters: dict[str, str]) -> bool:
    uid = parameters.get("identifier", "").rpartition("urn:oid:")[2]
    since, started = parameters.get("_lastUpdated", ""), parameters.get("started", "")
    moment = datetime.fromisoformat(_UPDATED)
    return (
        uid in ("", one["id"])
        and parameters.get("_id", one["id"]) == one["id"]
        and parameters.get("status", "available") == "available"
        and parameters.get("modality") in (None, one["modality"][0]["code"])
        and started in ("", _STARTED[:10])
        and (not since.startswith("gt") or moment > datetime.fromisoformat(since[2:]))
        and (not since.startswith("lt") or moment < datetime.fromisoformat(since[2:]))
    )


def entry(base: str, resource: dict[str, Any], mode: str) -> dict[str, Any]:
    """Of a Bundle."""
    url = f"{base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def study(uid: str, patient: str = PATIENT) -> dict[str, Any]:
    """An ImagingStudy."""
    modality = {"system": DICOM_TERMINOLOGY, "code": STUDIES.get(uid, "CT")}
    return {
        "resourceType": "ImagingStudy",
        "id": uid,
        "meta": {"lastUpdated": _UPDATED},
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "started": _STARTED,
        "subject": {"reference": f"Patient/{patient}"},
        "modality": [modality],
        "endpoint": [{"reference": "Endpoint/e1"}],
        "numberOfSeries": 1,
        "numberOfInstances": _COUNT,
        "series": [{"uid": f"{uid}.1", "modality": modality, "numberOfInstances": _COUNT}],
    }


def endpoint(base: str) -> dict[str, Any]:
    """The Endpoint."""
    system = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
    return {
        "resourceType": "Endpoint",
        "id": "e1",
        "status": "active",
        "extension": [{"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": True}],
        "connectionType": {"system": system, "code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "address": base.removesuffix("/fhir") + "/dicom",
    }


_RESOURCE = re.compile(
    r"/([0-9.]+)(?:/series/([0-9.]+))?(?:/instances/([0-9.]+))?(/metadata|/series|/instances)?"
)


def dicomweb(path: str, accept: str, patient: str) -> web.Response:
    """The answer to a retrieval or QIDO-RS with a patient's token; ``path`` is below /studies."""
    if path == "":
        return _rows([row(uid, 0) for uid in OWNED[patient]])
    match = _RESOURCE.fullmatch(path)
    uid, series, single, form = match.groups() if match else ("", None, None, None)
    numbers = [number for number in range(1, _COUNT + 1) if single in (None, f"{uid}.1.{number}")]
    if uid not in OWNED[patient] or series not in (None, f"{uid}.1") or not numbers:
        return outcome(404)
    if form is not None:
        return _rows(
            [row(uid, number) for number in (numbers[:1] if form == "/series" else numbers)]
        )
    if "application/dicom" not in accept:
        return outcome(406)
    found = [instance(uid, number) for number in numbers]
    if single and accept == "application/dicom":
        return web.Response(body=found[0], content_type="application/dicom")
    return multipart(*found)


def row(uid: str, number: int) -> dict[str, Any]:
    """A study (0) or an instance in DICOM JSON."""
    found = {"0020000D": uid, "00100020": PATIENT_ID}
    if number:
        found |= {"0020000E": f"{uid}.1", "00080018": f"{uid}.1.{number}"}
    return {tag: {"vr": "LO", "Value": [value]} for tag, value in found.items()}


def _rows(rows: list[dict[str, Any]]) -> web.Response:
    return web.Response(body=json.dumps(rows).encode(), content_type="application/dicom+json")


_NAMES = ("patient", "identifier", "_lastUpdated", "started", "modality", "status", "_id")
_METADATA = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "rest": [
        {
            "mode": "server",
            "resource": [
                {
                    "type": "ImagingStudy",
                    "interaction": [{"code": "read"}, {"code": "search-type"}],
                    "searchParam": [{"name": name} for name in _NAMES],
                }
            ],
        }
    ],
}
