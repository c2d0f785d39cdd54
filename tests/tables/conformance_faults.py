"""Faults of a server, and the checks that report each: title -> the level that is not kept."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from sidecar.conformance.levels import BASE, MAY, SHALL, SHOULD, WISH, RequirementLevel
from tests.conformance import small_server
from tests.conformance.looking import bundles, on, with_token
from tests.conformance.small_server import (
    BACKEND_TOKEN,
    BOTH_MODES,
    CONFIGURATION,
    EXPIRED_TOKEN,
    OTHER_PATIENT,
    OTHER_STUDY,
    OTHER_TOKEN,
    PATIENT,
    PATIENT_ID,
    STUDIES,
    TOKEN,
    Change,
    body_of,
    entry,
    fhir,
    instance,
    multipart,
    outcome,
    study,
)


def studies(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change each ImagingStudy of each Bundle."""
    return bundles(
        lambda bundle, _: [
            change(one["resource"])
            for one in bundle.get("entry", ())
            if one["resource"]["resourceType"] == "ImagingStudy"
        ]
    )


def retrievals(change: Callable[[web.Request, web.Response], web.Response]) -> Change:
    """Change what comes of the first study and its parts as multipart."""
    return on(
        lambda request: request.path.startswith("/dicom/studies/1.2.840.9.1"),
        lambda request, response: (
            change(request, response) if response.content_type == "multipart/related" else response
        ),
    )


def leak(bundle: dict[str, Any], request: web.Request) -> None:
    """A study of somebody else."""
    foreign = study("1.2.840.9.9") | {"subject": {"reference": "Patient/somebody-else"}}
    if "_include" in request.query:
        bundle["entry"].insert(0, entry("http://x", foreign, "match"))
        bundle["total"] += 1


def cut(request: web.Request, response: web.Response) -> web.Response:
    """Half a multipart that ends like a whole one."""
    assert isinstance(response.body, bytes)
    return web.Response(
        body=response.body[: len(response.body) // 2],
        headers={"Content-Type": response.headers["Content-Type"]},
    )


def without(name: str) -> Change:
    """No such header."""

    async def changed(request: web.Request, response: web.Response) -> web.StreamResponse:
        response.headers.popall(name, None)
        return response

    return changed


def without_origin(request: web.Request) -> bool:
    return "Origin" not in request.headers


def is_made_up_patient(request: web.Request) -> bool:
    return "check-" in request.query_string and request.query.get("patient", "").startswith(
        "check-"
    )


def text(status: int, body: str) -> Callable[[web.Request, web.Response], web.Response]:
    return lambda request, response: web.Response(
        text=body, status=status, content_type="text/html"
    )


def error(change: Callable[[web.Request, web.Response], web.Response]) -> Change:
    """Change the denials of whom is known: 403 and 404."""

    async def changed(request: web.Request, response: web.Response) -> web.StreamResponse:
        return change(request, response) if response.status in (403, 404) else response

    return changed


def local(bundle: dict[str, Any]) -> None:
    """An Endpoint that stands in the answer alone, and only where it is asked for."""
    for one in bundle.get("entry", ()):
        if one["resource"]["resourceType"] == "Endpoint":
            one["fullUrl"] = "urn:uuid:1"
        else:
            one["resource"]["endpoint"] = [{"reference": "urn:uuid:1"}]


def configured(**members: Any) -> Change:
    """Another smart-configuration."""
    return on(
        lambda request: "well-known" in request.path and without_origin(request),
        lambda request, response: web.json_response({**CONFIGURATION, **members}),
    )


def _both_modes(**members: Any) -> dict[str, Any]:
    return {**BOTH_MODES, **members}


def addressed(address: str) -> Change:
    """Another address in each Endpoint of a Bundle."""
    return bundles(
        lambda bundle, _: [
            one["resource"].update(address=address)
            for one in bundle.get("entry", ())
            if one["resource"]["resourceType"] == "Endpoint"
        ]
    )


def bearer(token: str) -> Callable[[web.Request], bool]:
    return lambda request: request.headers.get("Authorization") == f"Bearer {token}"


def held(token: str, path: str, answer: Callable[[], web.Response]) -> Change:
    """Another answer to a token's requests below a path."""
    return on(
        lambda request: bearer(token)(request) and request.path.startswith(path),
        lambda request, response: answer(),
    )


def a_bundle(patient: str = OTHER_PATIENT) -> web.Response:
    found = entry("http://x", study(OTHER_STUDY, patient), "match")
    return fhir({"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [found]})


CORS = {
    "CORS: pages in browsers may read both": WISH,
    "CORS: the preflight of a search": WISH,
    "CORS: pages may read searches and errors": WISH,
    "CORS: the preflight of a retrieval": WISH,
}
FAULTS: dict[str, tuple[Change, dict[str, RequirementLevel]]] = {
    "a foreign study": (bundles(leak), {"each study is the patient's": SHALL}),
    "a foreign patient is an empty Bundle": (
        on(
            lambda request: is_made_up_patient(request) and with_token(request),
            lambda request, response: fhir(
                {"resourceType": "Bundle", "type": "searchset", "total": 0}
            ),
        ),
        {"another patient's studies": SHALL},
    ),
    "the patient is ignored": (
        on(
            lambda request: is_made_up_patient(request) and with_token(request),
            lambda request, response: fhir(
                {
                    "resourceType": "Bundle",
                    "entry": [entry("http://x", study("1.2.840.9.1"), "match")],
                }
            ),
        ),
        {"another patient's studies": SHALL},
    ),
    "no CORS": (without("Access-Control-Allow-Origin"), CORS),
    "a 401 without WWW-Authenticate": (
        without("WWW-Authenticate"),
        {
            "FHIR without a token": BASE,
            "FHIR with a made-up token": BASE,
            "a token in the query": BASE,
            "images without a token, or with a made-up one": BASE,
        },
    ),
    "errors in HTML": (
        error(text(404, "<h1>Not found</h1>")),
        {
            "errors are OperationOutcomes": BASE,
            "another patient's studies": SHALL,
        },
    ),
    "errors that name the patient": (
        error(lambda request, response: outcome(response.status, f"Not of {PATIENT_ID}.")),
        {"no identifiers in errors": WISH},
    ),
    "errors that have the token": (
        error(lambda request, response: outcome(response.status, f"Not for {TOKEN}.")),
        {"the token in addresses and answers": WISH},
    ),
    "Cache-Control: public": (
        on(
            with_token,
            lambda request, response: (
                response.headers.update({"Cache-Control": "public"}) or response
            ),
        ),
        {"shared caches": WISH},
    ),
    "no total": (bundles(lambda bundle, _: bundle.pop("total")), {"the Bundle": WISH}),
    "a wrong total": (
        bundles(lambda bundle, _: bundle.update(total=7)),
        {"the Bundle": BASE, "search by an identifier that nobody has": BASE},
    ),
    "no mode": (
        bundles(lambda bundle, _: [one.pop("search") for one in bundle.get("entry", ())]),
        {"its entries": BASE},
    ),
    "pages without end": (
        bundles(
            lambda bundle, request: (
                "_count" in request.query
                and bundle.update(link=[{"relation": "next", "url": str(request.url)}])
            )
        ),
        {"pages": BASE},
    ),
    "no identifier": (
        studies(lambda identifier: identifier.pop("identifier")),
        {"what each ImagingStudy must have": SHALL, "read of an ImagingStudy": BASE},
    ),
    "a subject of another kind": (
        studies(lambda one: one.update(subject={"reference": "Device/1"})),
        {"what each ImagingStudy must have": SHALL, "read of an ImagingStudy": BASE},
    ),
    "a subject by its identifier alone": (
        studies(lambda one: one.update(subject={"identifier": {"value": "1"}})),
        {"what each ImagingStudy must have": WISH, "read of an ImagingStudy": BASE},
    ),
    "an address with a query": (
        addressed("http://127.0.0.1:9/dicom?key=1"),
        {"each Endpoint": WISH, "read of an Endpoint": BASE},
    ),
    "an address of nothing": (
        addressed("urn:oid:1.2"),
        {"each Endpoint": SHALL, "read of an Endpoint": BASE},
    ),
    "two identifiers": (
        studies(lambda one: one.update(identifier=one["identifier"] * 2)),
        {"what each ImagingStudy must have": SHALL},
    ),
    "series without modality": (
        studies(lambda series: series["series"][0].pop("modality")),
        {"what each ImagingStudy should have": BASE},
    ),
    "an Endpoint that is not there": (
        studies(lambda endpoint: endpoint.update(endpoint=[{"reference": "Endpoint/e2"}])),
        {"_include=ImagingStudy:endpoint": SHALL},
    ),
    "an Endpoint of one answer without _include": (
        bundles(lambda bundle, _: local(bundle)),
        {"Endpoints of one answer are on its pages": SHALL},
    ),
    "no mode of authorization": (
        configured(capabilities=["smart-imaging-access"]),
        {"capabilities in the smart-configuration": SHALL},
    ),
    "app-launch without its grant": (
        configured(grant_types_supported=["client_credentials"]),
        {"capabilities in the smart-configuration": SHALL},
    ),
    "backend-services without private_key_jwt": (
        configured(**_both_modes(token_endpoint_auth_methods_supported=["client_secret_basic"])),
        {"capabilities in the smart-configuration": SHALL},
    ),
    "backend-services without its scope": (
        configured(**_both_modes(scopes_supported=["patient/ImagingStudy.rs"])),
        {"capabilities in the smart-configuration": SHOULD},
    ),
    "a base that is named for nothing": (
        on(
            lambda request: "well-known" in request.path and without_origin(request),
            lambda request, response: web.json_response(
                {
                    "associated_endpoints": [
                        {"url": f"{request.url.origin()}/fhir", "capabilities": ["other"]}
                    ]
                }
            ),
        ),
        {"the EHR's smart-configuration leads here": SHALL},
    ),
    "an Endpoint without the extension": (
        bundles(
            lambda bundle, _: [
                one["resource"].pop("extension", None) for one in bundle.get("entry", ())
            ]
        ),
        {},
    ),
    "a truncated multipart": (
        retrievals(cut),
        {
            "a whole study": SHALL,
            "nothing is missing in it": SHALL,
            "a series": SHOULD,
            "an instance": SHOULD,
        },
    ),
    "an instance too few": (
        on(
            lambda request: request.path == "/dicom/studies/1.2.840.9.1",
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1)) if response.status == 200 else response
            ),
        ),
        {"nothing is missing in it": SHALL},
    ),
    "a foreign instance in an own study": (
        retrievals(
            lambda request, response: (
                multipart(
                    instance("1.2.840.9.1", 1),
                    instance("1.2.840.9.1", 2, PatientID="somebody-else"),
                )
                if "instances" not in request.path
                else response
            )
        ),
        {"the instances are of one patient": SHALL},
    ),
    "other bytes alone": (
        retrievals(
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1, Rows=2))
                if "instances" in request.path
                else response
            )
        ),
        {"an instance": SHALL},
    ),
    "any study for a made-up one": (
        on(
            lambda request: request.path.startswith("/dicom/studies/2.25.") and with_token(request),
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1)) if request.method == "GET" else response
            ),
        ),
        {"a made-up study, in every form": SHALL, "odd spellings of paths": WISH},
    ),
    "series in any study": (
        on(
            lambda request: request.path.startswith(
                "/dicom/studies/1.2.840.9.1/series/1.2.840.9.2"
            ),
            lambda request, response: multipart(instance("1.2.840.9.2", 1)),
        ),
        {"another study's series in this study": BASE},
    ),
    "QIDO-RS for everybody": (
        on(
            lambda request: request.path == "/dicom/studies" and request.method == "GET",
            lambda request, response: web.json_response(
                [small_server.row("1.2.840.9.9", 0)], content_type="application/dicom+json"
            ),
        ),
        {"QIDO-RS below the address": SHALL},
    ),
    "QIDO-RS for everybody who asks": (
        on(
            lambda request: "PatientID" in request.query,
            lambda request, response: web.json_response(
                [small_server.row("1.2.840.9.9", 0)], content_type="application/dicom+json"
            ),
        ),
        {"QIDO-RS below the address": SHALL},
    ),
    "_count is ignored": (
        on(
            lambda request: "_count" in request.query,
            lambda request, response: fhir(
                {
                    "resourceType": "Bundle",
                    "entry": [entry("http://x", study(uid), "match") for uid in STUDIES],
                }
            ),
        ),
        {"pages": BASE},
    ),
    "an Endpoint for everybody": (
        on(
            lambda request: request.path.startswith("/fhir/Endpoint/check-"),
            lambda request, response: fhir(small_server.endpoint("http://x/fhir")),
        ),
        {"a made-up ImagingStudy or Endpoint": BASE},
    ),
    "another patient's compartment": (
        on(
            lambda request: request.path.startswith("/fhir/Patient/check-"),
            lambda request, response: fhir(
                {
                    "resourceType": "Bundle",
                    "entry": [entry("http://x", study("1.2.840.9.1"), "match")],
                }
            ),
        ),
        {"another patient's studies": SHALL},
    ),
    "encoded slashes": (
        on(
            lambda request: "%2f" in request.raw_path.lower() and with_token(request),
            lambda request, response: multipart(instance("1.2.840.9.1", 1)),
        ),
        {"odd spellings of paths": WISH},
    ),
    "writes": (
        on(
            lambda request: request.method in ("POST", "DELETE") and "_search" not in request.path,
            lambda request, response: fhir({}, 201),
        ),
        {"writes to FHIR": SHALL, "writes to DICOMweb": SHALL},
    ),
    "an unknown id is a 200": (
        on(
            lambda request: (
                request.path.startswith("/fhir/ImagingStudy/2.25.")
                and request.method == "GET"
                and with_token(request)
                and "/.." not in request.path
            ),
            lambda request, response: fhir(study("1.2.840.9.1")),
        ),
        {"a made-up ImagingStudy or Endpoint": SHALL},
    ),
    "an ETag that is not heeded": (
        on(lambda request: "If-None-Match" in request.headers, lambda request, response: fhir({})),
        {"ETag and If-None-Match": WISH},
    ),
    "503 without a word": (
        on(
            lambda request: (
                "/metadata" in request.path and "instances" in request.path and with_token(request)
            ),
            lambda request, response: web.Response(status=503),
        ),
        {
            "503 while images are staged": MAY,
            "metadata of an instance": SHOULD,
            "a made-up study, in every form": WISH,
            "another study's series in this study": WISH,
        },
    ),
    "no smart-imaging-access": (
        on(
            lambda request: "well-known" in request.path and without_origin(request),
            lambda request, response: web.json_response({"capabilities": []}),
        ),
        {
            "the EHR's smart-configuration leads here": WISH,
        },
    ),
    "R5": (
        on(
            lambda request: "/fhir/metadata" in request.path,
            lambda request, response: (
                fhir(body_of(response) | {"fhirVersion": "5.0.0"})
                if without_origin(request)
                else response
            ),
        ),
        {"metadata, without a token": BASE},
    ),
    "filters that are ignored": (
        on(
            lambda request: "modality" in request.query or "started" in request.query,
            lambda request, response: fhir(
                {
                    "resourceType": "Bundle",
                    "entry": [entry("http://x", study(uid), "match") for uid in STUDIES],
                }
            ),
        ),
        {"search by modality": BASE, "search by started": BASE},
    ),
}


def _asks_for(patient: str) -> Change:
    return on(
        lambda request: with_token(request) and request.query.get("patient") == patient,
        lambda request, response: a_bundle(),
    )


def _images() -> web.Response:
    return multipart(instance("1.2.840.9.1", 1))


FURTHER_FAULTS: dict[str, tuple[Change, dict[str, RequirementLevel]]] = {
    "an expired token is good": (
        held(EXPIRED_TOKEN, "/fhir/ImagingStudy", a_bundle),
        {"an expired token": SHALL},
    ),
    "an expired token is good for images": (
        held(EXPIRED_TOKEN, "/dicom", _images),
        {"an expired token": SHALL},
    ),
    "an expired token is a 403": (
        held(EXPIRED_TOKEN, "/fhir", lambda: outcome(403)),
        {"an expired token": BASE},
    ),
    "another patient is searched": (
        _asks_for(OTHER_PATIENT),
        {"the other token's patient": SHALL},
    ),
    "another patient beside the own": (
        _asks_for(f"{PATIENT},{OTHER_PATIENT}"),
        {"the other token's patient": SHALL},
    ),
    "another patient's images": (
        held(TOKEN, f"/dicom/studies/{OTHER_STUDY}", _images),
        {"the other token's patient's images": SHALL},
    ),
    "another patient's metadata": (
        held(
            TOKEN,
            f"/dicom/studies/{OTHER_STUDY}/metadata",
            lambda: web.json_response([small_server.row(OTHER_STUDY, 1)]),
        ),
        {"the other token's patient's images": SHALL},
    ),
    "another patient's series in an own study": (
        held(TOKEN, f"/dicom/studies/1.2.840.9.1/series/{OTHER_STUDY}.1", _images),
        {"the other token's patient's images": SHALL},
    ),
    "another patient's ImagingStudy": (
        held(TOKEN, f"/fhir/ImagingStudy/{OTHER_STUDY}", a_bundle),
        {"the other token's patient's images": SHALL},
    ),
    "another patient's study is told from none": (
        held(TOKEN, f"/dicom/studies/{OTHER_STUDY}", lambda: outcome(403)),
        {"the other token's patient's images": WISH},
    ),
    "images for another patient's token": (
        held(OTHER_TOKEN, "/dicom/studies/1.2.840.9.1", _images),
        {"images with the other patient's token": SHALL},
    ),
    "system scopes without Backend Services": (
        on(
            lambda request: (
                bearer(BACKEND_TOKEN)(request) and request.query.get("patient") == PATIENT
            ),
            lambda request, response: a_bundle(PATIENT),
        ),
        {"system scopes that are not offered": SHALL},
    ),
    "a client for whom everybody is there": (
        on(
            lambda request: bearer(BACKEND_TOKEN)(request) and is_made_up_patient(request),
            lambda request, response: fhir({"resourceType": "Bundle"}),
        ),
        {"a Backend Services client": SHALL},
    ),
    "a client's images beyond its searches": (
        held(BACKEND_TOKEN, "/dicom", _images),
        {"a Backend Services client": SHALL},
    ),
}
"""The same with all further tokens."""
