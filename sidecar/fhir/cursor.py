"""Cursor of a page: the opaque, signed text in a ``next`` link.

SIA-24; https://hl7.org/fhir/R4/http.html#paging
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import orjson

from sidecar.common.errors import BadRequest
from sidecar.dicom.uid import is_uid

_MAC_BYTES = 16
_MAXIMUM_TIME = 2**43
"""Milliseconds since 1970: the year 2248."""
_MAXIMUM_KEYS = 4


@dataclass(frozen=True, slots=True)
class Cursor:
    """Place behind the study with these sort keys (whole numbers, smallest first) and this UID.

    ``as_of``: when the first page was requested, in milliseconds since 1970. It is the
    ``meta.lastUpdated`` of all pages: a study of an earlier page may have changed since.
    """

    keys: tuple[int, ...]
    uid: str
    as_of: int = 0


class PageLinks:
    """Sealer of cursors with ``key``, each for one patient and one search.

    A link that was edited or is of another search is refused. Permission does not rest on the seal:
    each page is decided anew.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hashlib.blake2b(key, digest_size=6).hexdigest()
        """Hash by which the links of two keys differ."""

    def seal(self, cursor: Cursor, patient: str, parameters: Sequence[tuple[str, str]]) -> str:
        """Return the sealed cursor of a search by ``parameters``, which lack ``_after``.

        ``patient``: FHIR id.
        """
        # The number of an id has 64 bytes, which orjson does not write.
        place = [list(cursor.keys), cursor.uid, cursor.as_of]
        payload = json.dumps(place, separators=(",", ":")).encode()
        sealed = self._mac(payload, patient, parameters) + payload
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, text: str, patient: str, parameters: Sequence[tuple[str, str]]) -> Cursor:
        """Return the cursor that was sealed for this patient and search. Raises ``BadRequest``."""
        try:
            padded = (text + "=" * (-len(text) % 4)).encode("ascii")
            data = base64.b64decode(padded, b"-_", validate=True)
            mac, payload = data[:_MAC_BYTES], data[_MAC_BYTES:]
            if hmac.compare_digest(mac, self._mac(payload, patient, parameters)):
                found = _read(payload)
                if self.seal(found, patient, parameters) == text:
                    return found
        except (ValueError, TypeError, binascii.Error):
            pass
        raise BadRequest(
            "The page link is damaged, or of another search; search anew.", reason="bad_cursor"
        )

    def _mac(self, payload: bytes, patient: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        context = orjson.dumps([patient, urlencode(parameters)])
        return hmac.new(self._key, context + b"\n" + payload, hashlib.sha256).digest()[:_MAC_BYTES]


def _read(payload: bytes) -> Cursor:
    keys, uid, as_of = json.loads(payload)
    is_time = type(as_of) is int and abs(as_of) < _MAXIMUM_TIME
    if not (is_time and is_uid(uid) and isinstance(keys, list) and 0 < len(keys) <= _MAXIMUM_KEYS):
        raise ValueError("no cursor")
    if not all(type(key) is int for key in keys):
        raise ValueError("no cursor")
    return Cursor(tuple(keys), uid, as_of)
