"""The boundary parameter of a multipart answer (RFC 2046, 5.1.1)."""

import pytest

from sidecar.common.errors import BadGateway
from sidecar.dicomweb.paths import Kind
from tests.dicomweb.response_heads import check, refusal

BOUNDARIES: dict[str, str] = {
    "abc": "abc",
    '"abc"': "abc",
    "0aA'()+_./:?-=": "0aA'()+_./:?-=",
    '"a b"': "a b",
    '"a,b"': "a,b",
    "x" * 70: "x" * 70,
    f'"{"x" * 70}"': "x" * 70,
}


@pytest.mark.parametrize("written", BOUNDARIES)
@pytest.mark.parametrize(
    "form",
    ["{}; boundary={}", "{};BOUNDARY={}", "{} ;  Boundary = {} ; x=y", "{}; x=y; boundary={}"],
)
def test_boundaries(written: str, form: str) -> None:
    found = check(form.format("multipart/related; type=application/dicom", written), Kind.STUDY)
    assert found.boundary == BOUNDARIES[written]


NO_BOUNDARY = [
    "",
    '""',
    '" "',
    '"a "',
    '"abc',
    '"a\\"b"',
    '"' + "x" * 71 + '"',
    "a\\b",
    "a@b",
    "ab\t",
    "<ab>",
    "*",
]


@pytest.mark.parametrize("written", NO_BOUNDARY)
def test_boundaries_that_are_none(written: str) -> None:
    content_type = f"multipart/related; type=application/dicom; boundary={written}"
    assert isinstance(refusal(content_type, Kind.STUDY), BadGateway)


@pytest.mark.parametrize("more", ["", "; xboundary=abc"])
def test_a_multipart_without_a_boundary_is_refused(more: str) -> None:
    assert (
        refusal("multipart/related; type=application/dicom" + more, Kind.STUDY).reason
        == "pacs_boundary"
    )


@pytest.mark.parametrize("written", ["x" * 71, 'a"bc"'])
def test_a_boundary_is_not_cut(written: str) -> None:
    """RFC 2046 5.1.1: at most 70 characters; a quote stands in none."""
    refusal(f"multipart/related; type=application/dicom; boundary={written}", Kind.STUDY)


@pytest.mark.parametrize(
    "first", ['x="; boundary=evil"', 'x="a;boundary=evil"', 'x="; Boundary=evil"']
)
def test_a_boundary_in_another_parameter_is_refused(first: str) -> None:
    """A simple reader finds that one, and then other parts than those that were checked."""
    refused = refusal(
        f'multipart/related; type="application/dicom"; {first}; boundary=real', Kind.STUDY
    )
    assert refused.reason == "pacs_content_type"


def test_two_boundaries_are_refused() -> None:
    refusal("multipart/related; type=application/dicom; boundary=one; boundary=two", Kind.STUDY)
