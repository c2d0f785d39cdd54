"""Which Content-Type a part of a multipart answer may have, by what was asked for (SIA-42, 43)."""

import pytest

from sidecar.dicomweb.part_headers import may_have
from sidecar.dicomweb.paths import OBJECTS, Kind

DRAWN = (Kind.RENDERED, Kind.THUMBNAIL)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "image/svg+xml",
        "image/jpeg;a=b,text/html",
        "image/jpeg, text/html",
        "image/jpeg\x00",
        "image",
        ";",
        "application/dicom+xml",
        "text/plain; image/jpeg",
        "multipart/related",
        "TEXT/HTML; charset=utf-8",
        "text/xml",
        "Image/Svg+Xml",
        "application/xhtml+xml",
        "text/html; x=application/pdf",
        "application/pdf, text/html",
        "application/pdf+xml",
        "model/x3d+xml",
        "application/pdf\x00",
        'text/html; type="application/pdf"',
    ],
)
def test_what_is_odd_or_runs_never_passes(content_type: str) -> None:
    for kind in Kind:
        assert not may_have(content_type, kind), kind


@pytest.mark.parametrize("kind", Kind)
def test_a_part_that_says_nothing_is_what_was_asked_for_but_for_pictures(kind: Kind) -> None:
    """An unverified instance could come as a picture without a type; instances themselves are
    verified.
    """
    assert may_have("", kind) is (kind not in DRAWN)


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        (Kind.STUDY, "application/dicom"),
        (Kind.STUDY, "Application/DICOM; transfer-syntax=1.2.840.10008.1.2.1"),
        (Kind.FRAMES, "application/octet-stream"),
        (Kind.FRAMES, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"),
        (Kind.RENDERED, "image/jpeg"),
        (Kind.RENDERED, "application/pdf"),
        (Kind.BULKDATA, "application/pdf"),
        (Kind.BULKDATA, "Model/STL; x=y"),
        (Kind.BULKDATA, "model/obj"),
        (Kind.BULKDATA, "model/mtl"),
    ],
)
def test_what_was_asked_for_passes(kind: Kind, content_type: str) -> None:
    assert may_have(content_type, kind)


def test_instances_pass_as_instances_alone() -> None:
    for kind in Kind:
        assert may_have("application/dicom", kind) is (kind in OBJECTS)
