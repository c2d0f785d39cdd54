"""HTTP around an app's searches: validators, versions of FHIR, other origins."""

import requests
from fhir.resources.bundle import Bundle as R5Bundle

from tests.journey.searches import search, uids
from tests.journey.world import World


def test_a_client_that_has_the_answer_gets_none(world: World) -> None:
    """ETag and If-None-Match (R4 http.html#cread), on searches and reads."""
    session = world.session("robin")
    first = search(world, session, "patient=robin")
    tag = first.headers["ETag"]
    again = search(world, session, "patient=robin", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert search(world, session, "patient=robin&modality=CT").headers["ETag"] != tag
    study = f"{world.sidecar.fhir}/ImagingStudy/{first.json()['entry'][0]['resource']['id']}"
    tag = session.get(study, timeout=60).headers["ETag"]
    assert (
        session.get(study, headers={"If-None-Match": f'"x", {tag}'}, timeout=60).status_code == 304
    )
    assert session.get(study, headers={"If-None-Match": '"x"'}, timeout=60).status_code == 200


def test_r5_by_the_version_parameter(world: World) -> None:
    """R4 http.html#version-parameter: the same studies as R5 has them."""
    session = world.session("robin")
    asked = {"Accept": "application/fhir+json; fhirVersion=5.0"}
    response = search(world, session, "patient=robin&_include=ImagingStudy:endpoint", headers=asked)
    assert "fhirVersion=5.0" in response.headers["Content-Type"]
    R5Bundle.model_validate(response.json())
    assert uids(response.json()) == uids(search(world, session, "patient=robin").json())
    in_query = search(
        world, session, "patient=robin&_format=application/fhir%2Bjson;%20fhirVersion=5.0"
    )
    assert in_query.json()["entry"][0]["resource"]["modality"][0]["coding"]
    assert (
        search(
            world,
            session,
            "patient=robin",
            headers={"Accept": "application/fhir+json; fhirVersion=3.0"},
        ).status_code
        == 406
    )
    versions = requests.get(world.sidecar.fhir + "/$versions", timeout=60).json()
    assert versions == {"versions": ["4.0", "5.0"], "default": "4.0"}
    statement = requests.get(world.sidecar.fhir + "/metadata", headers=asked, timeout=60).json()
    assert statement["fhirVersion"] == "5.0.0"


def test_errors_reach_a_page_of_another_origin(world: World) -> None:
    """CORS on refusals, too: otherwise a browser app sees only "network error"."""
    origin = {"Origin": "https://app.example.com"}
    for path in ("/ImagingStudy", "/nowhere", "/Patient/peter/$wado-rs/studies/1.2.3"):
        response = requests.get(world.sidecar.fhir + path, headers=origin, timeout=60)
        assert response.status_code in (401, 404)
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "Access-Control-Allow-Credentials" not in response.headers
