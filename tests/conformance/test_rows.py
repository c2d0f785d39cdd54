"""What the kit reads by itself: attributes of DICOM JSON, UIDs and parameters of Content-Type."""

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.conformance.response import Response
from sidecar.conformance.rows import is_uid, number, text


@pytest.mark.parametrize(
    ("element", "as_text", "as_number"),
    [
        ({"vr": "IS", "Value": [5]}, "5", 5),
        ({"vr": "IS", "Value": ["5 "]}, "5", 5),
        ({"vr": "IS", "Value": ["-5"]}, "-5", None),
        ({"vr": "UI", "Value": ["1.2\0", "1.3"]}, "1.2", None),
        ({"vr": "UI", "Value": ["  "]}, None, None),
        ({"vr": "UI", "Value": [None]}, None, None),
        ({"vr": "UI", "Value": [{"Alphabetic": "x"}]}, None, None),
        ({"vr": "UI", "Value": "1.2"}, None, None),
        ({"vr": "UI"}, None, None),
        ("1.2", None, None),
        (None, None, None),
    ],
)
def test_the_first_value(element: Any, as_text: str | None, as_number: int | None) -> None:
    row = {"00201208": element}
    assert text(row, "NumberOfStudyRelatedInstances") == as_text
    assert number(row, "NumberOfStudyRelatedInstances") == as_number
    assert text(row, "PatientID") is None


@pytest.mark.parametrize("uid", ["1.2.840", "1.02", "1", "1." + "2" * 80])
def test_uids_as_archives_have_them(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    "odd", ["", ".", "1..2", "1.", "1.2\n", "1.2/..", "1.*", "urn:oid:1.2", "\u0661.2"]
)
def test_what_is_no_uid(odd: str) -> None:
    assert not is_uid(odd)


@pytest.mark.parametrize(
    ("content_type", "media_type", "boundary"),
    [
        ("multipart/related; boundary=b", "multipart/related", "b"),
        (
            'Multipart/Related ; type="application/dicom"; Boundary="b; c"',
            "multipart/related",
            "b; c",
        ),
        ("multipart/related; type=application/dicom; boundary=b", "multipart/related", "b"),
        ('multipart/related; type="x; boundary=a"; boundary=b', "multipart/related", "b"),
        ("multipart/related; boundary=a; boundary=b", "multipart/related", None),
        ("multipart/related", "multipart/related", None),
        ("", "no content type", None),
    ],
)
def test_the_content_type(content_type: str, media_type: str, boundary: str | None) -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": content_type}))
    answer = Response(200, headers, b"")
    assert (answer.media_type, answer.parameter("boundary")) == (media_type, boundary)
