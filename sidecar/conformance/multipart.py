"""A multipart/related answer taken apart, and the instances in it (RFC 2046 5.1; PS3.18 8.6)."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import pydicom

from sidecar.conformance.client import Response, Violated

_KEYWORDS = ["PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


class Truncated(Violated):
    """It ends like a whole answer, and is none (SIA-43)."""


@dataclass(frozen=True, slots=True)
class MultipartPart:
    """``media_type`` without parameters, and the bytes."""

    media_type: str
    content: bytes


def parts_of(answer: Response, media_type: str) -> list[MultipartPart]:
    """The whole parts of a 200, each of ``media_type``.

    Raises ``Violated``; ``Truncated`` without an end.
    """
    if answer.status != 200 or answer.media_type != "multipart/related":
        raise Violated(str(answer))
    boundary = answer.parameter("boundary")
    if not boundary:
        raise Violated("multipart/related without boundary")
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary.encode())[1:]
    parts: list[MultipartPart] = []
    for number, piece in enumerate(pieces):
        if piece.startswith(b"--"):
            break
        # The last one is not followed by a delimiter: it is not whole.
        if number < len(pieces) - 1:
            parts.append(_part(piece))
    else:
        if answer.stopped is None:
            raise Truncated(
                f"200, but the multipart has no end: {len(parts)} whole parts, then it stops"
            )
    if any(one.media_type != media_type for one in parts):
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
    """Whose instance it is; ``digest`` of its bytes."""

    patient_id: str
    name: str
    study: str
    series: str
    uid: str
    digest: bytes


def identity_of(content: bytes) -> Identity:
    """Read from the instance itself. Raises ``Violated`` when it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Odd attributes are not what is looked at.
            dataset = pydicom.dcmread(
                io.BytesIO(content), stop_before_pixels=True, specific_tags=list(_KEYWORDS)
            )
            patient_id, name, *uids = (
                str(dataset.get(keyword, "")).strip(" \0") for keyword in _KEYWORDS
            )
    except Exception:  # pydicom raises whatever it stumbles over.
        raise Violated("an instance that pydicom cannot read") from None
    study, series, uid = uids
    return Identity(patient_id, name, study, series, uid, hashlib.sha256(content).digest())
