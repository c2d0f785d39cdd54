"""Faults of a server, and the checks that report each: title -> requirement's number."""

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from sidecar.fhir.endpoint import REQUIRES_ACCESS_TOKEN
from tests.conformance import small_server
from tests.conformance.looking import bundles, on, with_token
from tests.conformance.small_server import (
    CONFIGURATION,
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


def endpoints(value: object) -> Change:
    """Give each Endpoint the extension of an earlier text."""
    extension = {"url": REQUIRES_ACCESS_TOKEN[0], "valueBoolean": value}
    return bundles(
        lambda bundle, _: [
            one["resource"].update(extension=[extension])
            for one in bundle.get("entry", ())
            if one["resource"]["resourceType"] == "Endpoint"
        ]
    )


def configurations(change: Callable[[dict[str, list[str]]], None]) -> Change:
    """Change the smart-configuration."""

    def changed(request: web.Request, response: web.Response) -> web.Response:
        found = body_of(response)
        change(found)
        response.body = json.dumps(found).encode()
        return response

    return on(lambda request: "well-known" in request.path, changed)


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


CORS = {
    "CORS: pages in browsers may read both": 3,
    "CORS: the preflight of a search": 20,
    "CORS: pages may read searches and errors": 20,
    "CORS: the preflight of a retrieval": 40,
}
FAULTS: dict[str, tuple[Change, dict[str, int]]] = {
    "a foreign study": (bundles(leak), {"each study is the patient's": 12}),
    "a foreign patient is an empty Bundle": (
        on(
            lambda request: is_made_up_patient(request) and with_token(request),
            lambda request, response: fhir(
                {"resourceType": "Bundle", "type": "searchset", "total": 0}
            ),
        ),
        {"another patient's studies": 22},
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
        {"another patient's studies": 22},
    ),
    "no CORS": (without("Access-Control-Allow-Origin"), CORS),
    "a 401 without WWW-Authenticate": (
        without("WWW-Authenticate"),
        {
            "FHIR without a token": 10,
            "FHIR with a made-up token": 10,
            "a token in the query": 10,
            "images without a token, or with a made-up one": 39,
        },
    ),
    "errors in HTML": (
        error(text(404, "<h1>Not found</h1>")),
        {
            "errors are OperationOutcomes": 20,
            "another patient's studies": 22,
            "another patient's beside the own": 22,
        },
    ),
    "errors that name the patient": (
        error(lambda request, response: outcome(response.status, f"Not of {PATIENT_ID}.")),
        {"no identifiers in errors": 45},
    ),
    "errors that have the token": (
        error(lambda request, response: outcome(response.status, f"Not for {TOKEN}.")),
        {"the token in addresses and answers": 54},
    ),
    "Cache-Control: public": (
        on(
            with_token,
            lambda request, response: (
                response.headers.update({"Cache-Control": "public"}) or response
            ),
        ),
        {"shared caches": 54},
    ),
    "no total": (bundles(lambda bundle, _: bundle.pop("total")), {"the Bundle": 24}),
    "a wrong total": (
        bundles(lambda bundle, _: bundle.update(total=7)),
        {"the Bundle": 24, "search by an identifier that nobody has": 20},
    ),
    "no mode": (
        bundles(lambda bundle, _: [one.pop("search") for one in bundle.get("entry", ())]),
        {"its entries": 24},
    ),
    "pages without end": (
        bundles(
            lambda bundle, request: (
                "_count" in request.query
                and bundle.update(link=[{"relation": "next", "url": str(request.url)}])
            )
        ),
        {"pages": 24},
    ),
    "no identifier": (
        studies(lambda identifier: identifier.pop("identifier")),
        {"what each ImagingStudy must have": 30, "read of an ImagingStudy": 30},
    ),
    "two identifiers": (
        studies(lambda one: one.update(identifier=one["identifier"] * 2)),
        {"what each ImagingStudy must have": 30},
    ),
    "series without modality": (
        studies(lambda series: series["series"][0].pop("modality")),
        {"what each ImagingStudy should have": 30},
    ),
    "an Endpoint that is not there": (
        studies(lambda endpoint: endpoint.update(endpoint=[{"reference": "Endpoint/e2"}])),
        {"each Endpoint": 31, "_include=ImagingStudy:endpoint": 20},
    ),
    **{
        f"{value} in the extension of an earlier text": (endpoints(value), {"each Endpoint": 31})
        for value in (False, "true", None)
    },
    "a response-local Endpoint that is elsewhere": (
        studies(lambda one: one.update(endpoint=[{"reference": "urn:uuid:1"}])),
        {
            "Endpoints of one answer alone": 33,
            "each Endpoint": 31,
            "_include=ImagingStudy:endpoint": 20,
        },
    ),
    **{
        f"{member} without {value}": (
            configurations(
                lambda found, member=member, value=value: found[member].remove(value)  # type: ignore[misc]
            ),
            {"capabilities in the smart-configuration": 2},
        )
        for member, values in CONFIGURATION.items()
        if member != "capabilities"
        for value in values
    },
    "a truncated multipart": (
        retrievals(cut),
        {"a whole study": 40, "nothing is missing in it": 43, "a series": 41, "an instance": 40},
    ),
    "an instance too few": (
        on(
            lambda request: request.path == "/dicom/studies/1.2.840.9.1",
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1)) if response.status == 200 else response
            ),
        ),
        {"nothing is missing in it": 43, "a series": 41, "metadata of a study": 41},
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
        {"the instances are of one patient": 42},
    ),
    "other bytes alone": (
        retrievals(
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1, Rows=2))
                if "instances" in request.path
                else response
            )
        ),
        {"an instance": 40},
    ),
    "any study for a made-up one": (
        on(
            lambda request: request.path.startswith("/dicom/studies/2.25.") and with_token(request),
            lambda request, response: (
                multipart(instance("1.2.840.9.1", 1)) if request.method == "GET" else response
            ),
        ),
        {"a made-up study, in every form": 42, "odd spellings of paths": 42},
    ),
    "series in any study": (
        on(
            lambda request: request.path.startswith(
                "/dicom/studies/1.2.840.9.1/series/1.2.840.9.2"
            ),
            lambda request, response: multipart(instance("1.2.840.9.2", 1)),
        ),
        {"another study's series in this study": 42},
    ),
    "QIDO-RS for everybody": (
        on(
            lambda request: request.path == "/dicom/studies" and request.method == "GET",
            lambda request, response: web.json_response(
                [small_server.row("1.2.840.9.9", 0)], content_type="application/dicom+json"
            ),
        ),
        {"QIDO-RS below the address": 42},
    ),
    "QIDO-RS for everybody who asks": (
        on(
            lambda request: "PatientID" in request.query,
            lambda request, response: web.json_response(
                [small_server.row("1.2.840.9.9", 0)], content_type="application/dicom+json"
            ),
        ),
        {"QIDO-RS below the address": 42},
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
        {"pages": 24},
    ),
    "an Endpoint for everybody": (
        on(
            lambda request: request.path.startswith("/fhir/Endpoint/check-"),
            lambda request, response: fhir(small_server.endpoint("http://x/fhir")),
        ),
        {"a made-up ImagingStudy or Endpoint": 45},
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
        {"another patient's studies": 22},
    ),
    "encoded slashes": (
        on(
            lambda request: "%2f" in request.raw_path.lower() and with_token(request),
            lambda request, response: multipart(instance("1.2.840.9.1", 1)),
        ),
        {"odd spellings of paths": 42},
    ),
    "writes": (
        on(
            lambda request: request.method in ("POST", "DELETE") and "_search" not in request.path,
            lambda request, response: fhir({}, 201),
        ),
        {"writes to FHIR": 11, "writes to DICOMweb": 11},
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
        {"a made-up ImagingStudy or Endpoint": 45},
    ),
    "an ETag that is not heeded": (
        on(lambda request: "If-None-Match" in request.headers, lambda request, response: fhir({})),
        {"ETag and If-None-Match": 25},
    ),
    "503 without a word": (
        on(
            lambda request: (
                "/metadata" in request.path and "instances" in request.path and with_token(request)
            ),
            lambda request, response: web.Response(status=503),
        ),
        {
            "503 while images are staged": 44,
            "metadata of an instance": 41,
            "a made-up study, in every form": 42,
            "another study's series in this study": 42,
        },
    ),
    "no smart-imaging-access": (
        on(
            lambda request: "well-known" in request.path and without_origin(request),
            lambda request, response: web.json_response({"capabilities": []}),
        ),
        {
            "capabilities in the smart-configuration": 2,
            "the EHR's smart-configuration leads here": 1,
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
        {"metadata, without a token": 3},
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
        {"search by modality": 20, "search by started": 21},
    ),
}
