"""Where a page begins: the opaque, signed text in a ``next`` link (SIA-24.

Https://hl7.org/fhir/R4/http.html#paging).
"""

import base64
import binascii
import hashlib
import hmac
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
    """After the study with these sort keys (whole numbers, smallest first) and this UID.

    ``as_of``: when the first page was asked for, in milliseconds since 1970. All pages of a search
    say that as their ``meta.lastUpdated``: a study of an earlier page may have changed since.
    """

    keys: tuple[int, ...]
    uid: str
    as_of: int = 0


class PageLinks:
    """Seals cursors with ``key`` for one patient and one search: of another's, or edited, it is refused.

    Permission does not rest on it: each page is decided anew. It sees to it that a link means what
    it meant.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hashlib.blake2b(key, digest_size=6).hexdigest()
        """Tells links of one key from those of another; says nothing of the key."""

    def seal(self, cursor: Cursor, patient: str, parameters: Sequence[tuple[str, str]]) -> str:
        """Return the text for a search by ``parameters`` (without ``_after``) of ``patient`` (FHIR id)."""
        payload = orjson.dumps([list(cursor.keys), cursor.uid, cursor.as_of])
        return (
            base64.urlsafe_b64encode(self._mac(payload, patient, parameters) + payload)
            .decode()
            .rstrip("=")
        )

    def open(self, text: str, patient: str, parameters: Sequence[tuple[str, str]]) -> Cursor:
        """Return the cursor of a link that was sealed so. Raises ``BadRequest``."""
        try:
            data = base64.b64decode(
                (text + "=" * (-len(text) % 4)).encode("ascii"), b"-_", validate=True
            )
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
    keys, uid, as_of = orjson.loads(payload)
    is_time = type(as_of) is int and abs(as_of) < _MAXIMUM_TIME
    if not (is_time and is_uid(uid) and isinstance(keys, list) and 0 < len(keys) <= _MAXIMUM_KEYS):
        raise ValueError("no cursor")
    if not all(type(one) is int for one in keys):
        raise ValueError("no cursor")
    return Cursor(tuple(keys), uid, as_of)
