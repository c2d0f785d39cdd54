"""BulkDataURIs: as the archive wrote it -> what the client sees -> what the archive is asked
(PS3.18 F.2.2).
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.dicomweb.bulkdata_uris import REASONS, BulkDataUris
from sidecar.dicomweb.paths import Retrieval, parse
from sidecar.dicomweb.rewrite import our_url
from sidecar.pacs.dialects import DIALECTS
from tests.tables.bulkdata_uris import DROPPED, INSTANCE, PACS, PDF, SERIES, STUDY, TABLE

ROOT = "https://imaging.example.org/fhir/Patient/p1/$wado-rs"
OWN = Part("1.2", "1.3", "1.4")


@pytest.mark.parametrize("what", TABLE)
def test_what_the_client_sees_and_what_the_archive_is_asked(what: str) -> None:
    written, ours, asked = TABLE[what]
    dropped: Counter[str] = Counter()
    assert BulkDataUris(ROOT, OWN, dropped).ours(PDF, written) == f"{ROOT}/{ours}"
    assert not dropped
    # What the client asks then is decided on for this instance, and reaches the archive there.
    retrieval = parse(ours.partition("?")[0].split("/"))
    assert isinstance(retrieval, Retrieval)
    assert retrieval.part == OWN
    dialect = DIALECTS["orthanc" if "Orthanc" in what else "generic"]
    assert retrieval.url(PACS, bulkdata=dialect.bulkdata) == f"{PACS}/{asked}"


@pytest.mark.parametrize("what", DROPPED)
def test_what_cannot_be_rewritten_is_counted_with_its_reason(what: str) -> None:
    written, reason = DROPPED[what]
    dropped: Counter[str] = Counter()
    assert BulkDataUris(ROOT, OWN, dropped).ours(PDF, written) is None
    assert dropped == {reason: 1}
    assert reason in REASONS


def test_every_reason_has_an_example() -> None:
    assert {reason for _, reason in DROPPED.values()} == set(REASONS)


@pytest.mark.parametrize("part", [Part("1.2"), Part("1.2", "1.3")])
def test_a_row_that_names_no_instance(part: Part) -> None:
    """What is relative to the instance leads nowhere; what names one of the study is decided on as
    it is asked for.
    """
    uris = BulkDataUris(ROOT, part)
    assert uris.ours(PDF, f"bulkdata/{PDF}") is None
    assert (
        uris.ours(PDF, f"{PACS}/{INSTANCE}/bulkdata/{PDF}") == f"{ROOT}/{INSTANCE}/bulkdata/{PDF}"
    )
    assert uris.ours(PDF, f"{PACS}/studies/9.9/series/1.3/instances/1.4/bulkdata/{PDF}") is None


LOCATIONS: dict[str, str] = {
    f"{PACS}/{STUDY}/bulkdata/series/1.3/instances/1.4": f"{INSTANCE}/bulkdata",
    f"{PACS}/{SERIES}/bulkdata/instances/1.4": f"{INSTANCE}/bulkdata",
    f"{PACS}/{STUDY}/bulkdata/series/1.3": f"{SERIES}/bulkdata",
    f"{PACS}/{STUDY}/rendered/series/1.3/instances/1.4": f"{INSTANCE}/rendered",
    f"{PACS}/{STUDY}/pixeldata/series/1.3/instances/1.4/frames/3": f"{INSTANCE}/frames/3",
    f"{PACS}/{STUDY}/pixeldata/series/1.3/instances/1.4/pixeldata": f"{INSTANCE}/pixeldata",
}


@pytest.mark.parametrize("url", LOCATIONS)
def test_a_part_of_a_study_says_which_instance_it_is_of(url: str) -> None:
    """The Content-Location of dcm4chee."""
    assert our_url(url, ROOT) == f"{ROOT}/{LOCATIONS[url]}"


@pytest.mark.parametrize(
    "below",
    [
        "bulkdata/series",
        "bulkdata/series/x/instances/1.4",
        "metadata/series/1.3/instances/1.4",
        "bulkdata/series/1.3/instances/1.4/x",
    ],
)
def test_other_orders_are_no_resource(below: str) -> None:
    assert our_url(f"{PACS}/{STUDY}/{below}", ROOT) is None


SEGMENTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "studies",
        "series",
        "instances",
        "1.2",
        "1.3",
        "1.4",
        "9.9",
        "bulkdata",
        "bulk",
        "frames",
        "1",
        PDF,
        "PixelData",
        "rendered",
        "x",
        "http:",
    ]
)


@given(
    st.lists(SEGMENTS, max_size=12),
    st.sampled_from(["", "/", "//pacs/", f"{PACS}/", "?accept=application/pdf"]),
)
def test_whatever_is_written_what_is_left_is_of_this_instance(
    segments: list[str], around: str
) -> None:
    path = "/".join(segments)
    found = BulkDataUris(ROOT, OWN).ours(
        PDF, path + around if around.startswith("?") else around + path
    )
    if found is not None:
        retrieval = parse(found.removeprefix(ROOT + "/").partition("?")[0].split("/"))
        assert isinstance(retrieval, Retrieval)
        assert retrieval.part == OWN
