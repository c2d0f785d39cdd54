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

ROOT = "https://imaging.example.org/fhir/Patient/p1/$wado-rs"
PACS = "http://pacs.internal:8042/dicom-web"
STUDY, SERIES, INSTANCE = (
    "studies/1.2",
    "studies/1.2/series/1.3",
    "studies/1.2/series/1.3/instances/1.4",
)
OWN = Part("1.2", "1.3", "1.4")
PDF = "00420011"
GOOGLE = (
    "https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/dicomStores/s/dicomWeb"
)

# What the archive wrote of the instance, by the archive or form: below our root, then below the
# archive's.
TABLE: dict[str, tuple[str, str, str]] = {
    "Orthanc": (f"{PACS}/{INSTANCE}/bulk/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulk/{PDF}"),
    "Orthanc, in a sequence": (f"{PACS}/{INSTANCE}/bulk/00400260/1/{PDF}",
        f"{INSTANCE}/bulkdata/00400260/1/{PDF}",
                               f"{INSTANCE}/bulk/00400260/1/{PDF}"),
    "Orthanc, private": (f"{PACS}/{INSTANCE}/bulk/00091001", f"{INSTANCE}/bulkdata/00091001",
                         f"{INSTANCE}/bulk/00091001"),
    "dcm4chee": (f"http://pacs:8080/dcm4chee-arc/aets/DCM4CHEE/rs/{INSTANCE}/bulkdata/{PDF}",
                 f"{INSTANCE}/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}"),
    "dcm4chee, study bulk data": (f"{PACS}/{STUDY}/bulkdata/series/1.3/instances/1.4",
        f"{INSTANCE}/bulkdata",
                                  f"{INSTANCE}/bulkdata"),
    "dcm4chee, study bulk data, an attribute": (
        f"{PACS}/{STUDY}/bulkdata/series/1.3/instances/1.4/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}"),
    "dcm4chee, series pixel data, a frame": (
        f"{PACS}/{SERIES}/pixeldata/instances/1.4/frames/2", f"{INSTANCE}/frames/2",
        f"{INSTANCE}/frames/2"),
    "Google": (f"{GOOGLE}/{INSTANCE}/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}"),
    "by path": (f"/dicom-web/{INSTANCE}/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}"),
    "without scheme": (f"//pacs/{INSTANCE}/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}"),
    "relative to the root": (f"{INSTANCE}/frames/1", f"{INSTANCE}/frames/1",
        f"{INSTANCE}/frames/1"),
    "relative to the study": (f"series/1.3/instances/1.4/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}",
                              f"{INSTANCE}/bulkdata/{PDF}"),
    "relative to the series": (f"instances/1.4/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
                               f"{INSTANCE}/bulkdata/{PDF}"),
    "static-dicomweb's frames": ("instances/1.4/frames/1", f"{INSTANCE}/frames/1",
        f"{INSTANCE}/frames/1"),
    "relative to the instance": (f"bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}"),
    "with a dot": (f"./bulkdata/00480105/1/{PDF}", f"{INSTANCE}/bulkdata/00480105/1/{PDF}",
                   f"{INSTANCE}/bulkdata/00480105/1/{PDF}"),
    "up to the series": (f"../../instances/1.4/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
                         f"{INSTANCE}/bulkdata/{PDF}"),
    "up to the study": (f"../../series/1.3/instances/1.4/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}",
                        f"{INSTANCE}/bulkdata/{PDF}"),
    "up to the root": (f"../../../../{INSTANCE}/bulkdata/{PDF}", f"{INSTANCE}/bulkdata/{PDF}",
                       f"{INSTANCE}/bulkdata/{PDF}"),
    "dots in a whole URL": (f"{PACS}/{SERIES}/../1.3/instances/1.4/bulkdata/{PDF}",
        f"{INSTANCE}/bulkdata/{PDF}",
                            f"{INSTANCE}/bulkdata/{PDF}"),
    "a slash at the end": (f"{PACS}/{INSTANCE}/bulkdata/{PDF}/", f"{INSTANCE}/bulkdata/{PDF}",
                           f"{INSTANCE}/bulkdata/{PDF}"),
    "by keyword": ("bulkdata/EncapsulatedDocument", f"{INSTANCE}/bulkdata/EncapsulatedDocument",
                   f"{INSTANCE}/bulkdata/EncapsulatedDocument"),
    "by keyword, in a sequence": (
        f"{PACS}/{INSTANCE}/bulkdata/IconImageSequence/1/PixelData",
        f"{INSTANCE}/bulkdata/IconImageSequence/1/PixelData",
        f"{INSTANCE}/bulkdata/IconImageSequence/1/PixelData"),
    "with a media type": (f"{PACS}/{INSTANCE}/bulkdata/{PDF}?accept=application/pdf",
                          f"{INSTANCE}/bulkdata/{PDF}?accept=application/pdf",
                          f"{INSTANCE}/bulkdata/{PDF}"),
    "relative, with a media type": (f"bulkdata/{PDF}?x=1&accept=application%2Fpdf",
                                    f"{INSTANCE}/bulkdata/{PDF}?accept=application/pdf",
                                    f"{INSTANCE}/bulkdata/{PDF}"),
    "a media type that we do not serve": (f"bulkdata/{PDF}?accept=text/html",
        f"{INSTANCE}/bulkdata/{PDF}",
                                          f"{INSTANCE}/bulkdata/{PDF}"),
    "another query": (f"{PACS}/{INSTANCE}/bulkdata/{PDF}?v=2&sig=pacs.internal",
        f"{INSTANCE}/bulkdata/{PDF}",
                      f"{INSTANCE}/bulkdata/{PDF}"),
    "rendered": (f"{PACS}/{INSTANCE}/rendered", f"{INSTANCE}/rendered", f"{INSTANCE}/rendered"),
}  # fmt: skip

DROPPED: dict[str, tuple[object, str]] = {
    "another host": ("http://elsewhere/x", "host"),
    "another scheme": ("file:///etc/passwd", "host"),
    "a script": ("javascript:alert(1)", "host"),
    "a scheme alone": (f"http:bulkdata/{PDF}", "host"),
    "another host's bulk data": (f"//pacs/bulkdata/{PDF}", "host"),
    "a file with a place in it": ("file:/archive/1.dcm?offset=1234&length=10", "host"),
    "another study": (f"{PACS}/studies/9.9/series/1.3/instances/1.4/bulkdata/{PDF}", "study"),
    "another study, relative": (f"../../../../9.9/series/1.3/instances/1.4/bulkdata/{PDF}",
        "study"),
    "another study, study bulk data": (f"{PACS}/studies/9.9/bulkdata/series/1.3/instances/1.4",
        "study"),
    "another series": (f"series/9.9/instances/1.4/bulkdata/{PDF}", "instance"),
    "another instance": (f"{PACS}/{SERIES}/instances/9.9/bulkdata/{PDF}", "instance"),
    "another instance, up": (f"../../instances/9.9/bulkdata/{PDF}", "instance"),
    "static-dicomweb's hash": ("../../bulkdata/6ab12ef3.mp", "unattributed"),
    "static-dicomweb's hash, in folders": ("../../bulkdata/6ab/12/ef345.mp.gz", "unattributed"),
    "a hash by its URL": (f"{PACS}/{STUDY}/bulkdata/6ab12ef3.mp", "unattributed"),
    "a hash of the series": (f"{PACS}/{SERIES}/bulkdata/6ab12ef3.mp", "unattributed"),
    "a tag of whichever instance": (f"../../bulkdata/{PDF}", "unattributed"),
    "all of the study": (f"{PACS}/{STUDY}/bulkdata", "unattributed"),
    "by path, no DICOMweb": (f"/bulkdata/{PDF}", "path"),
    "nothing of ours": ("nonsense", "path"),
    "no attribute": ("bulkdata/x", "path"),
    "a keyword in small letters": ("bulkdata/pixeldata", "path"),
    "above the root": ("../" * 7 + "bulkdata", "path"),
    "in and out": ("bulkdata/../../x", "path"),
    "the metadata": (f"{PACS}/{INSTANCE}/metadata", "path"),
    "the study": (f"{PACS}/{STUDY}", "path"),
    "a piece of a value": (f"bulkdata/{PDF}?offset=10&length=5", "query"),
    "a frame of a value": (f"{PACS}/{INSTANCE}/bulkdata/7FE00010?frameNumber=2", "query"),
    "a query of many parameters": (f"bulkdata/{PDF}?" + "&".join(["x=1"] * 50), "query"),
    "percent-encoded": (f"bulkdata%2F{PDF}", "path"),
    "a fragment": (f"bulkdata/{PDF}#x", "malformed"),
    "a backslash": (f"..\\bulkdata/{PDF}", "malformed"),
    "a line end": (f"bulkdata/{PDF}\r\nX: y", "malformed"),
    "another script": ("bulkdata/\uff100420011", "malformed"),
    "too long": ("bulkdata/" + "x" * 2_048, "malformed"),
    "empty": ("", "malformed"), "null": (None, "malformed"), "a number": (1, "malformed"),
    "a list": ([], "malformed"),
}  # fmt: skip


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


SEGMENTS = st.sampled_from([
    "..", ".", "", "studies", "series", "instances", "1.2", "1.3", "1.4", "9.9", "bulkdata", "bulk",
    "frames", "1",
    PDF, "PixelData", "rendered", "x", "http:",
])  # fmt: skip


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
