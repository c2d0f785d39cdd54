"""The head of a PACS's answer: what was asked for, with an end that can be recognized, or an error
(SIA-43).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import (
    BadGateway,
    GatewayTimeout,
    NotAcceptable,
    NotFound,
    Problem,
    Unavailable,
)
from sidecar.dicomweb.paths import OBJECTS, Kind
from sidecar.dicomweb.response_head import ResponseHead, check_head, unwrapped_type
from tests.dicomweb.response_heads import check, refusal
from tests.tables.media_types import ACCEPTED, DICOM, DRAWN, NEVER, OCTETS, PIXELS

GOOD_TYPE = (
    dict.fromkeys(OBJECTS, DICOM)
    | dict.fromkeys(DRAWN, "image/jpeg")
    | dict.fromkeys(PIXELS, OCTETS)
    | {Kind.METADATA: "application/dicom+json"}
)


@pytest.mark.parametrize(
    ("content_type", "kind"), [(one, kind) for one, kinds in ACCEPTED for kind in sorted(kinds)]
)
def test_what_was_asked_for_passes(content_type: str, kind: Kind) -> None:
    head = check(content_type, kind)
    assert head.content_type == content_type
    assert head.media_type == content_type.split(";", maxsplit=1)[0].lower()
    assert head.content_length == 7
    assert head.boundary == ("abc" if head.media_type.startswith("multipart") else None)


def test_a_multipart_that_does_not_say_of_what() -> None:
    """RFC 2387 3.1 wants the type: where the archive leaves it out, we write it."""
    assert check("multipart/related; boundary=abc", Kind.STUDY).content_type == (
        'multipart/related; boundary=abc; type="application/dicom"'
    )


@pytest.mark.parametrize("content_type", NEVER)
def test_what_a_browser_could_run_or_nobody_can_check_never_passes(
    content_type: str | None,
) -> None:
    for kind in Kind:
        assert isinstance(refusal(content_type, kind), BadGateway), kind


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/dicom", Kind.STUDY),
        ("application/dicom", Kind.SERIES),
        ("application/dicom", Kind.FRAMES),
        ("application/dicom", Kind.RENDERED),
        ("application/dicom+json", Kind.STUDY),
        ("application/json", Kind.FRAMES),
        ("image/jpeg", Kind.STUDY),
        ("image/jpeg", Kind.METADATA),
        ("application/octet-stream", Kind.INSTANCE),
        ("application/octet-stream", Kind.RENDERED),
        ("application/pdf", Kind.FRAMES),
        ("application/pdf", Kind.STUDY),
        ("model/stl", Kind.RENDERED),
        ("model/stl", Kind.PIXELDATA),
        ('multipart/related; type="application/pdf"; boundary=abc', Kind.THUMBNAIL),
        (OCTETS, Kind.STUDY),
        (OCTETS, Kind.RENDERED),
        (OCTETS, Kind.METADATA),
        (DICOM, Kind.METADATA),
        (DICOM, Kind.RENDERED),
        ('multipart/related; type="image/png"; boundary=abc', Kind.THUMBNAIL),
        ('multipart/related; type="application/dicom+xml"; boundary=abc', Kind.SERIES),
        ('multipart/related; type="application/dicom+json"; boundary=abc', Kind.INSTANCE),
    ],
)
def test_something_else_than_was_asked_for_is_refused(content_type: str, kind: Kind) -> None:
    assert refusal(content_type, kind).reason == "pacs_content_type"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "Text/XML; charset=utf-8",
        "image/svg+xml",
        "application/xml",
        "model/x3d+xml",
        'multipart/related; type="text/xml"; boundary=abc',
        'multipart/related; type="Text/HTML"; boundary=abc',
    ],
)
def test_what_a_browser_would_run_is_refused_by_name(content_type: str) -> None:
    """An encapsulated CDA: the client learns why, and what it can have instead."""
    assert "HTML, SVG or other XML" in refusal(content_type, Kind.BULKDATA).diagnostics
    assert "HTML" not in refusal("text/plain", Kind.BULKDATA).diagnostics


@pytest.mark.parametrize(
    "content_type", ["application/pdf; name=Doe_Jane.pdf", "Application/PDF", "model/STL;x=y"]
)
def test_a_documents_type_passes_without_parameters(content_type: str) -> None:
    """Its file's name may be the patient's."""
    head = check(content_type, Kind.BULKDATA)
    assert head.content_type == head.media_type == content_type.partition(";")[0].lower()


@pytest.mark.parametrize(
    ("content_type", "kind", "alone"),
    [
        (
            'multipart/related; type="application/pdf"; boundary=abc',
            Kind.BULKDATA,
            "application/pdf",
        ),
        ("multipart/related; type=Model/STL; boundary=abc", Kind.BULKDATA, "model/stl"),
        (OCTETS, Kind.BULKDATA, "application/octet-stream"),
        ("multipart/related; boundary=abc", Kind.FRAMES, "application/octet-stream"),
        (
            'multipart/related; type="image/jpeg"; boundary=abc',
            Kind.FRAMES,
            "application/octet-stream",
        ),
        (DICOM, Kind.INSTANCE, "application/dicom"),
    ],
)
def test_the_type_of_what_leaves_without_its_multipart(
    content_type: str, kind: Kind, alone: str
) -> None:
    assert unwrapped_type(check(content_type, kind), kind) == alone


@pytest.mark.parametrize(
    ("status", "problem", "reason"),
    [
        (204, NotFound, "pacs_absent"),
        (404, NotFound, "pacs_absent"),
        (410, NotFound, "pacs_absent"),
        (400, NotAcceptable, "pacs_accept"),
        (406, NotAcceptable, "pacs_accept"),
        (415, NotAcceptable, "pacs_accept"),
        (206, BadGateway, "pacs_partial"),
        (201, BadGateway, "pacs_status"),
        (202, Unavailable, "pacs_busy"),
        (300, BadGateway, "pacs_redirect"),
        (301, BadGateway, "pacs_redirect"),
        (302, BadGateway, "pacs_redirect"),
        (304, BadGateway, "pacs_redirect"),
        (307, BadGateway, "pacs_redirect"),
        (308, BadGateway, "pacs_redirect"),
        (401, BadGateway, "pacs_credentials"),
        (403, BadGateway, "pacs_credentials"),
        (405, BadGateway, "pacs_status"),
        (409, BadGateway, "pacs_status"),
        (413, BadGateway, "pacs_status"),
        (500, BadGateway, "pacs_status"),
        (501, BadGateway, "pacs_status"),
        (502, BadGateway, "pacs_status"),
        (599, BadGateway, "pacs_status"),
        (429, Unavailable, "pacs_busy"),
        (503, Unavailable, "pacs_busy"),
        (504, GatewayTimeout, "pacs_timeout"),
    ],
)
def test_a_status_other_than_200_is_never_a_success(
    status: int, problem: type[Problem], reason: str
) -> None:
    """However good the rest of the head looks."""
    for kind in Kind:
        found = refusal(
            GOOD_TYPE[kind], kind, status=status, Location="http://pacs.internal/studies/1.2"
        )
        assert type(found) is problem, kind
        assert found.reason == reason, kind


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 5),
        ("", 5),
        ("7", 7),
        ("0", 1),
        ("9999", 9999),
        ("10000", 5),
        ("-1", 5),
        ("1.5", 5),
        ("7 ", 5),
        ("７", 5),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 5),
        ("7\r\nX: y", 5),
    ],
)
def test_when_to_come_back(header: str | None, seconds: int) -> None:
    """SIA-44: the PACS's own time where it is a number."""
    more = {} if header is None else {"Retry_After": header}
    assert refusal(DICOM, Kind.STUDY, status=503, **more).retry_after == seconds


@pytest.mark.parametrize(
    ("kind", "is_object"), [(Kind.INSTANCE, True), (Kind.STUDY, True), (Kind.METADATA, False)]
)
def test_how_to_get_what_the_archive_cannot_transcode(kind: Kind, is_object: bool) -> None:
    with pytest.raises(BadGateway) as failed:
        check_head(500, {}, kind, chunked=False)
    assert ("transfer-syntax=*" in failed.value.diagnostics) == is_object


@pytest.mark.parametrize(
    ("encoding", "detail"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("br", "br"),
        ("identity, gzip", "gzip"),
        ("x", "unknown"),
        ("gzip, br", "several"),
    ],
)
def test_an_encoded_body_is_refused(encoding: str, detail: str) -> None:
    """It could not be looked into. What ``Upstream`` decompresses is not encoded any more."""
    refused = refusal(DICOM, Kind.STUDY, Content_Encoding=encoding)
    assert refused.for_operators() == f"pacs_encoded ({detail})"


@pytest.mark.parametrize("encoding", ["Identity", "", "identity, "])
def test_no_encoding_by_name_is_fine(encoding: str) -> None:
    assert check(DICOM, Kind.STUDY, Content_Encoding=encoding).boundary == "abc"


@pytest.mark.parametrize("kind", Kind)
def test_the_end_must_be_recognizable(kind: Kind) -> None:
    """Without a length, chunks or a closing delimiter, the end could be a crash."""
    content_type = GOOD_TYPE[kind]
    assert (
        check_head(200, {"Content-Type": content_type}, kind, chunked=True).content_length is None
    )
    if kind is Kind.METADATA:  # An array knows its end.
        assert check(content_type, kind, length=None).content_length is None
    elif content_type.startswith("multipart"):
        assert check(content_type, kind, length=None) == ResponseHead(
            content_type, "multipart/related", None, "abc"
        )
    else:
        assert refusal(content_type, kind, length=None).reason == "pacs_unknown_length"


@pytest.mark.parametrize(
    "length", ["", "-1", "+1", "0x10", "1.0", "1,1", " 1", "1 ", "１", "1\n", "9" * 19, "NaN"]
)
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    for kind in Kind:
        assert refusal(GOOD_TYPE[kind], kind, length=length).reason == "pacs_content_length"


def test_an_empty_body_has_a_length() -> None:
    assert check("image/png", Kind.FRAMES, length="0").content_length == 0
    assert check("image/png", Kind.FRAMES, length="9" * 18).content_length == int("9" * 18)


def test_a_type_in_capital_letters_is_the_same() -> None:
    assert (
        check('multipart/related; type="Application/DICOM"; boundary=abc', Kind.STUDY).boundary
        == "abc"
    )


@pytest.mark.parametrize("kind", [*DRAWN, *PIXELS])
@pytest.mark.parametrize("content_type", ["IMAGE/SVG+XML", "image/SVG+xml"])
def test_svg_in_capital_letters_is_svg(content_type: str, kind: Kind) -> None:
    """Media types have no case (RFC 9110 8.3.1); a browser would run its scripts."""
    refusal(content_type, kind)


@pytest.mark.parametrize("kind", [*DRAWN, *PIXELS])
def test_no_xml_by_another_name(kind: Kind) -> None:
    refusal("image/x+xml", kind)


@given(
    st.integers(100, 599),
    st.text(max_size=80),
    st.one_of(st.none(), st.text(max_size=20)),
    st.sampled_from(Kind),
    st.booleans(),
)
def test_any_head_is_good_or_a_problem(
    status: int, content_type: str, length: str | None, kind: Kind, chunked: bool
) -> None:
    headers = {"Content-Type": content_type} | (
        {} if length is None else {"Content-Length": length}
    )
    try:
        head = check_head(status, headers, kind, chunked=chunked)
    except (NotFound, NotAcceptable, BadGateway, Unavailable, GatewayTimeout):
        return
    assert status == 200
    assert head.content_type.isascii()
    assert head.content_type.isprintable()
    assert chunked or head.content_length is not None or head.boundary or kind is Kind.METADATA
