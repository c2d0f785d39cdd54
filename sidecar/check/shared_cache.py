"""Check of the token cache that processes share."""

from urllib.parse import urlsplit

from sidecar.bootstrap.shared_tokens import shared_token_cache
from sidecar.check.outcome import CheckOutcome, failure, ok, warning
from sidecar.settings.document import Settings

_HINTS = {
    "AuthenticationError": "Are tokens.cache.username and password_file right?",
    "NoPermissionError": "Needed: ~smart-imaging-sidecar:token:* +set +getrange +pttl +select",
    "OutOfMemoryError": "It is full: set its maxmemory-policy to volatile-ttl.",
    "ReadOnlyError": "It is a replica: name the primary.",
}
_LOCAL = ("localhost", "127.0.0.1", "::1")


async def shared_cache(settings: Settings) -> CheckOutcome:
    """Check that ``tokens.cache.url`` stores an entry and returns it."""
    cache, shared = settings.tokens.cache, shared_token_cache(settings)
    if cache.url is None or shared is None:
        return ok("none")
    try:
        await shared.probe()
    except Exception as error:  # The library raises not only exceptions of its own.
        reason = type(error).__name__
        return failure(
            f"{cache.url}: {reason}",
            _HINTS.get(reason, "Is it reachable from here? ca_file trusted?"),
        )
    finally:
        await shared.close()
    parts = urlsplit(cache.url)
    if parts.scheme == "redis" and parts.hostname not in _LOCAL and cache.server_password():
        return warning(cache.url, "The password travels in clear text: use rediss.")
    return ok(cache.url)
