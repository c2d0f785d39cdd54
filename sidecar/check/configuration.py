"""Checks of the configuration by itself: the public URL, and capability URLs."""

from sidecar.check.outcome import CheckOutcome, ok, warning
from sidecar.settings.document import Settings


def public_url(settings: Settings) -> CheckOutcome:
    """Check ``server.public_url``, from which the links in answers are made."""
    url = settings.server.public_url
    if url.endswith(("/fhir", "/wado-rs")):  # No other mistake makes each link wrong.
        return warning(url, "/fhir and /wado-rs are added to it: leave them out here.")
    if "://localhost" in url or "://127." in url:
        return warning(url, "Apps elsewhere cannot follow links to it: set the URL that they use.")
    if url.startswith("http:"):
        return warning(url, "Tokens must travel encrypted: put TLS in front, and write https here.")
    return ok(f"{url} (not asked: it may lead through a proxy that is not there yet)")


def capabilities(settings: Settings) -> CheckOutcome:
    """Check the mode and the keys of capability URLs."""
    section = settings.capabilities
    if section.mode == "off":
        return ok("off: apps use the standing Endpoint with their token")
    if section.keys_file is not None and section.keys_file.stat().st_mode & 0o007:
        return warning(
            f"{section.keys_file} can be read by everybody",
            "It makes addresses: chmod 600, owned by the service's user.",
        )
    return ok(f"{section.mode}, good for {settings.limits.capability_lifetime_seconds:g} s")
