"""Checks of the token cache that processes share; with a real server: tests/real."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.check.shared_cache import shared_cache
from sidecar.conformance.finding import State
from sidecar.tokens.shared_cache import SharedTokenCache
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import site_settings


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "key"
    key.write_text("k" * 64)
    return {"url": "redis://127.0.0.1:9", "key_file": str(key), "password": "a-secret-word"}


async def test_a_server_that_is_not_there(
    ehr: ScriptedEhr, pacs: Pacs, cache: dict[str, Any]
) -> None:
    tokens = {"cache": cache, "client": {"method": "none"}}
    finding = (await found(ehr, pacs, tokens=tokens))["tokens.cache.url"]
    assert (finding.state, finding.text) == (State.FAIL, "redis://127.0.0.1:9: ConnectionError")
    assert "secret" not in f"{finding}"
    assert "tokens.cache.url" not in await found(ehr, pacs)


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("redis://localhost:1", State.OK),
        ("redis://cache.example.org", State.WARN),
        ("rediss://cache.example.org", State.OK),
        ("unix:///run/redis", State.OK),
    ],
)
async def test_a_password_in_clear_text(
    monkeypatch: pytest.MonkeyPatch, cache: dict[str, Any], url: str, state: State
) -> None:
    async def probe(self: SharedTokenCache) -> None:
        """Find nothing wrong."""

    monkeypatch.setattr(SharedTokenCache, "probe", probe)
    settings = site_settings(1, "http://127.0.0.1:1", {"tokens": {"cache": cache | {"url": url}}})
    assert (await shared_cache(settings))[:2] == (state, url)


async def test_nothing_is_checked_without_it() -> None:
    settings = site_settings(1, "http://127.0.0.1:1")
    assert (await shared_cache(settings)).state is State.OK
