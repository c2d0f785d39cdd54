"""DICOM UIDs as archives have them: nothing that a parser could read in another way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dicom.uid import MAXIMUM_LENGTH, is_uid
from tests.tables.uids import LONGEST, NO_UIDS


@pytest.mark.parametrize(
    "uid",
    [
        "1.2",
        "0.0",
        "2.25.0",
        "1.2.840.10008.1.2.1",
        "1.0.3",
        "2.25." + "9" * 39,
        LONGEST,
        "1",
        "0",
        "00",
        "1.02",
        "01.2",
        "00.1",
        "1.00",
        "1." + "2" * 62,
        "1." + "2" * 63,
    ],
)
def test_uids(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize("text", NO_UIDS)
def test_no_uids(text: str) -> None:
    assert not is_uid(text)


@given(st.lists(st.integers(0, 10**12).map(str), min_size=2, max_size=8).map(".".join))
def test_numbers_with_points_are_uids_up_to_the_limit(uid: str) -> None:
    assert is_uid(uid) is (len(uid) <= MAXIMUM_LENGTH)


@given(
    st.one_of(
        st.text(max_size=70),
        st.text("0123456789.", max_size=70),
        st.from_regex(r"[0-9.]{1,30}", fullmatch=True),
    )
)
def test_what_is_a_uid_is_numbers_with_single_points(text: str) -> None:
    """The same as reading it component by component."""
    components = text.split(".")
    expected = len(text) <= MAXIMUM_LENGTH and all(
        set(one) <= set("0123456789") and one != "" for one in components
    )
    assert is_uid(text) is expected
