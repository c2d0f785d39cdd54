"""The settings that an expert alone turns (``limits``): sizes, counts, time limits, lifetimes."""

from typing import Annotated

from sidecar.settings.section import Section
from sidecar.settings.types import Seconds, SecondsFromZero, number


class LimitSettings(Section):
    """Bounds with defaults for a hospital's archive. Each says what happens beyond it."""

    client_connections: Annotated[int, number("connections", ge=10, le=100_000)] = 2_000
    """Maximum open client connections.

    Beyond: an idle one is closed for the new one; if none is idle, the new one gets 503.
    """
    retrievals: Annotated[int, number("retrievals", ge=1, le=10_000)] = 64
    """Maximum concurrent retrievals: half of them for one patient, a quarter for one app of one
    user.

    Beyond: further requests wait in a queue.
    """
    pacs_connections: Annotated[int, number("connections", ge=1, le=10_000)] = 100
    """Maximum connections to the PACS for retrievals; queries have 32 connections of their own.

    Beyond: further retrievals wait.
    """
    pacs_timeout_seconds: Seconds = 30
    """Seconds of silence of the PACS: a whole query, or each silence in a retrieval.

    Beyond: a query or a first byte is 504, a retrieval that has begun is broken off.
    """
    defer_after_seconds: Seconds | None = 30
    """Seconds that a client waits for a query, or for a retrieval's first byte.

    Beyond: it gets 503 with Retry-After, and the query or retrieval goes on in the background.
    null: it waits as long as pacs_timeout_seconds.
    """
    deferred_seconds: Seconds = 600
    """Seconds that a query, or a retrieval up to its first byte, may take in the background.

    Beyond: it is given up, and the repeated request gets 504.
    """
    query_results: Annotated[int, number("rows", ge=1, le=1_000_000)] = 20_000
    """Maximum rows of one query to the PACS.

    Beyond: 502; the result is never cut.
    """
    metadata_bytes: Annotated[int, number("bytes", ge=2**16, le=2**31)] = 16 * 2**20
    """Maximum bytes of the JSON of one instance in a metadata response.

    Beyond: 502, or the response is broken off.
    """
    ehr_timeout_seconds: Seconds = 5
    """Seconds that each request to the EHR may take.

    Beyond: 503.
    """
    external_timeout_seconds: Seconds = 2
    """Seconds that the external policy may take for its answer.

    Beyond: 503, and nothing is served.
    """
    audit_timeout_seconds: Seconds = 10
    """Seconds that each request to the audit repository may take.

    Beyond: its events are sent again later.
    """
    clock_skew_seconds: Annotated[float, number("seconds", ge=0, le=300)] = 30
    """Seconds by which our clock may differ from the authorization server's, and from those of
    replicas that share a PostgreSQL catalog.

    Beyond: signed tokens are refused as expired or as not yet valid, and syncs by _lastUpdated may
    miss studies.
    """
    cached_tokens: Annotated[int, number("tokens", ge=1, le=10_000_000)] = 50_000
    """Maximum tokens whose validation is remembered.

    Beyond: the longest unused one is forgotten, and validated anew.
    """
    patient_cache_seconds: Seconds = 300
    """Seconds that a patient's identifiers, and a Group's members, are remembered.

    Beyond: the EHR is asked again.
    """
    ownership_cache_seconds: Seconds = 300
    """Seconds that the patient of a study is remembered.

    Beyond: the PACS is asked again.
    """
    search_cache_seconds: SecondsFromZero = 15
    """Seconds that the list of a patient's studies is remembered.

    Beyond: the PACS is asked again. 0: it is asked each time.
    """
    external_cache_seconds: SecondsFromZero = 10
    """Seconds that an answer of the external policy is remembered.

    Beyond: the policy is asked again. 0: it is asked each time.
    """
    capability_lifetime_seconds: Seconds = 300
    """Seconds that a capability URL works, at most as long as its token.

    Beyond: 403, and the app searches again.
    """

    def __post_init__(self) -> None:
        if (self.defer_after_seconds or 0) > self.deferred_seconds:
            raise ValueError("defer_after_seconds is longer than deferred_seconds")
