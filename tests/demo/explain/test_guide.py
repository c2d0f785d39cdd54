"""The guide names what the archive has, and when the study that is held back opens."""

from datetime import UTC, datetime, timedelta

import pytest
from pydicom import dcmwrite

from sidecar.demo.archive.index import Index, read_folder
from sidecar.demo.explain.guide import HOLD_MINUTES, TAPE_SECONDS, DemoGuide
from sidecar.demo.phantoms.studies import phantom_studies

NOW = datetime(2026, 11, 30, 16, 5, 7, tzinfo=UTC)
FEW = {"embargo", "slow", "hidden-series", "other-patient"}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The first and the last instance of some studies."""
    folder = tmp_path_factory.mktemp("few")
    for study in phantom_studies(NOW):
        if study.purpose in FEW:
            made = list(study.make(study.facts))
            for one in (made[0], made[-1]):
                dcmwrite(folder / f"{one.SOPInstanceUID}.dcm", one, enforce_file_format=True)
    return read_folder(folder)


def test_it_has_what_the_archive_has(index: Index) -> None:
    document = DemoGuide(index, lambda: NOW).document()
    assert document["now"] == "2026-11-30T16:05:07Z"
    by_purpose = {study["purpose"]: study for study in document["studies"]}
    assert by_purpose.keys() == FEW
    hidden = by_purpose["hidden-series"]
    assert [series["hidden"] for series in hidden["series"]] == [False, True]
    assert (hidden["title"], hidden["date"], hidden["patient"]) == ("MR head", "2026-03-21", "ada")
    assert by_purpose["slow"]["tape_seconds"] == TAPE_SECONDS
    other = by_purpose["other-patient"]
    assert (other["patient"], other["series"][0]["instances"]) == ("bruno", 2)
    assert all(
        study["tape_seconds"] is None
        for study in by_purpose.values()
        if study is not by_purpose["slow"]
    )


def test_the_end_of_the_hold_is_that_of_the_study_not_of_the_start(index: Index) -> None:
    """A folder of yesterday has a study that is open already."""
    later = DemoGuide(index, lambda: NOW + timedelta(days=1)).document()
    opens = {study["purpose"]: study["opens_at"] for study in later["studies"]}
    assert opens.pop("embargo") == "2026-11-30T16:09:07Z"
    assert HOLD_MINUTES == 4
    assert set(opens.values()) == {None}


def test_a_study_of_another(index: Index) -> None:
    guide = DemoGuide(index)
    for patient, other in (("ada", "bruno"), ("bruno", "ada"), ("robin", "ada")):
        found = guide.of_another(patient)
        assert found is not None
        assert found["patient"] == other


def test_an_archive_that_is_not_ours_has_none() -> None:
    guide = DemoGuide(None)
    assert guide.document()["studies"] == []
    assert guide.of_another("ada") is None
