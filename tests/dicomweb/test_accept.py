"""Accept headers: taken apart, built anew, and nothing asked for that we cannot vouch for (SIA-40,
SIA-41).
"""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.dicomweb.media_types import (
    MAXIMUM_LENGTH,
    MAXIMUM_RANGES,
    MediaRange,
    accepts_json,
    may_be_part,
    parse_accept,
)
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.dicomweb.upstream_accept import is_single, prefers_zip, upstream_accept

STUDY = Retrieval(Kind.STUDY, Part("1.2"))
SERIES = Retrieval(Kind.SERIES, Part("1.2", "1.3"))
ONE = Part("1.2", "1.3", "1.4")
INSTANCE, FRAMES = Retrieval(Kind.INSTANCE, ONE), Retrieval(Kind.FRAMES, ONE, (1,))
TWO_FRAMES = Retrieval(Kind.FRAMES, ONE, (1, 2))
RENDERED, THUMBNAIL = Retrieval(Kind.RENDERED, ONE), Retrieval(Kind.THUMBNAIL, Part("1.2"))
FRAME_RENDERED = Retrieval(Kind.RENDERED, ONE, (1,))
METADATA = Retrieval(Kind.METADATA, Part("1.2"))
BULKDATA, PIXELDATA = (
    Retrieval(Kind.BULKDATA, ONE, steps=("7FE00010",)),
    Retrieval(Kind.PIXELDATA, ONE),
)
ALL = (STUDY, SERIES, INSTANCE, METADATA, FRAMES, RENDERED, THUMBNAIL, BULKDATA, PIXELDATA)

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'
STORED = OCTETS + "; transfer-syntax=*"
PDF = 'multipart/related; type="application/pdf"'
DOCUMENTS = ", ".join(
    [PDF, *(f'multipart/related; type="model/{name}"' for name in ("stl", "obj", "mtl"))]
)

BUILT: dict[str, tuple[str | None, Retrieval, str]] = {
    "the public viewer, type without quotes": (
        "multipart/related; type=application/dicom; transfer-syntax=*", STUDY, AS_STORED),
    "dicomweb-client, type in quotes": (AS_STORED, SERIES, AS_STORED),
    "no header: as stored": (None, STUDY, AS_STORED),
    "an empty header": ("", INSTANCE, AS_STORED),
    "anything": ("*/*", STUDY, AS_STORED),
    "any multipart": ("multipart/*", SERIES, AS_STORED),
    "a multipart of nothing in particular": ("multipart/related", STUDY, AS_STORED),
    "a multipart of anything": ('multipart/related; type="*/*"', STUDY, AS_STORED),
    "a multipart of anything, in a transfer syntax": (
        'multipart/related; type="*/*"; transfer-syntax=1.2.840.10008.1.2.4.50', STUDY,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "without a transfer syntax: the PACS's default": (
        "multipart/related; type=application/dicom", STUDY,
        'multipart/related; type="application/dicom"'),
    "a transfer syntax": (
        'multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.4.50', STUDY,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "capital letters": ('Multipart/Related; TYPE="Application/DICOM"', STUDY,
                        'multipart/related; type="application/dicom"'),
    "other parameters are left out": (
        'multipart/related; boundary=x; type="application/dicom"; start="http"', STUDY,
        'multipart/related; type="application/dicom"'),
    "preferences stay": (
        "multipart/related; type=application/dicom; q=0.5, "  # noqa: ISC004 - one header
        "multipart/related; transfer-syntax=1.2;q=1.000", STUDY,
        'multipart/related; type="application/dicom";q=0.5, '  # noqa: ISC004 - one header
        'multipart/related; type="application/dicom"; transfer-syntax=1.2;q=1.000'),
    "the same twice": ("*/*, multipart/*", STUDY, AS_STORED),
    "one instance may be no multipart": ("application/dicom; transfer-syntax=*", INSTANCE,
        AS_STORED),
    "one instance alone, as transcoded": ("application/dicom", INSTANCE,
                                          'multipart/related; type="application/dicom"'),
    "a ZIP of a study is made of a multipart": ("application/zip", STUDY, AS_STORED),
    "a ZIP of a series, in a transfer syntax": (
        "application/zip; transfer-syntax=1.2.840.10008.1.2.4.50", SERIES,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "what cannot be vouched for is left out": (
        "application/zip;q=0, text/html, image/svg+xml, application/dicom+xml, " + AS_STORED, STUDY,
        AS_STORED),
    "the frames of an OHIF-style viewer": (
        "multipart/related; type=application/octet-stream; transfer-syntax=*", FRAMES,
        OCTETS + "; transfer-syntax=*"),
    "frames, anything": ("*/*", FRAMES, STORED),
    "frames, no header": (None, FRAMES, STORED),
    "frames, any multipart": ("multipart/*;q=0.5", FRAMES, STORED + ";q=0.5"),
    "frames, dicomweb-client's default": ('multipart/related; type="*/*"', FRAMES, STORED),
    "frames, any application type": ('multipart/related; type="application/*"', FRAMES, STORED),
    "frames, no type": ("multipart/related", FRAMES, STORED),
    "frames of any type in a transfer syntax": (
        'multipart/related; type="*/*"; transfer-syntax=1.2.840.10008.1.2.1', FRAMES,
        OCTETS + "; transfer-syntax=1.2.840.10008.1.2.1"),
    "frames, octets by name: decompressed, as PS3.18 8.7.3.5 says": (OCTETS, FRAMES, OCTETS),
    "frames as JPEG": ('multipart/related; type="image/jpeg"', FRAMES,
        'multipart/related; type="image/jpeg"'),
    "one frame alone": (
        "image/jls, application/octet-stream", FRAMES,
        f"image/jls, {OCTETS}, application/octet-stream"),
    "one frame alone, as stored": (
        "application/octet-stream; transfer-syntax=*;q=0.5", FRAMES,
        f"{STORED};q=0.5, application/octet-stream; transfer-syntax=*;q=0.5"),
    "one frame alone as an image": ("image/jls", FRAMES, "image/jls"),
    "frames alone or not": (f"{OCTETS}, application/octet-stream", FRAMES,
        f"{OCTETS}, application/octet-stream"),
    "bulk data alone": ("application/octet-stream", BULKDATA,
        f"{OCTETS}, application/octet-stream"),
    "bulk data alone, any application type": (
        "application/*", BULKDATA, f"{STORED}, application/octet-stream; transfer-syntax=*"),
    "bulk data, anything: a document, too": (None, BULKDATA, f"{STORED}, {DOCUMENTS}"),
    "bulk data, any multipart": ("multipart/related;q=0.5", BULKDATA, ", ".join(
        f"{one};q=0.5" for one in (STORED, *DOCUMENTS.split(", ")))),
    "bulk data, anything but PDF": (
        "*/*, application/pdf;q=0", BULKDATA, f"{STORED}, {DOCUMENTS.removeprefix(PDF + ', ')}"),
    "a document alone, else as octets": (
        "application/pdf", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "a document in capital letters": (
        "Application/PDF", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "a model alone": (
        "model/stl;q=0.05", BULKDATA,
        'multipart/related; type="model/stl";q=0.05, model/stl;q=0.05, '  # noqa: ISC004 - one header
        f"{OCTETS};q=0.05, application/octet-stream;q=0.05"),
    "a document in a multipart": (PDF, BULKDATA, f"{PDF}, {OCTETS};q=0.1"),
    "a model and its material": (
        'multipart/related; type="model/obj", multipart/related; type=model/mtl', BULKDATA,
        'multipart/related; type="model/obj", '  # noqa: ISC004 - one header
        f'multipart/related; type="model/mtl", {OCTETS};q=0.1'),
    "a document or octets": (
        "application/pdf, application/octet-stream;q=0.5", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.5, application/octet-stream;q=0.5"),
    "a document, and what runs in a browser": (
        "text/html, application/pdf, text/xml, image/svg+xml", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "documents of several images, drawn": (PDF, RENDERED, PDF),
    "pixel data": ("*/*", PIXELDATA, STORED),
    "an odd range behind a good one": (AS_STORED + ", a/b;q=2", STUDY, AS_STORED),
    "an odd range before a good one": ("image/png;q=high, image/jpeg", RENDERED, "image/jpeg"),
    "a word that is no range": ("json, application/json", METADATA, "application/dicom+json"),
    "an unknown transfer syntax among good ranges": (
        f"{OCTETS}; transfer-syntax=JPEG, {STORED}", FRAMES, STORED),
    "a parameter given twice in one of them": ("a/b;type=x;type=y, */*", FRAMES, STORED),
    "rendered, anything": ("*/*", RENDERED, "image/jpeg, image/gif;q=0.1"),
    "rendered, nothing said": (None, RENDERED, "image/jpeg, image/gif;q=0.1"),
    "rendered, anything but GIF": ("image/gif;q=0, */*", RENDERED, "image/jpeg"),
    "rendered, nothing else": ("image/png, */*;q=0", RENDERED, "image/png"),
    "a frame rendered": ("*/*", FRAME_RENDERED, "image/jpeg"),
    "a thumbnail": ("*/*", THUMBNAIL, "image/jpeg"),
    "rendered by a browser": (
        "image/avif,image/webp,image/apng,image/*,*/*;q=0.8", RENDERED,
        "image/*, image/jpeg;q=0.8, image/gif;q=0.08"),
    "rendered as PNG, parameters left out": ("image/png; charset=x;q=0.3", THUMBNAIL,
        "image/png;q=0.3"),
    "rendered, a part for each image": (
        'multipart/related; type="image/JPEG"; transfer-syntax=*', RENDERED,
        'multipart/related; type="image/jpeg"'),
    "rendered as PDF": ("application/pdf", RENDERED, "application/pdf"),
    "metadata": ("application/dicom+json", METADATA, "application/dicom+json"),
    "metadata, the other name": ("application/json, application/dicom+json", METADATA,
        "application/dicom+json"),
    "metadata, anything": (None, METADATA, "application/dicom+json"),
}  # fmt: skip


@pytest.mark.parametrize("what", BUILT)
def test_what_the_pacs_is_asked_for(what: str) -> None:
    accept, retrieval, expected = BUILT[what]
    assert upstream_accept(accept, retrieval) == expected


ONE_RANGE: dict[str, tuple[str | None, Retrieval, str]] = {
    "the only one": (None, STUDY, AS_STORED),
    "no weight": (AS_STORED + ";q=0.5", STUDY, AS_STORED),
    "the heaviest": (f"{AS_STORED};q=0.5, multipart/related; type=application/dicom", STUDY,
                     'multipart/related; type="application/dicom"'),
    "as stored, of two with the same weight": (
        f"multipart/related; type=application/dicom, {AS_STORED}", STUDY, AS_STORED),
    "octets before images": (f"multipart/related; type=image/jpeg, {STORED}", FRAMES, STORED),
    "a multipart before one alone": (f"application/octet-stream, {OCTETS};q=0.2", BULKDATA, OCTETS),
    "one alone is unwrapped from it": ("application/octet-stream", BULKDATA, OCTETS),
    "a document as octets": ("application/pdf", BULKDATA, OCTETS),
    "a model in a multipart, as octets": ('multipart/related; type="model/stl"', BULKDATA, OCTETS),
    "bulk data, anything": ("*/*", BULKDATA, STORED),
    "an image by a browser": ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", RENDERED,
        "image/jpeg"),
    "an image that archives have": ("image/gif, image/png;q=0.5, video/mp4", RENDERED, "image/png"),
    "an image that they may not have": ("image/gif;q=0.5", RENDERED, "image/gif"),
    "any image": ("image/*;q=0.5", THUMBNAIL, "image/jpeg"),
}  # fmt: skip


@pytest.mark.parametrize("what", ONE_RANGE)
def test_an_archive_that_reads_one_range_gets_the_best(what: str) -> None:
    """Orthanc 1.10 takes what follows ``transfer-syntax=*`` for a part of its value, and draws for
    no list.
    """
    accept, retrieval, expected = ONE_RANGE[what]
    assert upstream_accept(accept, retrieval, one_range=True) == expected


SINGLE: dict[str, tuple[str | None, Retrieval, bool]] = {
    "an instance": ("application/dicom", INSTANCE, True),
    "an instance, any application type": ("application/*", INSTANCE, True),
    "an instance alone or not": (f"application/dicom, {AS_STORED}", INSTANCE, False),
    "an instance, anything": ("*/*", INSTANCE, False),
    "no header": (None, BULKDATA, False),
    "bulk data": ("application/octet-stream", BULKDATA, True),
    "bulk data, any application type": ("application/*", BULKDATA, True),
    "bulk data or an image": ("application/octet-stream, image/jpeg", BULKDATA, True),
    "bulk data alone or not": (f"application/octet-stream, {OCTETS}", BULKDATA, False),
    "bulk data alone or anything": ("application/octet-stream, */*;q=0.1", BULKDATA, False),
    "an image of frames": ("image/jpeg", FRAMES, False),
    "pixel data": ("application/octet-stream", PIXELDATA, True),
    "a document": ("application/pdf", BULKDATA, True),
    "a model": ("model/obj, text/html", BULKDATA, True),
    "a document alone or not": (f"application/pdf, {PDF}", BULKDATA, False),
    "a document, drawn": ("application/pdf", RENDERED, False),
    "a frame": ("application/octet-stream; transfer-syntax=*", FRAMES, True),
    "two frames": ("application/octet-stream", TWO_FRAMES, False),
    "what is drawn": ("image/jpeg", RENDERED, False),
}  # fmt: skip


@pytest.mark.parametrize("what", SINGLE)
def test_whether_one_thing_alone_is_wanted(what: str) -> None:
    accept, retrieval, expected = SINGLE[what]
    assert is_single(parse_accept(accept or ""), retrieval) is expected


REFUSED = [
    *((accept, retrieval) for retrieval in ALL for accept in (
        "text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml",
        "application/dicom+xml", "multipart/related; type=application/dicom+xml",
        "multipart/related; type=text/html",
        "multipart/related; type=image/svg+xml", "multipart/related; type=application/zip",
        "text/*", "x/y",
        "multipart/form-data", "multipart/mixed",
    )),
    *(("application/zip", retrieval) for retrieval in ALL if retrieval not in (STUDY, SERIES)),
    ("application/dicom", STUDY), ("application/dicom", SERIES), ("application/dicom+json", STUDY),
    ("image/jpeg", STUDY), ("application/octet-stream", STUDY), ("application/*", STUDY),
    (OCTETS, STUDY),
    (AS_STORED, FRAMES), ("application/dicom", FRAMES), (AS_STORED, RENDERED),
    ("application/dicom", RENDERED),
    ("multipart/*", RENDERED), ("application/octet-stream", RENDERED), ("image/webp", RENDERED),
    (AS_STORED, METADATA), ("image/jpeg", METADATA), ("application/dicom+json;q=0", METADATA),
    *((name, retrieval) for retrieval in (STUDY, INSTANCE, METADATA, FRAMES,
        PIXELDATA) for name in (
        "application/pdf", "model/stl", "model/obj", "model/mtl", PDF,
        'multipart/related; type="model/stl"')),
    *(("model/stl", retrieval) for retrieval in (RENDERED, THUMBNAIL)), (PDF, THUMBNAIL),
    *((accept, BULKDATA) for accept in (
        "Text/HTML", "TEXT/XML; charset=utf-8", "Image/SVG+XML", "model/x3d+xml", "model/*",
        "model/stl+xml",
        "application/pdf+xml", "text/html; type=application/pdf",
        'multipart/related; type="text/xml"',
        'multipart/related; type="Image/SVG+xml"', 'multipart/mixed; type="application/pdf"',
        "application/pdfx")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "retrieval"), REFUSED, ids=lambda value: getattr(value, "kind", value)
)
def test_what_cannot_be_had_is_406(accept: str, retrieval: Retrieval) -> None:
    with pytest.raises(NotAcceptable):
        upstream_accept(accept, retrieval)


MALFORMED = [
    "x", "/", "a/", "/b", "a/b/c", "a b/c", "a/b c/d", "a/b;q", "a/b;q=", "a/b;q=2", "a/b;q=1.1",
    "a/b;q=-1",
    "a/b;q=0.1234", "a/b;q=a", "a/b;q=1;q=1", "a/b;type=x;TYPE=y", 'a/b;type="x', 'a/b;type="x"y',
    'a/b;"x"=y',
    "a/b;type=x y", "a/b;transfer-syntax=x", "a/b;transfer-syntax=1.2/..", "a/b;transfer-syntax=",
    'a/b;transfer-syntax="1 2"', "a/b;transfer-syntax=" + "1" * 65, "a/b;=x", "a/b\r\nX: y",
    "a/b\x00", "ａ/b",
    'a/b;type="a\\"b"', 'a/b;type="é"', "a/b@c", "(a)/b",
    ", ".join(["a/b"] * (MAXIMUM_RANGES + 1)), "a/b;" + "x" * MAXIMUM_LENGTH,
]  # fmt: skip


@pytest.mark.parametrize("accept", MALFORMED, ids=lambda accept: repr(accept[:30]))
def test_malformed_headers_are_400_for_every_resource(accept: str) -> None:
    for retrieval in ALL:
        with pytest.raises(BadRequest):
            upstream_accept(accept, retrieval)


@pytest.mark.parametrize("accept", MALFORMED[:-2], ids=lambda accept: repr(accept[:30]))
def test_a_malformed_range_takes_nothing_from_a_good_one(accept: str) -> None:
    assert parse_accept(f"image/png, {accept}") == [MediaRange("image/png")]


@pytest.mark.parametrize("accept", MALFORMED[-2:], ids=["too many ranges", "too long"])
def test_a_header_over_a_limit_is_refused_whatever_is_in_it(accept: str) -> None:
    with pytest.raises(BadRequest):
        parse_accept(f"image/png, {accept}")


def test_as_many_ranges_as_allowed_pass() -> None:
    assert len(parse_accept(", ".join(["a/b"] * MAXIMUM_RANGES))) == MAXIMUM_RANGES


def test_a_hostile_header_takes_no_time() -> None:
    """48 bytes; each further pair doubles the time, and 2,048 bytes are allowed: one request stops
    the server.
    """
    started = time.process_time()
    with pytest.raises(BadRequest):
        parse_accept("a/b" + " ;" * 22 + '"')
    assert time.process_time() - started < 0.05


@pytest.mark.parametrize(
    "unit", ["a/b,", "a/b;x=y ", ' ;x="y"', "  ", ";", "/", '"', "a/b;q=0.1, ", "\t,"]
)
def test_long_junk_takes_no_time(unit: str) -> None:
    started = time.process_time()
    for junk in (unit * 500, "a/b" + unit * 300, "a/b" + unit * 300 + "@"):
        try:
            parse_accept(junk[:MAXIMUM_LENGTH])
        except BadRequest:
            continue
    assert time.process_time() - started < 1


@pytest.mark.parametrize("accept", ["image/png, , image/jpeg", ",image/png", "image/png,,"])
def test_empty_list_elements_are_ignored(accept: str) -> None:
    """RFC 9110 5.6.1.2: a recipient MUST accept a reasonable number of them."""
    assert parse_accept(accept)[0].media_type == "image/png"


def test_the_default_header_of_java_is_understood() -> None:
    """What Java's HttpURLConnection sends when its program sets none."""
    assert (
        upstream_accept("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", STUDY)
        == AS_STORED + ";q=0.2"
    )


@pytest.mark.parametrize(
    "accept", ["*/*;q=0", "text/html, */*;q=0.000", "multipart/*;q=0", "application/zip;q=0.0"]
)
def test_what_the_client_refuses_is_not_sent(accept: str) -> None:
    """RFC 9110 12.4.2: a weight of 0 means not acceptable."""
    with pytest.raises(NotAcceptable):
        upstream_accept(accept, STUDY)


# Accept headers with which a study is answered with a ZIP, and others.
ZIPS: dict[str | None, bool] = {
    **dict.fromkeys((
        "application/zip", "Application/ZIP", "application/zip;transfer-syntax=*",
        "application/zip;q=0.001", "text/html, application/zip;q=0.2",
        "application/zip, */*", "*/*, application/zip", "*, application/zip",
        "application/zip, */*;q=0.8", "application/zip, multipart/*",
        f"application/zip, {AS_STORED}", f"{AS_STORED};q=0.5, application/zip;q=0.6",
    ), True),
    **dict.fromkeys((
        None, "", "*/*", "multipart/*", AS_STORED, f"{AS_STORED}, application/zip",
        f"{AS_STORED};q=0.6, application/zip;q=0.5", "application/zip;q=0.5, */*",
        "application/zip;q=0, */*", "application/zipx, */*",
    ), False),
}  # fmt: skip


@pytest.mark.parametrize("accept", ZIPS)
def test_whether_a_zip_is_preferred(accept: str | None) -> None:
    """RFC 9110 12.4.2: the larger weight, then what is named before what is not, then the first."""
    ranges = parse_accept(accept or "")
    assert prefers_zip(ranges, STUDY) is ZIPS[accept]
    assert prefers_zip(ranges, SERIES) is ZIPS[accept]
    assert not any(prefers_zip(ranges, other) for other in ALL if other not in (STUDY, SERIES))


def test_what_there_is_is_said() -> None:
    """To somebody who asked for something else."""
    for retrieval, offer in (
        (STUDY, "multipart/related or application/zip."),
        (INSTANCE, "try multipart/related."),
    ):
        with pytest.raises(NotAcceptable) as refused:
            upstream_accept("text/html", retrieval)
        assert offer in refused.value.diagnostics


def test_the_weight_of_anything_stays() -> None:
    assert (
        upstream_accept("image/png, */*;q=0.1", RENDERED)
        == "image/png, image/jpeg;q=0.1, image/gif;q=0.01"
    )


def test_a_quoted_value_stays_one_value() -> None:
    assert parse_accept(upstream_accept('application/dicom; type="a b"', INSTANCE))


JSON_ANSWERS: dict[str | None, bool] = {
    None: True, "": True, "*/*": True, "application/*": True, "application/json": True,
    "application/dicom+json": True,
    "application/dicom+json, application/json": True, "Application/JSON; charset=utf-8": True,
    "text/html, */*;q=0.1": True, "application/dicom+json;q=0, */*": True,
    "application/dicom+xml": False, "multipart/related; type=application/dicom+xml": False,
    "image/*": False,
    "*/*;q=0": False, "*/*;q=0.0": False,
    "application/json;q=0.00, application/dicom+json;q=0.000": False,
    "application/jsonp": False, "text/json": False, "json/application": False,
}  # fmt: skip


@pytest.mark.parametrize("accept", JSON_ANSWERS)
def test_whether_json_will_do(accept: str | None) -> None:
    assert accepts_json(accept) is JSON_ANSWERS[accept]


def test_zero_with_a_point_is_zero() -> None:
    assert not accepts_json("application/json;q=0.")


TOKENS = st.sampled_from(["application", "multipart", "image", "dicom", "related", "*",
    "octet-stream", "jpeg",
"svg+xml",
                          "dicom+xml", "zip", "dicom+json", "x"])  # fmt: skip
VALUES = st.sampled_from(
    [
        "application/dicom",
        "application/octet-stream",
        "image/jpeg",
        "image/svg+xml",
        "*",
        "1.2.840",
        "x",
    ]
)


@st.composite
def accept_headers(draw: st.DrawFn) -> str:
    ranges = []
    for _ in range(draw(st.integers(0, 4))):
        one = f"{draw(TOKENS)}/{draw(TOKENS)}"
        for name in draw(
            st.lists(st.sampled_from(["type", "transfer-syntax", "charset", "q"]), max_size=3)
        ):
            value = draw(VALUES if name != "q" else st.sampled_from(["0", "1", "0.5", "0.123"]))
            space, quote = draw(st.sampled_from(["", " "])), draw(st.sampled_from(["", '"']))
            one += f"{space};{space}{name}={quote}{value}{quote}"
        ranges.append(one)
    return ",".join(ranges)


@example("application/octet-stream;type=application/dicom", FRAMES)
@given(accept_headers(), st.sampled_from(ALL))
def test_what_is_built_reads_the_same_again_and_asks_for_nothing_unsafe(
    accept: str, retrieval: Retrieval
) -> None:
    try:
        built = upstream_accept(accept, retrieval)
    except (BadRequest, NotAcceptable):
        return
    ranges = parse_accept(built)
    assert ranges
    assert ", ".join(map(str, ranges)) == built
    assert upstream_accept(built, retrieval) == built
    assert not any(bad in built for bad in ("zip", "xml", "svg", "html", "charset", "\r", "\n"))
    names = {name for one in ranges for name, _ in one.parameters}
    assert names <= {"type", "transfer-syntax"}


@given(st.text(max_size=60), st.sampled_from(ALL))
def test_any_text_is_a_header_or_refused(accept: str, retrieval: Retrieval) -> None:
    try:
        built = upstream_accept(accept, retrieval)
    except (BadRequest, NotAcceptable):
        return
    assert built.isascii()
    assert built.isprintable()


@given(accept_headers())
def test_ranges_survive_being_written(accept: str) -> None:
    try:
        ranges = parse_accept(accept)
    except BadRequest:
        return
    assert parse_accept(", ".join(map(str, ranges))) == ranges


def test_parameters_are_read_by_name() -> None:
    (one,) = parse_accept('multipart/related; type="application/dicom"; transfer-syntax=*; q=0.5')
    assert one == MediaRange(
        "multipart/related", (("type", "application/dicom"), ("transfer-syntax", "*")), "0.5"
    )
    assert one.parameter("type") == "application/dicom"
    assert one.parameter("q") is None


@pytest.mark.parametrize("kind", Kind)
def test_which_media_types_a_part_may_have(kind: Kind) -> None:
    """Instances in a multipart of instances, images and octets elsewhere; never what a browser
    would run.
    """
    instances = kind in (Kind.STUDY, Kind.SERIES, Kind.INSTANCE)
    assert may_be_part("application/dicom", kind) is instances
    drawn = kind in (Kind.RENDERED, Kind.THUMBNAIL)
    assert may_be_part("application/octet-stream", kind) is not (instances or drawn)
    for pixels in ("image/jpeg", "image/jls", "image/jp2", "video/mp4"):
        assert may_be_part(pixels, kind) is not instances
    for never in ("", "text/html", "image/svg+xml", "application/dicom+xml", "application/xml",
        "application/zip",
                  "multipart/related", "text/xml", "model/x3d+xml",
                  "application/dicom+json"):  # fmt: skip
        assert not may_be_part(never, kind)
    assert may_be_part("application/pdf", kind) is (kind in (Kind.BULKDATA, Kind.RENDERED))
    for model in ("model/stl", "model/obj", "model/mtl"):
        assert may_be_part(model, kind) is (kind is Kind.BULKDATA)


@pytest.mark.parametrize(
    "media_type", ["image/x+xml", "video/x+xml", "image/*", "video/*", "image/x", "image/svgz"]
)
def test_no_xml_by_another_name(media_type: str) -> None:
    assert not may_be_part(media_type, Kind.FRAMES)
