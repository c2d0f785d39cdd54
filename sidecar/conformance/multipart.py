"""Parser of multipart/related answers, and of the instances in them (RFC 2046 5.1; PS3.18 8.6)."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import pydicom

from sidecar.conformance.levels import Violated
from sidecar.conformance.response import Response

_KEYWORDS = ["PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


class Truncated(Violated):
    """The answer ends like a whole one, and is not whole (SIA-43)."""


@dataclass(frozen=True, slots=True)
class MultipartPart:
    """Part of a multipart: its media type without parameters, and its bytes."""

    media_type: str
    content: bytes


def parts_of(answer: Response, media_type: str) -> list[MultipartPart]:
    """Return the whole parts of a 200, each of ``media_type``.

    Raises ``Violated``; ``Truncated`` when the closing delimiter is missing.
    """
    answer.expect("multipart/related")
    boundary = answer.parameter("boundary")
    if not boundary:
        raise Violated("multipart/related without boundary")
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary.encode())[1:]
    parts: list[MultipartPart] = []
    for number, piece in enumerate(pieces):
        if piece.startswith(b"--"):
            break
        # No delimiter follows the last piece: it is not whole.
        if number < len(pieces) - 1:
            parts.append(_part(piece))
    else:
        if answer.stopped is None:
            raise Truncated(
                f"200, but the multipart has no end: {len(parts)} whole parts, then it stops"
            )
    if any(part.media_type != media_type for part in parts):
        raise Violated("a part of another media type than the multipart says or was asked for")
    if not parts and answer.stopped is None:
        raise Violated("a multipart without parts")
    return parts


def _part(piece: bytes) -> MultipartPart:
    head, separator, content = piece.partition(b"\r\n\r\n")
    if not separator:
        raise Violated("a part without an empty line behind its headers")
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length")
    if length is not None and length != str(len(content)):
        raise Truncated("a part that is not as long as its Content-Length says")
    return MultipartPart(headers.get("content-type", "").partition(";")[0].strip().lower(), content)


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifiers in an instance, and the SHA-256 of its bytes."""

    patient_id: str
    name: str
    study: str
    series: str
    uid: str
    digest: bytes


def identity_of(content: bytes) -> Identity:
    """Return the identifiers in an instance's bytes. Raises ``Violated`` for other bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Other attributes may be odd.
            dataset = pydicom.dcmread(
                io.BytesIO(content), stop_before_pixels=True, specific_tags=list(_KEYWORDS)
            )
            patient_id, name, *uids = (
                str(dataset.get(keyword, "")).strip(" \0") for keyword in _KEYWORDS
            )
    except Exception:  # pydicom raises many kinds of exceptions for bytes that it cannot read.
        raise Violated("an instance that pydicom cannot read") from None
    study, series, uid = uids
    return Identity(patient_id, name, study, series, uid, hashlib.sha256(content).digest())
