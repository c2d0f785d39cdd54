"""The path grammar: all forms of DICOMweb that we have, and everything else refused (SIA-42; attack
class "Path").
"""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest, NotFound
from sidecar.dicomweb.paths import MAXIMUM_FRAMES, OBJECTS, Kind, Query, Retrieval, parse
from sidecar.pacs.dialects import DIALECTS
from tests.tables.paths import (
    INSTANCE,
    NO_FORM,
    NO_UID,
    OF_INSTANCE,
    OF_SERIES,
    OF_STUDY,
    SERIES,
    STUDY,
)

ROOT = "http://pacs.example.org:8042/dicom-web"
WHOLE_STUDY, WHOLE_SERIES, WHOLE_INSTANCE = (
    Part(STUDY),
    Part(STUDY, SERIES),
    Part(STUDY, SERIES, INSTANCE),
)

FORMS: dict[str, Retrieval | Query] = {
    OF_STUDY: Retrieval(Kind.STUDY, WHOLE_STUDY),
    OF_SERIES: Retrieval(Kind.SERIES, WHOLE_SERIES),
    OF_INSTANCE: Retrieval(Kind.INSTANCE, WHOLE_INSTANCE),
    f"{OF_INSTANCE}/frames/1": Retrieval(Kind.FRAMES, WHOLE_INSTANCE, (1,)),
    f"{OF_INSTANCE}/frames/1,2,30": Retrieval(Kind.FRAMES, WHOLE_INSTANCE, (1, 2, 30)),
    f"{OF_INSTANCE}/frames/3/rendered": Retrieval(Kind.RENDERED, WHOLE_INSTANCE, (3,)),
    f"{OF_INSTANCE}/frames/3,4/thumbnail": Retrieval(Kind.THUMBNAIL, WHOLE_INSTANCE, (3, 4)),
    f"{OF_INSTANCE}/bulkdata/7FE00010": Retrieval(
        Kind.BULKDATA, WHOLE_INSTANCE, steps=("7FE00010",)
    ),
    f"{OF_INSTANCE}/bulkdata/PixelData": Retrieval(
        Kind.BULKDATA, WHOLE_INSTANCE, steps=("PixelData",)
    ),
    f"{OF_INSTANCE}/bulkdata/00480105/1/00480200": Retrieval(
        Kind.BULKDATA, WHOLE_INSTANCE, steps=("00480105", "1", "00480200")
    ),
    "studies": Query("studies"),
    "series": Query("series"),
    "instances": Query("instances"),
    f"{OF_STUDY}/series": Query("series", STUDY),
    f"{OF_STUDY}/instances": Query("instances", STUDY),
    f"{OF_SERIES}/instances": Query("instances", STUDY, SERIES),
    f"series/{SERIES}/instances": Query("instances", series=SERIES),
}
for _path, _part in (
    (OF_STUDY, WHOLE_STUDY),
    (OF_SERIES, WHOLE_SERIES),
    (OF_INSTANCE, WHOLE_INSTANCE),
):
    for _kind in ("metadata", "rendered", "thumbnail", "bulkdata", "pixeldata"):
        FORMS[f"{_path}/{_kind}"] = Retrieval(Kind(_kind), _part)


@pytest.mark.parametrize("path", FORMS)
def test_each_form_is_read_and_written_the_same(path: str) -> None:
    assert parse(path.split("/")) == FORMS[path]
    assert FORMS[path].url(ROOT) == f"{ROOT}/{path}"


def test_the_kinds_that_bring_instances() -> None:
    """A kind that is missing here would be streamed without a look into it."""
    assert {Kind.STUDY, Kind.SERIES, Kind.INSTANCE} == OBJECTS


@pytest.mark.parametrize("path", NO_FORM)
def test_no_other_form_is_a_resource(path: str) -> None:
    with pytest.raises(NotFound):
        parse(path.split("/"))


def test_no_segments_are_no_resource() -> None:
    with pytest.raises(NotFound):
        parse([])


@pytest.mark.parametrize("uid", NO_UID)
def test_a_malformed_uid_is_refused_at_every_level(uid: str) -> None:
    """Lists, wildcards, padding, other digits, 129 characters: each could mean another study to
    another parser.
    """
    levels = ("studies/{}", f"{OF_STUDY}/series/{{}}", f"{OF_SERIES}/instances/{{}}")
    for where, below in itertools.product(levels, ("", "/metadata")):
        segments = [uid if one == "{}" else one for one in (where + below).split("/")]
        with pytest.raises(BadRequest) as refused:
            parse(segments)
        assert uid == "" or uid not in refused.value.diagnostics or len(uid) < 4, segments


@pytest.mark.parametrize(
    "uid", ["7", "0", "00", "1.02", "01.2", "1.2.840.0113.5", "1." + "2" * 63, "1." + "2" * 126]
)
def test_a_uid_that_breaks_the_standard_passes_to_the_letter(uid: str) -> None:
    """PS3.5 9.1 has 64 characters, and no leading zeros; archives have such studies."""
    path = f"studies/{uid}/series/{uid}/instances/{uid}/frames/1"
    resource = parse(path.split("/"))
    assert resource == Retrieval(Kind.FRAMES, Part(uid, uid, uid), (1,))
    assert resource.url(ROOT) == f"{ROOT}/{path}"


@pytest.mark.parametrize("uid", ["..", "1/2", "1..2", "", "x"])
def test_no_url_is_written_with_what_is_no_uid(uid: str) -> None:
    """Such may come from an archive's row."""
    with pytest.raises(ValueError, match="no URL has such a UID"):
        Retrieval(Kind.SERIES, Part("1.2", uid)).url(ROOT)


@pytest.mark.parametrize(
    "frames",
    [
        "",
        "0",
        "-1",
        "+1",
        "01",
        "1,",
        ",1",
        "1,,2",
        "1, 2",
        "1;2",
        "1-3",
        "a",
        "*",
        "1.0",
        "１",
        "1\n",
        "12345678",
        ",".join(map(str, range(1, MAXIMUM_FRAMES + 2))),
    ],
)
@pytest.mark.parametrize("below", ["", "/rendered", "/thumbnail"])
def test_a_malformed_frame_list_is_refused(frames: str, below: str) -> None:
    with pytest.raises(BadRequest):
        parse([*OF_INSTANCE.split("/"), "frames", frames, *filter(None, [below.strip("/")])])


def test_as_many_frames_as_allowed_pass() -> None:
    frames = tuple(range(1, MAXIMUM_FRAMES + 1))
    resource = parse([*OF_INSTANCE.split("/"), "frames", ",".join(map(str, frames))])
    assert isinstance(resource, Retrieval)
    assert resource.frames == frames
    assert resource.url(ROOT).endswith("," + str(MAXIMUM_FRAMES))


@pytest.mark.parametrize("below", ["", "/rendered"])
@pytest.mark.parametrize("frames", ["2,1", "1,3,2"])
def test_frames_may_stand_in_any_order(frames: str, below: str) -> None:
    """PS3.18 asks for numbers without duplicates, not for an order; and no list may be a fault of
    our own.
    """
    path = f"{OF_INSTANCE}/frames/{frames}{below}"
    assert parse(path.split("/")).url(ROOT) == f"{ROOT}/{path}"


def test_a_frame_that_stands_twice_is_refused() -> None:
    """PS3.18 does not have duplicates."""
    with pytest.raises(BadRequest, match="bad_frames"):
        parse([*OF_INSTANCE.split("/"), "frames", "1,1"])


def test_the_bulk_data_of_orthanc_has_another_name() -> None:
    """Seen on Orthanc 1.10.1 with DICOMweb 1.7: its metadata names ``…/bulk/7fe00010`` and it has
    no ``…/bulkdata``.
    """
    resource = parse([*OF_INSTANCE.split("/"), "bulkdata", "7fe00010"])
    assert isinstance(resource, Retrieval)
    assert resource.url(ROOT) == f"{ROOT}/{OF_INSTANCE}/bulkdata/7fe00010"
    assert (
        resource.url(ROOT, bulkdata=DIALECTS["orthanc"].bulkdata)
        == f"{ROOT}/{OF_INSTANCE}/bulk/7fe00010"
    )


UIDS = st.lists(st.integers(0, 10**9).map(str), min_size=2, max_size=6).map(".".join)
ASCENDING_FRAMES = st.lists(st.integers(1, 9_999_999), min_size=1, max_size=8, unique=True).map(
    lambda numbers: ",".join(map(str, sorted(numbers)))
)
STEPS = st.sampled_from(["7FE00010", "7fe00010", "00480105", "1", "99999", "0"])
WORDS = st.sampled_from(
    ["studies", "series", "instances", "frames", "bulkdata", *(kind.value for kind in Kind)]
)
SEGMENTS = st.lists(
    st.one_of(WORDS, UIDS, ASCENDING_FRAMES, STEPS, st.text(max_size=8)), max_size=12
)
LIKELY = st.builds(
    lambda study, series, instance, rest: [
        "studies",
        study,
        "series",
        series,
        "instances",
        instance,
        *rest,
    ],
    UIDS,
    UIDS,
    UIDS,
    SEGMENTS.map(lambda found: found[:4]),
)
_OUR_ALPHABET = re.compile(r"[A-Za-z0-9.,/]*", re.ASCII)


@given(
    st.one_of(
        SEGMENTS, LIKELY, LIKELY.map(lambda found: found[:5]), LIKELY.map(lambda found: found[:3])
    )
)
def test_any_path_is_a_value_that_writes_itself_back_or_is_refused(segments: list[str]) -> None:
    """No byte of the client's spelling is left over: what is sent upstream reads as the same value
    again.
    """
    try:
        resource = parse(segments)
    except (NotFound, BadRequest):
        return
    url = resource.url(ROOT)
    path = url.removeprefix(ROOT + "/")
    assert path != url
    assert _OUR_ALPHABET.fullmatch(path)
    assert ".." not in path
    assert parse(path.split("/")) == resource
    assert "/".join(segments) == path


@given(UIDS, UIDS, UIDS)
def test_what_is_checked_is_what_is_fetched(study: str, series: str, instance: str) -> None:
    """The part that the decision is made on has the very UIDs that stand in the PACS's URL."""
    resource = parse(["studies", study, "series", series, "instances", instance, "rendered"])
    assert isinstance(resource, Retrieval)
    assert resource.part == Part(study, series, instance)
    assert (
        resource.url(ROOT)
        == f"{ROOT}/studies/{study}/series/{series}/instances/{instance}/rendered"
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("studies/1.2", True),
        ("studies/1.2/series/1.3", True),
        ("studies/1.2/metadata", True),
        ("studies/1.2/series/1.3/metadata", True),
        ("studies/1.2/series/1.3/instances/1.4", False),
        ("studies/1.2/series/1.3/instances/1.4/metadata", False),
        ("studies/1.2/rendered", False),
        ("studies/1.2/pixeldata", False),
        ("studies/1.2/bulkdata", False),
        ("studies/1.2/thumbnail", False),
        ("studies/1.2/series/1.3/instances/1.4/frames/1", False),
    ],
)
def test_what_is_whole(path: str, expected: bool) -> None:
    retrieval = parse(path.split("/"))
    assert isinstance(retrieval, Retrieval)
    assert retrieval.is_whole is expected
