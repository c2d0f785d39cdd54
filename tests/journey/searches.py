"""Searches as an app sends them."""

from typing import Any

import requests

from tests.journey.world import World


def search(
    world: World, session: requests.Session, query: str, **keywords: Any
) -> requests.Response:
    return session.get(f"{world.sidecar.fhir}/ImagingStudy?{query}", timeout=60, **keywords)


def uids(bundle: dict[str, Any]) -> set[str]:
    resources = [entry["resource"] for entry in bundle.get("entry", [])]
    return {
        one["identifier"][0]["value"] for one in resources if one["resourceType"] == "ImagingStudy"
    }
