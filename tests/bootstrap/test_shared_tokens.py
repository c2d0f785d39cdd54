"""The token cache that processes share is built where it is configured and its client is there."""

import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.bootstrap.shared_tokens import _scope, shared_token_cache
from tests.fakes.site import site_settings


def _settings(tmp_path: Path, **tokens: Any) -> Any:
    key = tmp_path / "key"
    key.write_text("k" * 64)
    cache = {"url": "rediss://cache.example.org", "key_file": str(key)}
    return site_settings(1, "http://127.0.0.1:1", {"tokens": {"cache": cache, **tokens}})


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    for name in [one for one in sys.modules if one.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("sidecar.tokens.redis_client", "sidecar.tokens.shared_cache"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match=r"^tokens.cache.url needs redis: pip install"):
        shared_token_cache(settings)


def test_nothing_is_shared_unless_it_is_configured() -> None:
    assert shared_token_cache(site_settings(1, "http://127.0.0.1:1")) is None


def test_the_scope_changes_with_what_an_answer_depends_on(tmp_path: Path) -> None:
    """And has no secret of the client in it, nor does it depend on where the cache is."""
    usual = _scope(_settings(tmp_path))
    assert _scope(_settings(tmp_path, cache={})) == usual
    client = {"method": "client_secret_basic", "client_id": "us", "client_secret": "a-secret"}
    changes: list[dict[str, Any]] = [
        {"client": client},
        {"audience": ["us"]},
        {"audience": ["us"], "validation": "jwt_then_introspection"},
        {"claims": {"patient": [{"claim": "launch_patient"}]}},
        {"introspection": {"url": "https://ehr.example.org/introspect"}},
        {"jwt": {"algorithms": ["RS256"]}},
    ]
    scopes = [_scope(_settings(tmp_path, **change)) for change in changes]
    assert len({usual, *scopes}) == len(changes) + 1
    assert b"secret" not in b"".join(scopes)
    for other in (
        site_settings(2, "http://127.0.0.1:1"),
        site_settings(1, "http://127.0.0.1:1", {"limits": {"clock_skew_seconds": 1}}),
    ):
        assert _scope(other) != usual
