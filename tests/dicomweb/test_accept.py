"""Accept headers: taken apart, built anew, and nothing asked for that we cannot vouch for (SIA-40,
SIA-41).
"""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
from sidecar.dicomweb.upstream_accept import accepted_types, is_single, prefers_zip
from tests.tables.accept import (
    ALL,
    AS_STORED,
    BUILT,
    BULKDATA,
    FRAMES,
    INSTANCE,
    JSON_ANSWERS,
    MALFORMED,
    OCTETS,
    ONE,
    ONE_RANGE,
    PDF,
    PIXELDATA,
    REFUSED,
    RENDERED,
    STUDY,
    ZIPS,
)

TWO_FRAMES = Retrieval(Kind.FRAMES, ONE, (1, 2))


@pytest.mark.parametrize("what", BUILT)
def test_what_the_pacs_is_asked_for(what: str) -> None:
    accept, retrieval, expected = BUILT[what]
    assert accepted_types(accept, retrieval).upstream == expected


@pytest.mark.parametrize("what", ONE_RANGE)
def test_an_archive_that_reads_one_range_gets_the_best(what: str) -> None:
    """Orthanc 1.10 takes what follows ``transfer-syntax=*`` for a part of its value, and draws for
    no list.
    """
    accept, retrieval, expected = ONE_RANGE[what]
    assert accepted_types(accept, retrieval, one_range=True).upstream == expected


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
}


@pytest.mark.parametrize("what", SINGLE)
def test_whether_one_thing_alone_is_wanted(what: str) -> None:
    accept, retrieval, expected = SINGLE[what]
    assert is_single(parse_accept(accept or ""), retrieval.kind, len(retrieval.frames)) is expected


@pytest.mark.parametrize(
    ("accept", "retrieval"), REFUSED, ids=lambda value: getattr(value, "kind", value)
)
def test_what_cannot_be_had_is_406(accept: str, retrieval: Retrieval) -> None:
    with pytest.raises(NotAcceptable):
        accepted_types(accept, retrieval)


@pytest.mark.parametrize("accept", MALFORMED, ids=lambda accept: repr(accept[:30]))
def test_malformed_headers_are_400_for_every_resource(accept: str) -> None:
    for retrieval in ALL:
        with pytest.raises(BadRequest):
            accepted_types(accept, retrieval)


@pytest.mark.parametrize("accept", MALFORMED[:-2], ids=lambda accept: repr(accept[:30]))
def test_a_malformed_range_takes_nothing_from_a_good_one(accept: str) -> None:
    assert parse_accept(f"image/png, {accept}") == (MediaRange("image/png"),)


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
    assert parse_accept(accept)[0].name == "image/png"


def test_the_default_header_of_java_is_understood() -> None:
    """What Java's HttpURLConnection sends when its program sets none."""
    assert (
        accepted_types("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", STUDY).upstream
        == AS_STORED + ";q=0.2"
    )


@pytest.mark.parametrize(
    "accept", ["*/*;q=0", "text/html, */*;q=0.000", "multipart/*;q=0", "application/zip;q=0.0"]
)
def test_what_the_client_refuses_is_not_sent(accept: str) -> None:
    """RFC 9110 12.4.2: a weight of 0 means not acceptable."""
    with pytest.raises(NotAcceptable):
        accepted_types(accept, STUDY)


@pytest.mark.parametrize("accept", ZIPS)
def test_whether_a_zip_is_preferred(accept: str | None) -> None:
    """RFC 9110 12.4.2: the larger weight, then what is named before what is not, then the first."""
    ranges = parse_accept(accept or "")
    assert prefers_zip(ranges, Kind.STUDY) is ZIPS[accept]
    assert prefers_zip(ranges, Kind.SERIES) is ZIPS[accept]
    assert not any(
        prefers_zip(ranges, kind) for kind in Kind if kind not in (Kind.STUDY, Kind.SERIES)
    )


def test_what_there_is_is_said() -> None:
    """To somebody who asked for something else."""
    for retrieval, offer in (
        (STUDY, "multipart/related or application/zip."),
        (INSTANCE, "try multipart/related."),
    ):
        with pytest.raises(NotAcceptable) as refused:
            accepted_types("text/html", retrieval)
        assert offer in refused.value.diagnostics


def test_the_weight_of_anything_stays() -> None:
    assert (
        accepted_types("image/png, */*;q=0.1", RENDERED).upstream
        == "image/png, image/jpeg;q=0.1, image/gif;q=0.01"
    )


def test_a_quoted_value_stays_one_value() -> None:
    assert parse_accept(accepted_types('application/dicom; type="a b"', INSTANCE).upstream)


@pytest.mark.parametrize("accept", JSON_ANSWERS)
def test_whether_json_will_do(accept: str | None) -> None:
    assert accepts_json(accept) is JSON_ANSWERS[accept]


def test_zero_with_a_point_is_zero() -> None:
    assert not accepts_json("application/json;q=0.")


TOKENS = st.sampled_from(
    [
        "application",
        "multipart",
        "image",
        "dicom",
        "related",
        "*",
        "octet-stream",
        "jpeg",
        "svg+xml",
        "dicom+xml",
        "zip",
        "dicom+json",
        "x",
    ]
)
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
        built = accepted_types(accept, retrieval).upstream
    except (BadRequest, NotAcceptable):
        return
    ranges = parse_accept(built)
    assert ranges
    assert ", ".join(map(str, ranges)) == built
    assert accepted_types(built, retrieval).upstream == built
    assert not any(bad in built for bad in ("zip", "xml", "svg", "html", "charset", "\r", "\n"))
    names = {name for one in ranges for name, _ in one.parameters}
    assert names <= {"type", "transfer-syntax"}


@given(st.text(max_size=60), st.sampled_from(ALL))
def test_any_text_is_a_header_or_refused(accept: str, retrieval: Retrieval) -> None:
    try:
        built = accepted_types(accept, retrieval).upstream
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
    for never in (
        "",
        "text/html",
        "image/svg+xml",
        "application/dicom+xml",
        "application/xml",
        "application/zip",
        "multipart/related",
        "text/xml",
        "model/x3d+xml",
        "application/dicom+json",
    ):
        assert not may_be_part(never, kind)
    assert may_be_part("application/pdf", kind) is (kind in (Kind.BULKDATA, Kind.RENDERED))
    for model in ("model/stl", "model/obj", "model/mtl"):
        assert may_be_part(model, kind) is (kind is Kind.BULKDATA)


@pytest.mark.parametrize(
    "media_type", ["image/x+xml", "video/x+xml", "image/*", "video/*", "image/x", "image/svgz"]
)
def test_no_xml_by_another_name(media_type: str) -> None:
    assert not may_be_part(media_type, Kind.FRAMES)
