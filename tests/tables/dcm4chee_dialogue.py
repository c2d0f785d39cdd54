"""What dcm4chee-arc answers, one row a behaviour: as a real 5.35.1 did, and as the source of 5.x
says otherwise.

Rows marked "not measured" stand for the harder case. Paths name the studies of
``tests/dcm4chee/studies.py``:
``large`` (20 instances, ``sixth`` one of them), ``single`` (``one`` image), ``mixed`` (one image
that can be converted, and ``undecodable``), ``several_frames`` (``frames``, one image of two).
"""

from dataclasses import dataclass
from typing import Any

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
EXPLICIT = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'
OCTETS = 'multipart/related; type="application/octet-stream"'
PNGS = 'multipart/related; type="image/png"'
JSON = "application/dicom+json"
TEXT = "text/plain;charset=UTF-8"
"""The media type of its errors when measured."""

_ALWAYS = {"00080005", "00080054", "00080056", "00080201", "0020000D"}
WATCHED = _ALWAYS | {"00081030", "00100021", "00083002"}
"""Attributes that some rows have, or have in one mode alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """A request, and what is seen of its answer (``observed``).

    ``documented``: ``None``: as measured; empty: not known. ``gone``, ``cut``: instances whose
    files are gone, or half there.
    """

    what: str
    path: str
    accept: str | None
    measured: dict[str, Any]
    documented: dict[str, Any] | None = None
    gone: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


DIALOGUE = [
    # Queries.
    Row("a list", "studies?limit=2", None,
        {"status": 200, "framing": "chunked", "type": JSON, "cache": "no-cache", "rows": 2},
        {"framing": "length"}),
    Row("studies: no issuer and no description unless asked for", "studies?limit=1", None,
        {"tags": _ALWAYS}, {"tags": _ALWAYS | {"00081030", "00100021"}}),
    Row("an attribute that is asked for", "studies?limit=1&includefield=00100021,StudyDescription",
        None,
        {"tags": _ALWAYS | {"00081030", "00100021"}}),
    Row("a matching key", "studies?limit=1&IssuerOfPatientID=A", None,
        {"tags": _ALWAYS | {"00100021"}}, {"tags": _ALWAYS | {"00081030", "00100021"}}),
    Row("series of all studies", "series?limit=1", None,
        {"tags": _ALWAYS}, {"tags": _ALWAYS | {"00081030", "00100021"}}),
    Row("instances", "studies/{large}/instances?limit=1", None,
        {"tags": _ALWAYS | {"00083002"}}, {"tags": _ALWAYS}),
    Row("includedefaults=false", "studies?limit=1&includedefaults=false", None, {"tags": _ALWAYS},
        {"tags": set()}),
    Row("its notes", "studies?limit=1&includefield=all", None,
        {"notes": {"1010", "1011", "1016", "1022", "1028", "1029", "102A", "102D"}},
        {"notes": {"1020", "1021", "1023", "1027"}}),
    Row("a list below a study", "studies/{large}/series", None,
        {"status": 200, "etag": False, "cache": "no-cache"}, {"status": 200, "etag": True}),
    Row("no match", "studies?PatientID=nobody", None,
        {"status": 204, "body": "empty", "cache": None},
        {"status": 204, "body": "empty", "cache": "no-cache"}),
    Row("the cap", "studies", None,
        {"status": 200, "rows": 7,
         "warning": "There are 18 additional results that can be requested"}),
    Row("a malformed StudyDate", "studies?limit=3&StudyDate=x", None, {"status": 200, "rows": 3},
        {"status": 400}),
    Row("a malformed limit", "studies?limit=0", None,
        {"status": 400, "type": TEXT, "body": "text"}, {"status": 400, "body": "json"}),
    Row("a backslash in a PatientID", "studies?PatientID=4711%5C*", None, {"status": 204},
        {"status": 200}),
    Row("XML for a path that has JSON", "studies/{single}/metadata", "text/html",
        {"status": 406, "body": "empty"}, {"status": 406, "body": "json"}),
    Row("a count as DICOM JSON", "studies/count?PatientID=4711", JSON, {"status": 406},
        {"status": 200}),
    Row("a count", "studies/count?PatientID=4711", "application/json",
        {"status": 200, "body": "json"}),
    Row("a size as DICOM JSON", "studies/size?PatientID=4711", JSON, {"status": 406},
        {"status": 200}),
    # Retrievals.
    Row("metadata", "studies/{large}/metadata", JSON,
        {"status": 200, "framing": "chunked", "etag": True, "notes": set(),
         "tags": {"00080005", "00081030", "00100021", "0020000D"}},
        {"status": 200, "framing": "chunked", "notes": {"1020", "1021", "1023", "1027"},
         "tags": {"00080005", "00080056", "00081030", "00100021", "0020000D"}}),
    Row("several parts", "studies/{large}", STORED,
        {"status": 200, "framing": "chunked", "space": True, "parts": 20, "location": None,
         "first_line": "Content-ID",
         "closed": True, "etag": True},
        {"status": 200, "framing": "chunked", "space": False, "parts": 20,
         "first_line": "Content-ID", "closed": True}),
    Row("an instance", "{one_path}", STORED,
        {"status": 200, "framing": "length", "space": True, "parts": 1, "location": None,
         "closed": True},
        {"status": 200, "framing": "chunked", "location": "{one_path}", "closed": True}),
    Row("a frame", "{one_path}/frames/1", OCTETS,
        {"status": 200, "framing": "length", "location": "{one_path}/frames/1",
         "first_line": "Content-Location"},
        {"status": 200, "framing": "chunked", "location": "{one_path}/frames/1",
         "first_line": "Content-ID"}),
    Row("frames", "{frames_path}/frames/1,2", OCTETS,
        {"status": 200, "framing": "chunked", "parts": 2}),
    Row("bulk data of a study", "studies/{single}/bulkdata", OCTETS,
        {"status": 200, "location": "studies/{single}/bulkdata/{one_below}",
         "first_line": "Content-Location"},
        {"status": 200, "location": "{one_path}", "first_line": "Content-ID"}),
    Row("rendered in a multipart", "studies/{large}/rendered", PNGS,
        {"status": 200, "parts": 20, "first_line": "Content-Location"},
        {"status": 200, "parts": 20, "first_line": "Content-ID"}),
    Row("rendered alone", "{one_path}/rendered", "image/png",
        {"status": 200, "type": "image/png", "framing": "chunked", "ranges": "none"},
        {"status": 200, "type": "image/png", "framing": "length", "ranges": "bytes"}),
    Row("several frames as one JPEG", "{frames_path}/rendered", "image/jpeg", {"status": 406},
        {"status": 200}),
    Row("several frames as GIF", "{frames_path}/rendered", "image/gif",
        {"status": 200, "type": "image/gif"}),
    Row("one frame of several as JPEG", "{frames_path}/frames/2/rendered", "image/jpeg",
        {"status": 200}),
    Row("a thumbnail as anything", "{one_path}/thumbnail", "*/*",
        {"status": 200, "type": "image/png"}, {"status": 200, "type": "image/jpeg"}),
    Row("what a browser may read", "studies?limit=1", None, {"origins": "*", "ranges": "none"},
        {"origins": None, "ranges": None}),
    Row("what a browser may read of an error", "studies/1.2.3", STORED,
        {"status": 404, "type": TEXT, "origins": "*"}, {"status": 404, "origins": None}),
    # What cannot be given.
    Row("one of several is gone", "studies/{large}", STORED,
        {"status": 200, "framing": "chunked", "parts": 6, "closed": False, "warning": None},
        {"status": 206, "parts": 19, "closed": True, "warning": "1 objects no longer accessible."},
        ("sixth_uid",)),
    Row("one of several is cut", "studies/{large}", STORED,
        {"status": 200, "framing": "chunked", "parts": 6, "closed": False}, {}, (), ("sixth_uid",)),
    Row("the only one is gone", "studies/{single}", STORED,
        {"status": 500, "type": TEXT, "path_in_text": True}, {"status": 410, "path_in_text": False},
        ("one_uid",)),
    Row("the only one is cut", "studies/{single}", STORED,
        {"status": 500, "path_in_text": True}, {}, (), ("one_uid",)),
    Row("drawn, but gone", "{one_path}/rendered", "image/png",
        {"status": 500, "path_in_text": True}, {"status": 410}, ("one_uid",)),
    Row("metadata, of which one is gone (not measured)", "studies/{large}/metadata", JSON,
        {"status": 200, "framing": "chunked"}, {"status": 206}, ("sixth_uid",)),
    Row("a frame too many (not measured)", "{one_path}/frames/1,9", OCTETS,
        {"status": 200, "closed": False, "parts": 2}, {"status": 206, "closed": True, "parts": 1}),
    Row("no such frame (not measured)", "{one_path}/frames/9", OCTETS, {"status": 404}),
    Row("a transfer syntax that one cannot be had in", "{undecodable_path}", EXPLICIT,
        {"status": 500, "path_in_text": True}, {"status": 406}),
    Row("a transfer syntax that some cannot be had in (not measured)", "studies/{mixed}", EXPLICIT,
        {"status": 200, "closed": False}, {"status": 206, "warning": "1 objects not acceptable."}),
]  # fmt: skip
