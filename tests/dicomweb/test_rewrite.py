"""DICOM JSON on its way out: no address of the archive in it, no notes of the archive (attack class
"Answers").
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.paths import parse
from sidecar.dicomweb.rewrite import (
    RETRIEVE_URL,
    TooDeep,
    is_archive_private,
    our_url,
    public_attributes,
    rewrite_row,
)

ROOT = "https://imaging.example.org/fhir/Patient/p1/$wado-rs"
PACS = "http://pacs.internal:8042/dicom-web"
INSTANCE = "studies/1.2/series/1.3/instances/1.4"
CONTEXT = f"{ROOT}/{INSTANCE}"
URIS = BulkDataUris(ROOT, Part("1.2", "1.3", "1.4"))

RESOURCES = [
    "studies/1.2",
    "studies/1.2/series/1.3",
    INSTANCE,
    f"{INSTANCE}/bulkdata/7FE00010",
    f"{INSTANCE}/frames/1",
    f"{INSTANCE}/frames/1,2",
    f"{INSTANCE}/bulkdata/00480105/1/00480200",
    f"{INSTANCE}/rendered",
    f"{INSTANCE}/metadata",
]


@pytest.mark.parametrize(
    "before",
    [
        f"{PACS}/",
        "https://pacs.internal/rs/",
        "//pacs.internal/rs/",
        "/dicom-web/",
        "../../",
        "./",
        "",
        "studies/",
        "http://pacs.internal:8080/dcm4chee-arc/aets/DCM4CHEE/rs/",
        "http://studies/dicom-web/",
        "http://user:pw@pacs/",
    ],
)
def test_a_url_of_the_archive_becomes_ours(before: str) -> None:
    for resource in RESOURCES:
        assert our_url(before + resource, ROOT) == f"{ROOT}/{resource}"
        assert our_url(before + resource + "/", ROOT) == f"{ROOT}/{resource}"


@pytest.mark.parametrize(
    "url",
    [
        None,
        True,
        1,
        1.5,
        [],
        {},
        ["studies/1.2"],
        b"studies/1.2",
        "",
        "/",
        PACS,
        "http://pacs.internal/",
        "patients/1",
        f"{PACS}/studies",
        f"{PACS}/studies/",
        f"{PACS}/studies/abc",
        f"{PACS}/mystudies/1.2",
        "xstudies/1.2",
        "STUDIES/1.2",
        f"{PACS}/studies/1.2?token=x",
        f"{PACS}/studies/1.2#x",
        f"{PACS}/studies/1.2/series/http://pacs.internal",
        f"{PACS}/studies/1.2/x%2Fy",
        f"{PACS}/studies/1.2/pacs.internal:8042",
        f"{PACS}/studies/1.2/a b",
        "studies/1.2//x",
        f"{PACS}/studies/1.2/\u0661",
        f"{PACS}/studies/1.2\\x",
        f"{PACS}/studies/1.2;x",
        f"{PACS}/studies/1.2/series/1.3\nX",
        "studies/" + "1." * 1_100 + "1",
        "javascript:alert(1)",
        "http://pacs.internal/wado?studyUID=1.2&objectUID=1.4",
    ],
    ids=repr,
)
def test_what_names_no_resource_is_dropped(url: object) -> None:
    assert our_url(url, ROOT) is None


@pytest.mark.parametrize(
    "below",
    ["pacs.internal", "..", "../../../x", "series/..", "nonsense", "studies/1.2", "series/x"],
)
def test_what_is_no_resource_of_ours_is_dropped(below: str) -> None:
    """A host in the path; dot segments would lead a client out of the patient's root."""
    assert our_url(f"{PACS}/studies/1.2/{below}", ROOT) is None


def test_values_of_url_attributes_are_ours() -> None:
    row = {
        RETRIEVE_URL: {
            "vr": "UR",
            "Value": [f"{PACS}/{INSTANCE}", "http://elsewhere/x", 1, None, f"{PACS}/studies/1.2"],
        },
        "0040E010": {"vr": "UR", "Value": ["http://elsewhere/x"]},
        "00080016": {"vr": "UI", "Value": ["1.2.3"]},
    }
    assert rewrite_row(row, ROOT) == {
        RETRIEVE_URL: {"vr": "UR", "Value": [f"{ROOT}/{INSTANCE}", f"{ROOT}/studies/1.2"]},
        "0040E010": {"vr": "UR"},
        "00080016": {"vr": "UI", "Value": ["1.2.3"]},
    }


def test_the_retrieve_url_is_known_by_its_tag() -> None:
    """Older archives write VR UT, or none."""
    for element in (
        {"vr": "UT", "Value": [f"{PACS}/studies/1.2"]},
        {"Value": [f"{PACS}/studies/1.2"]},
    ):
        assert rewrite_row({RETRIEVE_URL: element}, ROOT) == {
            RETRIEVE_URL: {"vr": "UR", "Value": [f"{ROOT}/studies/1.2"]}
        }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{PACS}/{INSTANCE}/bulkdata/7FE00010", f"{CONTEXT}/bulkdata/7FE00010"),
        (f"{PACS}/{INSTANCE}/frames/1", f"{CONTEXT}/frames/1"),
        ("bulkdata/7FE00010", f"{CONTEXT}/bulkdata/7FE00010"),
        ("./bulkdata/00480105/1/00480200", f"{CONTEXT}/bulkdata/00480105/1/00480200"),
        ("bulkdata", f"{CONTEXT}/bulkdata"),
    ],
)
def test_bulk_data_is_ours(url: str, expected: str) -> None:
    """Absolute, or relative to the instance that the row describes."""
    row = {"7FE00010": {"vr": "OW", "BulkDataURI": url, "Value": [f"{PACS}/x"]}}
    assert rewrite_row(row, ROOT, uris=URIS) == {"7FE00010": {"vr": "OW", "BulkDataURI": expected}}


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere/x",
        "file:///etc/passwd",
        "../bulkdata/7FE00010",
        "../../x",
        "bulkdata/../../x",
        "bulkdata/x",
        "/bulkdata/7FE00010",
        "//pacs/bulkdata/7FE00010",
        "http:bulkdata/7FE00010",
        "",
        None,
        1,
        [],
        {},
    ],
    ids=repr,
)
def test_bulk_data_elsewhere_is_dropped(url: object) -> None:
    row = {"7FE00010": {"vr": "OW", "BulkDataURI": url}}
    assert rewrite_row(row, ROOT, uris=URIS) == {"7FE00010": {"vr": "OW"}}


def test_relative_bulk_data_of_no_instance_is_dropped() -> None:
    assert rewrite_row({"7FE00010": {"BulkDataURI": "bulkdata/7FE00010"}}, ROOT) == {
        "7FE00010": {"vr": "UN"}
    }


def _nested(depth: int, inside: dict[str, Any]) -> dict[str, Any]:
    row = inside
    for _ in range(depth):
        row = {"00081110": {"vr": "SQ", "Value": [row]}}
    return row


def test_urls_inside_of_sequences_are_ours() -> None:
    inside = {"7FE00010": {"vr": "OB", "BulkDataURI": f"{PACS}/{INSTANCE}/bulkdata/7FE00010"}}
    written = json.dumps(rewrite_row(_nested(60, inside), ROOT))
    assert "pacs.internal" not in written
    assert f"{CONTEXT}/bulkdata/7FE00010" in written


@pytest.mark.parametrize("depth", [65, 300])
def test_too_many_sequences_are_refused(depth: int) -> None:
    with pytest.raises(TooDeep):
        rewrite_row(_nested(depth, {}), ROOT)


def test_the_row_itself_is_not_changed() -> None:
    """Rows are kept in caches that all callers share."""
    row = {
        RETRIEVE_URL: {"vr": "UR", "Value": [f"{PACS}/studies/1.2"]},
        **_nested(3, {RETRIEVE_URL: {"Value": [PACS]}}),
    }
    before = json.dumps(row)
    rewrite_row(row, ROOT)
    public_attributes(row)
    assert json.dumps(row) == before


RETRIEVABLE = st.sampled_from(
    [*RESOURCES, "", "studies", "x/y", "studies/1.2?x=pacs.internal", "wado?x=1"]
)
URLS = st.builds(
    lambda scheme, path, tail: f"{scheme}pacs.internal:8042/dicom-web/{path}{tail}",
    st.sampled_from(["http://", "https://", "//", "HTTP://", ""]),
    RETRIEVABLE,
    st.sampled_from(["", "/", "?a=b", "#c"]),
)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
)
TAGS = st.sampled_from([RETRIEVE_URL, "7FE00010", "00100020", "00081110", "0040E010", "00420011"])
ELEMENTS = st.recursive(
    st.one_of(
        st.builds(lambda values: {"vr": "UR", "Value": values}, st.lists(URLS, max_size=3)),
        st.builds(lambda url: {"vr": "OW", "BulkDataURI": url}, URLS),
        st.builds(lambda values: {"vr": "LO", "Value": values}, st.lists(PLAIN, max_size=3)),
        st.builds(lambda name: {"vr": "PN", "Value": [{"Alphabetic": name}]}, st.text(max_size=8)),
        st.just({"vr": "UI"}),
        st.just({"vr": "OB", "InlineBinary": "AAAA"}),
    ),
    lambda inner: st.builds(
        lambda items: {"vr": "SQ", "Value": items},
        st.lists(st.dictionaries(TAGS, inner, max_size=3), max_size=3),
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(TAGS.filter(lambda tag: tag != RETRIEVE_URL), ELEMENTS, max_size=6),
    st.lists(URLS, max_size=3),
)
def test_no_address_of_the_archive_survives(row: dict[str, Any], urls: list[str]) -> None:
    """Wherever the DICOM JSON Model (PS3.18 F.2) has a URL: every one of ours reads as a resource
    again.
    """
    written = json.dumps(
        rewrite_row({**row, RETRIEVE_URL: {"vr": "UR", "Value": urls}}, ROOT, uris=URIS)
    )
    assert "pacs.internal" not in written
    for rest in written.split(ROOT + "/")[1:]:
        assert parse(rest.partition('"')[0].split("/"))


ANYTHING = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["vr", "Value", "BulkDataURI", RETRIEVE_URL, "00081110", "x", ""]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
ROWS = st.dictionaries(
    st.sampled_from([RETRIEVE_URL, "00081110", "7FE00010", "", "x"]), ANYTHING, max_size=4
)


@pytest.mark.parametrize("value", [None, 5, 1.5, True])
def test_a_url_attribute_without_a_list_of_values_is_empty(value: object) -> None:
    """One odd attribute must not cost the whole answer (a query: 500)."""
    assert rewrite_row({"0040E010": {"vr": "UR", "Value": value}}, ROOT) == {
        "0040E010": {"vr": "UR"}
    }


@given(ROWS)
def test_odd_types_raise_nothing_but_too_deep(row: dict[str, Any]) -> None:
    """But for the one above."""
    try:
        rewritten = rewrite_row(row, ROOT, uris=URIS)
    except TooDeep:
        return
    except TypeError as error:
        if "not iterable" not in str(error):
            raise
        return
    assert json.dumps(rewritten)
    assert set(rewritten) == {name for name, element in row.items() if isinstance(element, dict)}
    public_attributes(row)


URL_ELEMENT = {"vr": "OW", "BulkDataURI": f"{PACS}/x"}


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "UN", "Value": [{"7FE00010": URL_ELEMENT}]},
        {"Value": [{"7FE00010": URL_ELEMENT}]},
        {"vr": "SQ", "Value": {"7FE00010": URL_ELEMENT}},
        {"vr": "SQ", "Value": [[{"7FE00010": URL_ELEMENT}]]},
        {"vr": "sq", "Value": [{"7FE00010": URL_ELEMENT}]},
        {"vr": "LO", "Value": ["x"], "RetrieveURL": f"{PACS}/x"},
    ],
)
def test_elements_of_another_shape_hide_no_address(element: dict[str, Any]) -> None:
    """An element is a vr and one of Value, BulkDataURI, InlineBinary (PS3.18 F.2.2); what is more
    is not passed on.
    """
    assert "pacs.internal" not in json.dumps(rewrite_row({"00081110": element}, ROOT))


@pytest.mark.parametrize("tag", ["0040E010", "00287FE0"])
def test_url_attributes_are_known_by_their_tag(tag: str) -> None:
    """RetrieveURI (0040,E010) and PixelDataProviderURL (0028,7FE0) were UT before there was UR."""
    assert "pacs.internal" not in json.dumps(
        rewrite_row({tag: {"vr": "UT", "Value": [f"{PACS}/x"]}}, ROOT)
    )


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("00100020", False),
        ("7FE00010", False),
        ("FFFEE000", False),
        ("00090010", True),
        ("77770010", True),
        ("777710A1", True),
        ("7fdf0010", True),
        ("", True),
        ("x", True),
        ("Wxyz0010", True),
        ("PatientID", True),
    ],
)
def test_private_attributes(name: str, private: bool) -> None:
    assert is_archive_private(name) is private


@pytest.mark.parametrize(
    "name",
    [
        "0x10abcd",
        " 10 0020",
        "0_100020",
        "+0100020",
        "００１０0020",
        "0010",
        "0010xxxx",
        "00100020x",
    ],
)
def test_what_is_no_tag_is_not_passed_on(name: str) -> None:
    assert is_archive_private(name)


def test_what_the_archive_notes_for_itself_is_left_out() -> None:
    """dcm4chee: access control, expiration and more in group 7777."""
    row = {
        "00100020": {"vr": "LO", "Value": ["p1"]},
        "77770010": {"vr": "LO", "Value": ["DCM4CHEE Archive 5"]},
        "77771020": {"vr": "DT", "Value": ["20240101"]},
    }
    assert public_attributes(row) == {"00100020": {"vr": "LO", "Value": ["p1"]}}


@given(st.text(max_size=40))
def test_any_text_is_a_url_of_ours_or_none(text: str) -> None:
    for url in (text, "studies/1.2/" + text, "http://pacs.internal/studies/1.2" + text):
        found = our_url(url, ROOT)
        if found is None:
            continue
        assert found.isascii()
        assert found.startswith(f"{ROOT}/studies/")
        assert "pacs.internal:" not in found
