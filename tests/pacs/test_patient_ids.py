"""An archive finds any PatientID, whatever its characters mean in a query."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier
from sidecar.access.wildcards import matches
from sidecar.pacs.dialects import DIALECTS, Dialect

ODD = (
    "a,b",
    ",",
    "a,",
    "*",
    "?",
    "**",
    "a*b",
    "a?b",
    "a?",
    "?a",
    "a, *?b",
    "Ä,1",
    "a&b,c",
    "[a]",
    "%2C",
    "1+1=2",
)
PATIENT_IDS = (
    st.text(
        st.sampled_from(",*?%&=+;#^ aä山") | st.characters(exclude_categories=["Cs"]),
        min_size=1,
        max_size=64,
    )
    .map(lambda text: text.strip(" "))
    .filter(lambda text: PatientIdentifier(text).is_searchable())
)


def read(dialect: Dialect, written: str) -> list[str]:
    """The patterns that an archive of this dialect reads in a query of one value."""
    if dialect.name == "orthanc":  # It decodes nothing.
        return re.split(r"[,\\]", written)
    listed = written.split(",") if dialect.splits_at_commas else [written]
    return [one for part in listed for one in unquote(part).split("\\")]


@pytest.mark.parametrize("name", DIALECTS)
@given(patient_id=PATIENT_IDS)
@example("a,b")
@example("*")
@example("a?")
def test_it_is_found(name: str, patient_id: str) -> None:
    """Orthanc keeps identifiers without what is not ASCII."""
    (parameter,) = (dialect := DIALECTS[name]).query([("PatientID", patient_id)]).split("&")
    kept = patient_id if dialect.decodes_queries else "".join(filter(str.isascii, patient_id))
    (pattern,) = read(dialect, parameter.removeprefix("PatientID="))
    assert matches(pattern, kept)
    assert len(pattern) <= len(patient_id)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("patient_id", [one for one in ODD if one.isascii() and "%" not in one])
def test_one_character_stands_for_one(name: str, patient_id: str) -> None:
    """No ``*``: a PatientID of one would ask for all patients. But Orthanc finds a percent sign no
    other way.
    """
    (pattern,) = read(
        DIALECTS[name], DIALECTS[name].query([("PatientID", patient_id)]).removeprefix("PatientID=")
    )
    assert "*" not in pattern
    assert len(pattern) == len(patient_id)


@pytest.mark.parametrize("name", DIALECTS)
@given(patient_id=PATIENT_IDS)
def test_what_others_match_as_well_is_known(name: str, patient_id: str) -> None:
    """Else a client's limit would be passed on, and cut the patient's own."""
    dialect = DIALECTS[name]
    (pattern,) = read(
        dialect,
        dialect.query([("IssuerOfPatientID", patient_id)]).removeprefix("IssuerOfPatientID="),
    )
    assert dialect.writes_exactly(patient_id) is (
        pattern == patient_id and not {"*", "?"} & set(pattern)
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_wildcards_of_a_client_stay(name: str) -> None:
    assert DIALECTS[name].query([("00081030", "ch?st*")]) == "StudyDescription=ch?st*"
    assert DIALECTS[name].query([("00080061", "CT,MR")]) in (
        "ModalitiesInStudy=CT,MR",
        "ModalitiesInStudy=CT%2CMR",
    )


def test_a_comma_in_a_text_is_one_character_to_orthanc() -> None:
    orthanc = DIALECTS["orthanc"]
    assert (
        orthanc.query([("00081030", "a,b"), ("0020000D", "1.2,1.3")])
        == "StudyDescription=a?b&StudyInstanceUID=1.2,1.3"
    )
    assert (
        orthanc.query([("includefield", "00100020,00100021")])
        == "includefield=PatientID,IssuerOfPatientID"
    )
