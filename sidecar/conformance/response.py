"""HTTP answers: what they are, and what a check makes of them."""

import json
from dataclasses import dataclass
from email.message import Message
from typing import Any

from multidict import CIMultiDictProxy

from sidecar.conformance.levels import NotTested, Violated

FHIR_JSON = "application/fhir+json"
_NO_TYPE = "no content type"
_SHOWN = {
    _NO_TYPE,
    FHIR_JSON,
    "application/dicom",
    "application/dicom+json",
    "application/fhir+xml",
    "application/json",
    "application/octet-stream",
    "application/problem+json",
    "application/xml",
    "image/gif",
    "image/jpeg",
    "image/png",
    "multipart/related",
    "text/html",
    "text/plain",
    "text/xml",
}
"""Media types that a report shows. A server may write the token, or a patient, into another."""


@dataclass(frozen=True, slots=True)
class Response:
    """HTTP answer. ``body`` is as far as it was read; ``stopped`` says why not to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    stopped: str | None = None

    @property
    def media_type(self) -> str:
        """The media type of Content-Type in lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() or _NO_TYPE

    def parameter(self, name: str) -> str | None:
        """Return a parameter of Content-Type; ``None`` if it is missing or stands twice."""
        message = Message()
        message["Content-Type"] = self.headers.get("Content-Type", "")
        values = [value for key, value in message.get_params([]) if key.lower() == name]
        return values[0] if len(values) == 1 and isinstance(values[0], str) else None

    def __str__(self) -> str:
        shown = self.media_type if self.media_type in _SHOWN else "another media type"
        return f"{self.status}, {shown}, {len(self.body)} bytes"

    def expect(self, *media_types: str) -> None:
        """Raise ``Violated`` unless this is a 200, of one of ``media_types`` if any are given."""
        if self.status != 200 or (media_types and self.media_type not in media_types):
            raise Violated(str(self))

    def raise_if_not_offered(self, *statuses: int) -> None:
        """Raise ``NotTested`` for a status by which servers refuse what they do not offer."""
        if self.status in (statuses or (403, 404, 405, 406, 415, 501)):
            raise NotTested(f"it is not offered ({self.status})")

    def json(self) -> Any:
        """Return the body as JSON. Raises ``Violated``."""
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Violated(f"no JSON: {self}") from None

    def resource(self, resource_type: str) -> dict[str, Any]:
        """Return the FHIR resource of a 200. Raises ``Violated``."""
        self.expect()
        resource = self.json()
        if not isinstance(resource, dict) or resource.get("resourceType") != resource_type:
            raise Violated(f"no {resource_type}: {self}")
        return resource
