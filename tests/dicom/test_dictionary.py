"""The data dictionary is pydicom's (PS3.6)."""

from hypothesis import given
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.datadict import (
    dictionary_has_tag,
    dictionary_is_retired,
    dictionary_VR,
    keyword_for_tag,
    tag_for_keyword,
)

from sidecar.dicom.dictionary import STANDARD, entry, tag_of, vr_of
from tests.dicom.dictionary import FILE, table

REPEATING = st.sampled_from(sorted(RepeatersDictionary)).flatmap(
    lambda tag: st.text("0123456789abcdef", min_size=8, max_size=8).map(
        lambda digits: int(
            "".join(
                digit if name == "x" else name for name, digit in zip(tag, digits, strict=True)
            ),
            16,
        )
    )
)
TAGS = st.one_of(st.sampled_from(sorted(DicomDictionary)), REPEATING, st.integers(0, 2**32 - 1))


def test_the_file_is_what_pydicom_has() -> None:
    """``python -m tests.dicom.dictionary`` writes it."""
    assert FILE.read_text("utf-8") == table()


@given(TAGS)
def test_a_tag_has_what_pydicom_says(tag: int) -> None:
    found = entry(tag)
    assert (tag in STANDARD) == dictionary_has_tag(tag)
    assert (found.keyword if found else "") == keyword_for_tag(tag)
    try:
        expected = dictionary_VR(tag), dictionary_is_retired(tag)
    except KeyError:
        assert found is None
        return
    assert found is not None
    assert (vr_of(tag), found.is_retired) == expected


@given(st.one_of(TAGS.map(keyword_for_tag), st.text()))
def test_a_keyword_has_the_tag_that_pydicom_says(keyword: str) -> None:
    """An empty one is nobody's: pydicom takes it for one of the tags without a keyword."""
    assert tag_of(keyword) == (tag_for_keyword(keyword) if keyword else None)
