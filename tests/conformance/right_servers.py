"""Servers that keep all that the guide demands, and are made otherwise than ours."""

import json
import secrets
from typing import Any

from aiohttp import web

from sidecar.conformance.resources import REQUIRES_ACCESS_TOKEN
from tests.conformance import small_server
from tests.conformance.small_server import (
    BACKEND_TOKEN,
    BOTH_MODES,
    CONFIGURATION,
    OWNED,
    PATIENTS,
    SmallServer,
    body_of,
    dicomweb,
    fhir,
    outcome,
    search,
)

_DICOM = "multipart/related; type=application/dicom; transfer-syntax=*"
_PARAMETERS = ("patient", "identifier", "_lastUpdated")


class SeparateServer(SmallServer):
    """No more than the guide demands, beside an EHR with a base of its own.

    It has no configuration, reads, POST, HEAD, pages, QIDO-RS or CORS. It has new ids in each
    answer, contained Endpoints, and a study without one.
    """

    async def _respond(self, request: web.Request) -> web.Response:
        path, origin = request.path, str(request.url.origin())
        if path == "/ehr/.well-known/smart-configuration":
            named = {"url": f"{origin}/fhir/", "capabilities": CONFIGURATION["capabilities"]}
            return web.json_response({**CONFIGURATION, "associated_endpoints": [named]})
        if path == "/fhir/metadata":
            return fhir(_metadata())
        if path == "/fhir/.well-known/smart-configuration" or request.method != "GET":
            return web.Response(status=404 if request.method == "GET" else 405)
        patient = PATIENTS.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if patient is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="imaging"'})
        if BACKEND_TOKEN in request.headers["Authorization"]:
            return outcome(403)
        if path == "/fhir/ImagingStudy":
            return self._found(request, origin, patient)
        uid = path.removeprefix("/images/studies/")
        return dicomweb(f"/{uid}", _DICOM, patient) if uid in OWNED[patient] else outcome(404)

    def _found(self, request: web.Request, origin: str, patient: str) -> web.Response:
        if "patient" not in request.query:
            return outcome(400)
        known = {name: request.query[name] for name in _PARAMETERS if name in request.query}
        answer = search(f"{origin}/fhir", known, patient)
        if answer.status != 200:
            return answer
        bundle = body_of(answer)
        for entry in bundle.get("entry", ()):
            study = entry["resource"]
            uid, study["id"] = study["id"], secrets.token_hex(8)
            study["subject"] = {"reference": f"{origin}/ehr/Patient/{patient}"}
            endpoint = small_server.endpoint(f"{origin}/fhir") | {"address": f"{origin}/images"}
            del endpoint["extension"], study["endpoint"]
            if uid != "1.2.840.9.2":
                study["contained"] = [endpoint]
                study["endpoint"] = [{"reference": "#e1"}]
        return fhir(bundle)


def _metadata() -> dict[str, Any]:
    parameters = [{"name": name} for name in _PARAMETERS]
    resource = {"type": "ImagingStudy", "interaction": [{"code": "search-type"}]}
    rest = [{"mode": "server", "resource": [{**resource, "searchParam": parameters}]}]
    return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest}


class CapabilityServer(SmallServer):
    """Each study of each answer has an address of its own, bound to the token; all is slow.

    It has Backend Services, too.
    """

    has_backend_services = True

    def __init__(self) -> None:
        super().__init__()
        self.issued: dict[str, tuple[str, str]] = {}
        self._asked: set[str] = set()

    async def _respond(self, request: web.Request) -> web.Response:
        path = request.path
        if path == "/fhir/.well-known/smart-configuration":
            return web.json_response(BOTH_MODES)
        authorization = request.headers.get("Authorization", "")
        is_known = authorization.removeprefix("Bearer ") in PATIENTS
        if is_known and request.method == "GET" and request.path_qs not in self._asked:
            self._asked.add(request.path_qs)
            return web.Response(status=503, headers={"Retry-After": "1"})
        if is_known and path.startswith("/once/"):
            return self._retrieved(request, authorization)
        answer = await super()._respond(request)
        if path in ("/fhir/ImagingStudy", "/fhir/ImagingStudy/_search") and answer.status == 200:
            answer.headers.popall("ETag", None)
            answer.body = self._with_addresses(answer, request, authorization)
        return answer

    def _retrieved(self, request: web.Request, authorization: str) -> web.Response:
        name, _, rest = request.path.removeprefix("/once/").partition("/studies/")
        uid, issued_to = self.issued.get(name, ("", ""))
        if issued_to != authorization or rest.partition("/")[0] != uid or request.method != "GET":
            return outcome(403)
        patient = PATIENTS[authorization.removeprefix("Bearer ")]
        answer = dicomweb(f"/{rest}", request.headers.get("Accept", ""), patient)
        answer.headers.update({"Cache-Control": "private", "Referrer-Policy": "no-referrer"})
        return answer

    def _with_addresses(
        self, answer: web.Response, request: web.Request, authorization: str
    ) -> bytes:
        bundle = body_of(answer)
        entries = bundle.get("entry", [])
        studies = [one for one in entries if one["resource"]["resourceType"] == "ImagingStudy"]
        for entry in studies:
            name, urn = secrets.token_urlsafe(16), f"urn:uuid:{secrets.token_hex(16)}"
            self.issued[name] = entry["resource"]["id"], authorization
            endpoint = small_server.endpoint("") | {
                "address": f"{request.url.origin()}/once/{name}"
            }
            del endpoint["id"], endpoint["extension"]
            entry["resource"]["endpoint"] = [{"reference": urn}]
            included = {"fullUrl": urn, "resource": endpoint, "search": {"mode": "include"}}
            entries.append(included)
        if entries:
            bundle["entry"] = [*studies, *(one for one in entries if "urn:" in one["fullUrl"])]
        return json.dumps(bundle).encode()


class BearerServer(CapabilityServer):
    """As the texts of August had it: whoever has a study's address has the study."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens_for_images: list[str] = []

    async def _respond(self, request: web.Request) -> web.Response:
        if request.path.startswith("/once/") and request.method != "OPTIONS":
            self.tokens_for_images += request.headers.getall("Authorization", [])
            name = request.path.removeprefix("/once/").partition("/")[0]
            return self._retrieved(request, self.issued.get(name, ("", ""))[1])
        return await super()._respond(request)

    def _with_addresses(
        self, answer: web.Response, request: web.Request, authorization: str
    ) -> bytes:
        bundle = json.loads(super()._with_addresses(answer, request, authorization))
        for entry in bundle.get("entry", ()):
            if entry["resource"]["resourceType"] == "Endpoint":
                flag = {"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": False}
                entry["resource"]["extension"] = [flag]
        return json.dumps(bundle).encode()
