"""How long it is remembered that something is absent or refused: a line for each in docs/limits.md."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidecar.common.circuit_breaker import Breaker
from sidecar.common.invalidation import FRESH_SECONDS, NEGATIVE_SECONDS
from sidecar.ehr.discovery import Discovery
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.study_lists import NOT_SUPPORTED_SECONDS
from sidecar.pacs.study_owners import NO_LISTS_SECONDS
from sidecar.settings.document import Settings
from sidecar.tokens.jwks import REFRESH_SECONDS
from sidecar.web.admin import Readiness
from tests.test_invalidation import ELSEWHERE, FORGOTTEN, NOT_FORGOTTEN

TEXT = (Path(__file__).parent.parent / "docs/limits.md").read_text()


def default(made: Callable[..., Any], parameter: str) -> float:
    """What it is when nobody says otherwise, as the composition root does not."""
    return float(inspect.signature(made).parameters[parameter].default)


SETTINGS = Settings.model_validate(
    {
        "server": {"public_url": "https://us.example.org"}, "ehr": {"fhir_url": "https://ehr.example.org/fhir"},
        "tokens": {"client": {"method": "none"}}, "pacs": {"url": "https://pacs.example.org"},
    }
)  # fmt: skip
SECONDS = {
    "a token is not active": SETTINGS.tokens.cache.negative_ttl_seconds,
    "the EHR does not know the patient": NEGATIVE_SECONDS,
    "a Group does not exist": NEGATIVE_SECONDS,
    "a study is not there": default(Ownership, "absent_seconds"),
    "a number stands for people": NEGATIVE_SECONDS,
    "a list does not have": SETTINGS.fhir.search_cache_seconds,
    "the external policy refuses": SETTINGS.access.external.cache_seconds,
    "a slow retrieval or query failed": default(DeferredRequests, "keep_seconds"),
    "the archive cannot list": NOT_SUPPORTED_SECONDS,
    "the archive does not take lists": NO_LISTS_SECONDS,
    "a token's `kid`": REFRESH_SECONDS,
    "the EHR's smart-configuration": default(Discovery, "retry_seconds"),
    "introspection failed": default(Breaker, "open_seconds"),
    "the EHR or the archive does not work": default(Readiness, "keep_seconds"),
}
"""How a line begins -> how long it is so."""

IN = {
    "TokenCache._answers": "a token is not active", "Jwks._keys": "a token's `kid`",
    "Discovery._configuration": "the EHR's smart-configuration", "Readiness._problems": "the EHR or the archive does not work",
    "EhrMapping._known": "the EHR does not know the patient",
    "Groups._members": "a Group does not exist", "Ownership._owners": "a study is not there",
    "Ownership._absent": "a study is not there", "Issuers._unique": "a number stands for people",
    "StudyLists._listings": "a list does not have", "StudyLists._joined": "a list does not have",
    "Studies._listings": "a list does not have", "VisibleStudiesLookup._lists": "a list does not have",
    "ExternalPolicy._verdicts": "the external policy refuses",
    "PacsClient._deferred": "a slow retrieval or query failed",
    "RetrieveClient._deferred": "a slow retrieval or query failed",
    "InstancePatients._refused": "a study is not there",
}  # fmt: skip
"""What keeps that something is absent or refused -> the line about it."""
NO_NEGATIVES = {
    "BackendServices._tokens", "Ownership._indexed",
    "AuditTrail._inactive",
    "Constraints._read", "MemoryStore._seen", "Ownership._series", "StudyLists._asked",
    "StudyLists._arrived", "Studies._asked", "InstancePatients._own",
    "Invalidation._forgotten", "CountReport._reported", "QueryPages._rows", "QueryPages._starts",
}  # fmt: skip


def test_each_line_says_how_long_it_is() -> None:
    section = TEXT.partition("### What is remembered to be absent or refused")[2].partition(
        "\n## "
    )[0]
    lines = re.findall(r"^\| ([^|]+) \| (\d+)(?:, `([a-z_.]+)`)? \|(.*)\|$", section, re.MULTILINE)
    written = {what: float(seconds) for what, seconds, _, _ in lines}
    assert len(written) == len(SECONDS)
    for begins, seconds in SECONDS.items():
        assert [said for what, said in written.items() if what.startswith(begins)] == [seconds], (
            begins
        )
    for what, seconds, key, sooner in lines:
        if key:
            value: Any = SETTINGS
            for name in key.split("."):
                value = getattr(value, name)
            assert float(value) == float(seconds), what
        assert ("no-cache" not in sooner) or f"once in {FRESH_SECONDS:g} s" in sooner, what


def test_a_cache_that_keeps_a_refusal_has_a_line() -> None:
    """Whoever adds a cache says here which line it is, or that it keeps none."""
    kept = ELSEWHERE.union(NOT_FORGOTTEN, *FORGOTTEN.values())
    assert IN.keys() | NO_NEGATIVES == {name for name in kept if not name.endswith("_flight")}
    assert not IN.keys() & NO_NEGATIVES
    assert set(IN.values()) <= SECONDS.keys()
