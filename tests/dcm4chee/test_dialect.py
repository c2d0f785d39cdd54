"""How a query is written for dcm4chee: values with commas, and an order that pages rest on."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.pacs.dialects import DIALECTS, by_keyword
from tests.dcm4chee.query import parse_query

DCM4CHEE = DIALECTS["dcm4chee"]


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_a_page_is_asked_for_in_an_order(level: str) -> None:
    """Without one its database may give each page from another order: studies twice,
    others never.
    """
    uid = {
        "studies": "StudyInstanceUID",
        "series": "SeriesInstanceUID",
        "instances": "SOPInstanceUID",
    }[level]
    assert DCM4CHEE.order(level) == (("orderby", uid),)
    assert DIALECTS["generic"].order(level) == DIALECTS["orthanc"].order(level) == ()


@pytest.mark.parametrize(
    "name", ["PatientID", "00100020", "PatientName", "StudyDescription", "00081030"]
)
def test_a_comma_in_a_text_is_encoded(name: str) -> None:
    assert DCM4CHEE.query([(name, "Doe, Jane")]) == f"{by_keyword(name)}=Doe%2C%20Jane"


@pytest.mark.parametrize(
    "name", ["StudyInstanceUID", "0020000D", "0020000d", "SOPInstanceUID", "includefield"]
)
def test_a_comma_in_a_list_stays(name: str) -> None:
    assert DCM4CHEE.query([(name, "1.2,1.3")]) == f"{by_keyword(name)}=1.2,1.3"


@given(st.text(st.sampled_from(",&=%+; \\é") | st.characters(), min_size=1, max_size=64))
def test_any_text_arrives_as_one_value(value: str) -> None:
    written = DCM4CHEE.query([("StudyDescription", value.encode("utf-8", "replace").decode())])
    name, _, rest = written.partition("=")
    assert name == "StudyDescription"
    assert "," not in rest
    assert "&" not in rest
    assert unquote(rest) == value.encode("utf-8", "replace").decode()


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
def test_a_list_of_uids_arrives_as_a_list(numbers: list[int]) -> None:
    listed = [f"1.2.{number}" for number in numbers]
    (key,) = parse_query(DCM4CHEE.query([("StudyInstanceUID", ",".join(listed))])).keys
    assert all(key.matches([uid]) for uid in listed)
    assert not key.matches(["1.2"])
