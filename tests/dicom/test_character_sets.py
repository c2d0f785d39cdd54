"""Which texts are known to be what was stored (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from typing import Any

import pytest

from sidecar.dicom.character_sets import (
    has_known_character_set,
    is_known_text,
    is_utf8,
    with_known_texts,
    with_unknown_texts,
)
from sidecar.dicom.json_model import text
from tests.fhir.rows import name, row

TEXTS: dict[str, bool] = {
    "": True,
    "P1": True,
    "Schädel": True,
    "Психиатрия": True,
    "胸部CT": True,
    "1😀2": True,
    "A\u0308": True,
    "1\u200b2": True,
    "two\r\nlines\tand\fpages": True,
    "P\ufffd1": False,
    "Ð\x9012345": False,
    "\x1b$B12": False,
    "a\x00b": False,
    "a\x0bb": False,
    "a\x7fb": False,
    "12\x85": False,
}


@pytest.mark.parametrize("said", TEXTS)
def test_texts(said: str) -> None:
    assert is_known_text(said) is TEXTS[said]


CHARACTER_SETS: list[tuple[Any, bool, bool]] = [
    ("ISO_IR 192", True, True),
    ("ISO_IR 100", True, False),
    ("ISO 2022 IR 87", True, False),
    ("GB18030", True, False),
    (["ISO 2022 IR 6", "ISO 2022 IR 87"], True, False),
    ([None, "ISO 2022 IR 87"], True, False),
    (None, True, False),
    ("ISO-IR 100", True, False),
    ("iso_ir_192", True, True),
    ("ISO_IR 999", False, False),
    ("UTF-8", False, False),
    (["ISO_IR 192", "X"], False, False),
    ([192], False, False),
]


@pytest.mark.parametrize(("named", "known", "utf8"), CHARACTER_SETS)
def test_character_sets(named: Any, known: bool, utf8: bool) -> None:
    """Common misspellings are understood."""
    said = row(SpecificCharacterSet=named)
    assert (has_known_character_set(said), is_utf8(said)) == (known, utf8)


def test_a_row_without_a_character_set_has_a_known_one() -> None:
    """Most of the world's rows: ASCII, or the JSON's own UTF-8."""
    assert has_known_character_set(row(PatientID="P1"))
    assert not is_utf8(row(PatientID="P1"))


def test_unknown_texts_have_no_value() -> None:
    """What is no text stays; a name in groups is looked at, too; where the set is unknown no text
    is known.
    """
    said = row(
        StudyDescription="CT \ufffd",
        StudyDate="20240229",
        PatientName=name("A\ufffd"),
        AccessionNumber="7",
    )
    kept = with_known_texts(said)
    assert {
        keyword: text(kept, keyword)
        for keyword in ("StudyDescription", "StudyDate", "AccessionNumber")
    } == {"StudyDescription": None, "StudyDate": "20240229", "AccessionNumber": "7"}
    assert not kept.keys() & row(PatientName=None).keys()
    assert (
        with_known_texts({**said, **row(SpecificCharacterSet="?")}).keys()
        == row(StudyDate=None, SpecificCharacterSet=None).keys()
    )
    good = row(StudyDescription="CT Thorax")
    assert with_known_texts(good) is good


def test_texts_that_need_a_character_set_are_marked() -> None:
    """Not left out: a row that names a patient whom nobody knows is not one that names none."""
    said = with_unknown_texts(
        row(PatientID="Ä1", StudyID="1", StudyInstanceUID="1.2", PatientName=name("Ä"))
    )
    assert [
        text(said, one) for one in ("PatientID", "StudyID", "StudyInstanceUID", "PatientName")
    ] == ["\ufffd", "1", "1.2", "\ufffd"]


@pytest.mark.parametrize("junk", [None, 7, "x", [], {"Value": 7}, {"Value": [None, 1, {"a": 1}]}])
def test_odd_elements_do_no_harm(junk: Any) -> None:
    odd = {"00100020": junk, "zz": junk, "00080005": junk}
    with_known_texts(odd)
    with_unknown_texts(odd)
    has_known_character_set(odd)
    assert not is_utf8(odd)
