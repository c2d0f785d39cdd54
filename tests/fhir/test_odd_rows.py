"""Any row whatsoever gives a valid ImagingStudy or is left out; one odd attribute never spoils the
list (SIA-30).
"""

import copy
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from fhir.resources.R4B.imagingstudy import ImagingStudy
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import SeriesRows, Site, imaging_study
from sidecar.fhir.search import Search
from tests.fhir.observing import observe
from tests.fhir.profile import MODALITY_SYSTEM, check_imaging_study
from tests.fhir.rows import DCM4CHEE, Row, any_rows, element, name, row, uids, usual_rows
from tests.fhir.selection import select

SEEN = datetime.fromtimestamp(1.7e9, UTC) + timedelta(milliseconds=1)
EHR = "https://ehr.example.org/fhir"
ENDPOINTS = Endpoints("https://imaging.example.org/fhir")
SITES = [
    Site(EHR),
    Site(EHR, UTC),
    Site(EHR, timezone(timedelta(hours=5, minutes=30)), true_timezone=False),
    Site(EHR, ZoneInfo("Europe/Berlin")),
]


def build(
    study: Row, series: list[SeriesRows] | None = None, site: Site = SITES[0]
) -> dict[str, Any]:
    return imaging_study(
        study,
        patient="123",
        endpoint=ENDPOINTS.reference("123"),
        site=site,
        last_updated="2024-03-01T00:00:00.000Z",
        series=series,
    )


def check(resource: dict[str, Any]) -> None:
    check_imaging_study(resource)
    ImagingStudy.model_validate(resource)


def with_uid(found: Row, uid: str, keyword: str = "StudyInstanceUID") -> Row:
    return found | row(**{keyword: uid})


def details(rows: list[Row], uid: str) -> list[SeriesRows]:
    """Return the rows as series, some of them with the others as instances; each UID once, as in an
    archive.
    """
    return [
        SeriesRows(
            with_uid(one, f"{uid}.{number}", "SeriesInstanceUID"),
            [
                with_uid(other, f"{uid}.{number}.{n}", "SOPInstanceUID")
                for n, other in enumerate(rows)
            ]
            or None,
        )
        for number, one in enumerate(rows)
    ]


@given(any_rows, st.lists(any_rows, max_size=2), uids, st.sampled_from(SITES))
def test_any_row_is_no_failure(study: Row, others: list[Row], uid: str, site: Site) -> None:
    """And what is always the same stays the same."""
    resource = build(with_uid(study, uid), details(others, uid), site)
    assert resource["id"] == uid
    assert resource["identifier"][0] == {"system": "urn:dicom:uid", "value": "urn:oid:" + uid}
    assert resource["subject"]["reference"] == EHR + "/Patient/123"
    assert resource["modality"]
    assert [series["uid"] for series in resource.get("series", [])] == [
        f"{uid}.{number}" for number in range(len(others))
    ]


@given(st.lists(any_rows | usual_rows, max_size=4), st.sampled_from(SITES))
def test_any_rows_give_a_page_that_has_the_good_ones(rows: list[Row], site: Site) -> None:
    """A row that has no UID is left out, and no other with it."""
    rows = [*rows, DCM4CHEE]
    seen = observe(Catalog(clock=lambda: 1.7e9), "123", rows)
    page = select(rows, Search(), seen=seen, site=site, page_size=50)
    found = [study.uid for study in page.studies]
    assert "1.2.40.0.13.1.1" in found
    assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)*", one) for one in found)
    assert page.total == len(found) <= len(rows)
    assert all(seen[one.uid] == SEEN for one in page.studies)


@given(
    usual_rows | any_rows, st.lists(usual_rows | any_rows, max_size=2), uids, st.sampled_from(SITES)
)
def test_any_row_is_valid(study: Row, others: list[Row], uid: str, site: Site) -> None:
    """R4 and SIA-30, whatever is in it."""
    check(build(with_uid(study, uid), details(others, uid), site))


@given(any_rows)
def test_a_row_is_only_read(study: Row) -> None:
    """Rows are kept for the next request."""
    before = copy.deepcopy(study)
    build(study, [SeriesRows(study, [study])])
    assert study == before


@pytest.mark.parametrize("text", ["^^^^", "^", " ^ "])
def test_a_name_without_letters_is_no_referrer(text: str) -> None:
    """A real Orthanc has ``^^^^`` for two of pydicom's test files."""
    found = build(row(StudyInstanceUID="1.2", ReferringPhysicianName=name(text)))
    check(found)
    assert "referrer" not in found


def test_a_name_in_one_text_has_groups_too() -> None:
    """PS3.5 6.2.1.2: some archives write ``alphabetic=ideographic=phonetic`` as text."""
    found = build(
        row(StudyInstanceUID="1.2", ReferringPhysicianName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    )
    assert found["referrer"] == {"display": "Tarou Yamada (山田 太郎, やまだ たろう)"}


@pytest.mark.parametrize("text", ["\t", "\n", "\u3000", "\xa0", "\u2003\r\n"], ids=ascii)
def test_white_space_is_no_description(text: str) -> None:
    """FHIR texts are never blank; U+3000 is the space of Japanese archives."""
    found = build(row(StudyInstanceUID="1.2", StudyDescription=text, AccessionNumber=text))
    check(found)
    assert "description" not in found


@pytest.mark.parametrize("text", ["Thorax\x00p.a.", "Thorax\x1b(B", "\x07Thorax"], ids=ascii)
@pytest.mark.parametrize(
    "keyword", ["StudyDescription", "AccessionNumber", "ReferringPhysicianName"]
)
def test_control_characters_reach_nobody(keyword: str, text: str) -> None:
    """R4 datatypes.html#string: none below 32 but tab, CR, LF; escape sequences of ISO 2022 slip
    through archives.
    """
    check(build(row(StudyInstanceUID="1.2", **{keyword: text})))


@pytest.mark.parametrize("text", ["C  T", "CT\n", "CT\\ MR", "\tCT", "CT\\\t"], ids=ascii)
def test_modality_codes_have_no_white_space(text: str) -> None:
    """R4 datatypes.html#code; also after a backslash."""
    found = build(
        row(StudyInstanceUID="1.2", ModalitiesInStudy=text), details([row(Modality=text)], "1.2")
    )
    check(found)
    assert found["modality"][0]["code"] in ("CT", "OT")


def test_modalities_in_lower_case_are_the_code_that_is_meant() -> None:
    """CS is upper case (PS3.5 6.2) and DCM's codes are: ``ct`` is in no list of any client."""
    found = build(
        row(StudyInstanceUID="1.2", ModalitiesInStudy=["ct", "CT"]),
        details([row(Modality="mr")], "1.2"),
    )
    assert found["modality"] == [{"system": MODALITY_SYSTEM, "code": "CT"}]
    assert found["series"][0]["modality"]["code"] == "MR"


def test_a_series_has_one_modality() -> None:
    found = build(row(StudyInstanceUID="1.2"), details([row(Modality="CT\\MR")], "1.2"))
    assert found["series"][0]["modality"]["code"] == "CT"
    assert found["modality"][0]["code"] == "CT"


@pytest.mark.parametrize(
    "sop_class", ["CT Image Storage", "1.2.03", "urn:oid:1.2", "1.2  3", 5], ids=str
)
def test_an_instance_without_usable_class_is_left_out(sop_class: object) -> None:
    """SIA-30: sopClass is urn:oid:<UID>; R4 wants one."""
    rows = [row(SOPInstanceUID="1.2.1.1", SOPClassUID=sop_class)]
    check(
        build(
            row(StudyInstanceUID="1.2"),
            [SeriesRows(row(SeriesInstanceUID="1.2.1", Modality="CT"), rows)],
        )
    )


def test_a_series_listed_twice_is_one() -> None:
    """Pages of a QIDO answer overlap when something arrives meanwhile."""
    twice = [SeriesRows(row(SeriesInstanceUID="1.2.1", Modality="CT"))] * 2
    found = build(row(StudyInstanceUID="1.2"), twice)
    check(found)
    assert found["numberOfSeries"] == 1


@pytest.mark.parametrize("text", ["1_000", "\u0661\u0662", "\uff11"], ids=ascii)
def test_only_ascii_digits_are_a_number(text: str) -> None:
    """PS3.5 6.2, IS: 0-9, plus and minus."""
    assert "numberOfInstances" not in build(
        row(StudyInstanceUID="1.2", NumberOfStudyRelatedInstances=text)
    )


def test_a_whole_number_may_be_written_with_a_point() -> None:
    found = build(row(StudyInstanceUID="1.2", NumberOfStudyRelatedInstances=12.0))
    assert found.get("numberOfInstances") == 12


def test_a_row_of_any_depth_is_no_failure() -> None:
    """orjson reads up to 1,024 levels, so such a row gets here; it must not cost the patient's
    whole list.
    """
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"vr": "SQ", "Value": [deep]}
    studies = orjson.loads(json.dumps([DCM4CHEE, row(StudyInstanceUID="1.2") | {"00081110": deep}]))
    page = select(
        studies, Search(), seen=observe(Catalog(), "123", studies), site=SITES[0], page_size=50
    )
    assert "1.2.40.0.13.1.1" in [study.uid for study in page.studies]


def test_empty_attributes_are_as_good_as_missing_ones() -> None:
    """``{"vr": "PN"}``, ``"Value": []``, ``"Value": [null]`` and no attribute at all are one."""
    bare = build(row(StudyInstanceUID="1.2"))
    for keyword in (
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyDate",
        "ModalitiesInStudy",
    ):
        for empty in (
            element(keyword),
            {"vr": "PN", "Value": []},
            element(keyword, None),
            element(keyword, ""),
            None,
            {},
        ):
            tag = next(iter(row(**{keyword: None})))
            assert build(row(StudyInstanceUID="1.2") | {tag: empty}) == bare
