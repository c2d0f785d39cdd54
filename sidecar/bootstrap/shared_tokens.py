"""Build the token cache that processes share."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.settings.document import Settings
from sidecar.tokens.shared_answers import AnswerSeal

if TYPE_CHECKING:
    from sidecar.tokens.shared_cache import SharedTokenCache


def shared_token_cache(
    settings: Settings, observe: Callable[[str], None] = lambda outcome: None
) -> "SharedTokenCache | None":
    """Return the cache at ``tokens.cache.url``, ``None`` without one.

    Raises ``ValueError`` when its client is not installed.
    """
    cache = settings.tokens.cache
    if cache.url is None:
        return None
    try:
        from sidecar.tokens import redis_client  # noqa: PLC0415 - an extra
        from sidecar.tokens.shared_cache import SharedTokenCache  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "tokens.cache.url needs redis: pip install '.[redis]' in the project's folder"
        ) from None
    server = redis_client.RedisServer(
        cache.url, cache.ca_file, cache.username, cache.server_password()
    )
    client = redis_client.RedisClient(server, seconds=redis_client.SECONDS)
    seal = AnswerSeal(cache.sealing_key(), _scope(settings))
    return SharedTokenCache(client, seal, observe=observe)


def _scope(settings: Settings) -> bytes:
    """Return what an answer depends on beside its token: our version, and the configuration.

    So a sidecar that reads tokens otherwise, of another version or in the middle of a change of
    the configuration, shares nothing with the others.
    """
    tokens = settings.tokens
    parts = {
        "version": __version__,
        "fhir_url": settings.ehr.fhir_url,
        "issuer": settings.ehr.issuer,
        "clock_skew_seconds": settings.limits.clock_skew_seconds,
        "client_id": getattr(tokens.client, "client_id", None),
        "validation": tokens.validation,
        "audience": tokens.audience,
        "claims": asdict(tokens.claims),
        "introspection": asdict(tokens.introspection),
        "jwt": asdict(tokens.jwt),
    }
    return json.dumps(parts, sort_keys=True).encode()
