"""Capability URLs with a key file."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.fakes.ehr import TOKEN

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def bound(keys_file: Path, **changes: Any) -> dict[str, Any]:
    """The section of the configuration."""
    return {"mode": "token_bound", "keys_file": str(keys_file), **changes}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """One key."""
    file = tmp_path / "keys"
    file.write_text(f"# a key\none {'1' * 64}\n")
    return file


async def endpoint_of(
    us: aiohttp.ClientSession, url: str, query: str = "", headers: dict[str, str] = HEADERS
) -> dict[str, Any]:
    """The study's own Endpoint, an entry of the same Bundle (SIA-33); its address is on this test's
    own port.
    """
    async with us.get(f"{url}/fhir/ImagingStudy{query}", headers=headers) as found:
        bundle = await found.json()
        assert found.status == 200, bundle
        assert found.headers["Cache-Control"] == "private, no-store"
    Bundle.model_validate(bundle)
    study, entry = bundle["entry"]
    assert "contained" not in study["resource"]
    assert entry["fullUrl"].startswith("urn:uuid:")
    assert study["resource"]["endpoint"] == [{"reference": entry["fullUrl"]}]
    assert entry["search"] == {"mode": "include"}
    endpoint = entry["resource"]
    assert endpoint["id"] == entry["fullUrl"].removeprefix("urn:uuid:")
    endpoint["address"] = endpoint["address"].replace("http://sidecar.example.org", url)
    return dict(endpoint)
