"""QIDO-RS rows -> ImagingStudy (SIA-30): what apps see of the rows that archives answer."""

from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from fhir.resources.R4B.imagingstudy import ImagingStudy
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.uid import is_uid
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import (
    SeriesRows,
    Site,
    imaging_study,
    is_study_id,
    study_id,
    study_uid,
)
from tests.fhir.imaging_studies import EHR, UNKNOWN_ZONE, build, study
from tests.fhir.profile import check_imaging_study
from tests.fhir.rows import DCM4CHEE, ORTHANC_EMPTY, ORTHANC_ULTRASOUND, STUDY_UID, Row, name, row

DCM = "http://dicom.nema.org/resources/ontology/DCM"
CET = timezone(timedelta(hours=1))
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def codes(resource: dict[str, Any]) -> list[str]:
    return [coding["code"] for coding in resource["modality"]]


def test_a_row_of_orthanc() -> None:
    """Dots in the date, colons in the time, no AccessionNumber, numbers as numbers."""
    assert build(ORTHANC_ULTRASOUND, site=Site(EHR, zone=CET)) == {
        "resourceType": "ImagingStudy",
        "id": STUDY_UID,
        "meta": {"lastUpdated": "2024-03-01T00:00:00.000Z"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:" + STUDY_UID}],
        "status": "available",
        "modality": [{"system": DCM, "code": "US"}],
        "subject": {"reference": EHR + "/Patient/123", "type": "Patient"},
        "started": "1997-04-24T14:04:38+01:00",
        "endpoint": [{"reference": "Endpoint/123"}],
        "numberOfSeries": 1,
        "numberOfInstances": 1,
    }


def test_a_row_of_orthanc_with_nothing_in_it() -> None:
    """Empty attributes come without ``Value``; SIA-30 still wants a modality."""
    found = build(ORTHANC_EMPTY)
    assert set(found) == {
        "resourceType",
        "id",
        "meta",
        "identifier",
        "status",
        "modality",
        "subject",
        "endpoint",
    }
    assert codes(found) == ["OT"]


def test_a_row_of_dcm4chee() -> None:
    """Several modalities, numbers as text, an own zone; nothing of its private group and no URL of
    the archive.
    """
    found = build(DCM4CHEE)
    assert codes(found) == ["CT", "SR"]
    assert found["started"] == "2024-02-29T09:15:00+01:00"
    assert (found["numberOfSeries"], found["numberOfInstances"]) == (2, 120)
    assert found["description"] == "CT Thorax"
    assert found["referrer"] == {"display": "Dr. Änne Müller"}
    assert found["identifier"][1]["value"] == "A-2024-1"
    assert found["identifier"][1]["type"]["coding"][0]["code"] == "ACSN"
    for secret in ("arc:8080", "DCM4CHEE", "4711", "HOSPITAL", "Yamada", "山田", "20240229091600"):
        assert secret not in str(found)


def test_the_zone_of_orthanc_is_not_believed() -> None:
    """Its dialect says so: +0000 there means nothing."""
    there = study(StudyDate="20240229", StudyTime="1011", TimezoneOffsetFromUTC="+0000")
    assert build(there, site=Site(EHR, true_timezone=False))["started"] == "2024-02-29"
    assert (
        build(there, site=Site(EHR, CET, true_timezone=False))["started"]
        == "2024-02-29T10:11:00+01:00"
    )
    assert build(there, site=Site(EHR, CET))["started"] == "2024-02-29T10:11:00+00:00"
    odd = there | row(TimezoneOffsetFromUTC="CET")
    assert build(odd, site=Site(EHR, CET))["started"] == "2024-02-29T10:11:00+01:00"


MODALITIES: list[tuple[object, list[str]]] = [
    ("CT", ["CT"]),
    (["CT", "MR", "CT"], ["CT", "MR"]),
    ("CT\\MR", ["CT", "MR"]),
    (["CT\\\\MR", "\\"], ["CT", "MR"]),
    (" CT\0", ["CT"]),
    ([None, "MR"], ["MR"]),
    ([None, "", " "], ["OT"]),
    ([["CT"], {"a": "CT"}, True], ["OT"]),
    (None, ["OT"]),
]


@pytest.mark.parametrize(("values", "expected"), MODALITIES, ids=str)
def test_modalities(values: object, expected: list[str]) -> None:
    assert codes(build(study(ModalitiesInStudy=values))) == expected


@pytest.mark.parametrize(
    "modality",
    [None, {"vr": "CS"}, {"vr": "CS", "Value": None}, {"vr": "CS", "Value": "CT"}, [], "CT"],
    ids=str,
)
def test_modalities_of_a_wrong_shape(modality: object) -> None:
    assert codes(build(study() | {"00080061": modality})) == ["OT"]


def test_modalities_of_the_series_stand_in() -> None:
    """Where the study row says none, its series do; each once."""
    series = [
        SeriesRows(row(SeriesInstanceUID=f"1.2.3.{n}", Modality=code))
        for n, code in enumerate(["MR", "SR", "MR"])
    ]
    assert codes(build(study(), series)) == ["MR", "SR"]
    assert codes(build(study(ModalitiesInStudy="CT"), series)) == ["CT"]


COUNTS: list[tuple[object, int | None]] = [
    (7, 7),
    ("7", 7),
    (" 7 ", 7),
    ("+7", 7),
    (0, 0),
    (2**31 - 1, 2**31 - 1),
    ([None, "7"], 7),
    ([7, 8], 7),
    (None, None),
    (-1, None),
    ("-1", None),
    (2**31, None),
    ("many", None),
    ("7.5", None),
    (7.5, None),
    (True, None),
    ("", None),
    ([[7]], None),
    ({"a": 7}, None),
    ("9" * 5_000, None),
]


@pytest.mark.parametrize(("value", "expected"), COUNTS, ids=lambda value: str(value)[:20])
def test_counts(value: object, expected: int | None) -> None:
    """IS is a number or text."""
    found = build(study(NumberOfStudyRelatedSeries=value, NumberOfStudyRelatedInstances=value))
    assert found.get("numberOfSeries") == found.get("numberOfInstances") == expected


def test_the_series_are_counted_where_the_archive_does_not() -> None:
    series = [SeriesRows(row(SeriesInstanceUID="1.2.3.1", Modality="CT"))]
    assert build(study(), series)["numberOfSeries"] == 1
    assert build(study(NumberOfStudyRelatedSeries=3), series)["numberOfSeries"] == 3


@pytest.mark.parametrize(
    ("stated", "listed", "expected"), [(1, 2, 2), (5, 2, 5), (0, 2, 2), (None, 2, 2)]
)
def test_a_number_is_never_smaller_than_what_is_listed(
    stated: int | None, listed: int, expected: int
) -> None:
    """R4: it may be larger than the list, because of access or availability."""
    rows = [instance(f"1.2.3.1.{number}") for number in range(listed)]
    series = [
        SeriesRows(row(SeriesInstanceUID="1.2.3.1", NumberOfSeriesRelatedInstances=stated), rows)
    ]
    found = build(study(NumberOfStudyRelatedSeries=0, NumberOfStudyRelatedInstances=1), series)
    assert found["numberOfSeries"] == 1
    assert found["numberOfInstances"] == found["series"][0]["numberOfInstances"] == expected


REFERRERS: list[tuple[object, str | None]] = [
    (name("Doe^Jane^Q^Dr^MD"), "Dr Jane Q Doe MD"),
    (name("Doe"), "Doe"),
    (name(" Doe ^ Jane "), "Jane Doe"),
    (name("^Jane"), "Jane"),
    (name("Doe^Jane^^^^^x"), "Jane Doe"),
    (name("Иванов^Иван"), "Иван Иванов"),
    (name("", Ideographic="山田^太郎"), "山田 太郎"),
    ({"Phonetic": "やまだ^たろう"}, "やまだ たろう"),
    ("Doe^Jane", "Jane Doe"),
    (
        name("Yamada^Tarou", Ideographic="山田^太郎", Phonetic="やまだ^たろう"),
        "Tarou Yamada (山田 太郎, やまだ たろう)",
    ),
    (name("山田^太郎", Ideographic="山田^太郎"), "太郎 山田 (山田 太郎)"),
    (["", name("Doe^Jane")], "Jane Doe"),
    (name(""), None),
    ({}, None),
    (None, None),
    ([None, 5, True, ["Doe"]], None),
    ({"Alphabetic": ["Doe"]}, None),
]


@pytest.mark.parametrize(("value", "expected"), REFERRERS, ids=str)
def test_referrers(value: object, expected: str | None) -> None:
    """PS3.5 6.2.1: family, given, middle, prefix, suffix."""
    found = build(study(ReferringPhysicianName=value))
    assert found.get("referrer") == ({"display": expected} if expected else None)


@pytest.mark.parametrize("uid", [None, "", "x", ["1.2", "1.3"], 5, {"a": 1}])
def test_the_uid_is_the_first_value_or_nothing(uid: object) -> None:
    """Which is a UID is for ``select`` to say."""
    assert study_uid(row(StudyInstanceUID=uid)) == {
        "x": "x",
        "5": "5",
        "['1.2', '1.3']": "1.2",
    }.get(str(uid), "")


def instance(uid: object = "1.2.3.1.1", **attributes: object) -> Row:
    return row(**{"SOPInstanceUID": uid, "SOPClassUID": CT_IMAGE} | attributes)


def test_series_and_instances() -> None:
    series = row(
        SeriesInstanceUID="1.2.3.1",
        Modality="CT",
        SeriesNumber="2",
        SeriesDescription="Lung",
        SeriesDate="20240229",
        SeriesTime="091500",
        BodyPartExamined="CHEST",
        NumberOfSeriesRelatedInstances=2,
    )
    rows = [instance(InstanceNumber=1), instance("1.2.3.1.2")]
    assert build(study(), [SeriesRows(series, rows)], Site(EHR, UTC))["series"] == [
        {
            "uid": "1.2.3.1",
            "modality": {"system": DCM, "code": "CT"},
            "number": 2,
            "description": "Lung",
            "numberOfInstances": 2,
            "bodySite": {"display": "CHEST"},
            "started": "2024-02-29T09:15:00+00:00",
            "instance": [
                {
                    "uid": "1.2.3.1.1",
                    "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:" + CT_IMAGE},
                    "number": 1,
                },
                {
                    "uid": "1.2.3.1.2",
                    "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:" + CT_IMAGE},
                },
            ],
        }
    ]


def test_what_cannot_be_named_is_left_out() -> None:
    """A series or an instance without a UID costs nothing else."""
    good = row(SeriesInstanceUID="1.2.3.1")
    odd: list[Any] = [
        instance(None),
        instance("1..2"),
        instance("*"),
        instance(SOPClassUID=None),
        {},
        instance(),
    ]
    series = [SeriesRows(row(SeriesInstanceUID=uid)) for uid in (None, "x", "1.2.3..1", "1." * 40)]
    found = build(study(), [*series, SeriesRows(good, odd), SeriesRows({})])["series"]
    assert [one["uid"] for one in found] == ["1.2.3.1"]
    assert [one["uid"] for one in found[0]["instance"]] == ["1.2.3.1.1"]
    assert found[0]["numberOfInstances"] == 1
    assert found[0]["modality"]["code"] == "OT"


LONG, LONGER = "1." + "2" * 62, "1." + "2" * 126


def test_a_uid_that_no_fhir_id_can_be() -> None:
    """R4 ids have 64 characters; a UID stands to the letter where a text may stand."""
    rows = [
        SeriesRows(row(SeriesInstanceUID=LONGER + end), [instance(LONGER + end)])
        for end in ("", "", "1")
    ]
    found = build(row(StudyInstanceUID=LONGER), rows[:2])
    assert found["identifier"] == [{"system": "urn:dicom:uid", "value": "urn:oid:" + LONGER}]
    assert found["id"] == study_id(LONGER)
    (series,) = found["series"]
    assert "uid" not in series
    assert series["_uid"]["extension"][0]["valueCode"] == "unsupported"
    assert "uid" not in series["instance"][0]
    assert build(row(StudyInstanceUID=LONG), rows)["id"] == LONG


def test_ids_of_studies() -> None:
    """No two UIDs have one id, and none that is made is a UID."""
    uids = ["7", "1.2", "1.02", LONG, LONG + "2", LONG + "3", LONGER, LONGER[:-1] + "3"]
    ids = [study_id(uid) for uid in uids]
    assert len(set(ids)) == len(uids)
    assert all(map(is_study_id, ids))
    assert [one for one in ids if is_uid(one)] == ["7", "1.2", "1.02", LONG]
    assert study_id(LONGER) == study_id(LONGER) == "sha256-" + study_id(LONGER)[7:]
    for text in (
        "",
        "x",
        LONG + "2",
        "sha256-",
        "sha256-" + "a" * 51,
        "sha256-" + "A" * 52,
        "sha256-" + "a" * 53,
        "..",
    ):
        assert not is_study_id(text)


@pytest.mark.parametrize(
    "series", [None, [], [SeriesRows({})], [SeriesRows(row(SeriesInstanceUID="x"), [])]], ids=str
)
def test_no_series_is_no_element(series: list[SeriesRows] | None) -> None:
    """FHIR JSON has no empty arrays."""
    assert "series" not in build(study(), series)


def test_a_contained_endpoint() -> None:
    """SIA-31."""
    endpoints = Endpoints("https://imaging.example.org/fhir", contained=True)
    found = imaging_study(
        study(),
        patient="123",
        endpoint=endpoints.reference("123"),
        site=UNKNOWN_ZONE,
        last_updated="2024-03-01T00:00:00.000Z",
        contained=endpoints.resource("123"),
    )
    check_imaging_study(found)
    ImagingStudy.model_validate(found)
    assert found["contained"][0]["id"] == "e"


@given(st.permutations(list(DCM4CHEE)), st.integers(0, len(DCM4CHEE)))
def test_any_attribute_may_be_missing(tags: list[str], kept: int) -> None:
    """What is there comes out as it would beside the others."""
    whole = build(DCM4CHEE)
    part = build({tag: DCM4CHEE[tag] for tag in {*tags[:kept], "0020000D"}})
    for element in ("description", "numberOfSeries", "numberOfInstances", "referrer"):
        assert part.get(element) in (whole[element], None)
    assert part["id"] == whole["id"]
