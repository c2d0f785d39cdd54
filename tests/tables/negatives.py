"""How long it is cached that something is absent or refused."""

import inspect
from collections.abc import Callable
from typing import Any

from sidecar.common.circuit_breaker import Breaker
from sidecar.common.invalidation import NEGATIVE_SECONDS
from sidecar.ehr.discovery import Discovery
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.series_lists import NOT_SUPPORTED_SECONDS
from sidecar.pacs.study_owners import NO_LISTS_SECONDS
from sidecar.settings.limits import LimitSettings
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.jwks import REFRESH_SECONDS
from sidecar.tokens.shared_cache import OPEN_SECONDS
from sidecar.web.admin import Readiness


def default(made: Callable[..., Any], parameter: str) -> float:
    """What it is when nobody says otherwise, as the composition root does not."""
    return float(inspect.signature(made).parameters[parameter].default)


SECONDS = {
    "a token is not active": default(TokenCache, "negative_ttl_seconds"),
    "the EHR does not know the patient": NEGATIVE_SECONDS,
    "a Group does not exist": NEGATIVE_SECONDS,
    "a study is not there": default(Ownership, "absent_seconds"),
    "a number stands for people": NEGATIVE_SECONDS,
    "a list does not have": LimitSettings().search_cache_seconds,
    "the external policy refuses": LimitSettings().external_cache_seconds,
    "a slow retrieval or query failed": default(DeferredRequests, "keep_seconds"),
    "the archive cannot list": NOT_SUPPORTED_SECONDS,
    "the archive does not take lists": NO_LISTS_SECONDS,
    "a token's `kid`": REFRESH_SECONDS,
    "the EHR's smart-configuration": default(Discovery, "retry_seconds"),
    "introspection failed": default(Breaker, "open_seconds"),
    "the shared token cache failed": OPEN_SECONDS,
    "the EHR or the archive does not work": default(Readiness, "keep_seconds"),
}
"""How a line begins -> how long it is so."""
IN = {
    "TokenCache._answers": "a token is not active", "Jwks._keys": "a token's `kid`",
    "Discovery._configuration": "the EHR's smart-configuration", "Readiness._problems": "the EHR or the archive does not work",
    "EhrMapping._records": "the EHR does not know the patient",
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
    "Constraints._read", "MemoryStore._seen", "Ownership._series", "StudyLists._asked", "EhrMapping._refreshed",
    "StudyLists._arrived", "Studies._asked", "InstancePatients._own",
    "CountReport._reported", "QueryPages._rows", "QueryPages._starts",
    "_Counter.labels", "_Histogram.labels",
}  # fmt: skip
