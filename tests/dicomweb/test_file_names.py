"""What the files in a ZIP are called: numbers and a defined term, and each name once on any file
system.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from sidecar.dicomweb.file_names import MODALITIES, FileNames, NumbersReader
from tests.dicom_instances import dataset, encoded

MODALITY, SERIES, SERIES_NUMBER, INSTANCE_NUMBER = (
    0x0008_0060,
    0x0020_000E,
    0x0020_0011,
    0x0020_0013,
)
SYNTAXES = (
    "1.2.840.10008.1.2.1",
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)

# SeriesInstanceUID, SeriesNumber, Modality, InstanceNumber of one instance after the other; what
# each is called.
NAMES: dict[str, list[tuple[tuple[bytes, bytes, bytes, bytes], str]]] = {
    "as usual": [((b"1", b"2 ", b"CT", b"17"), "DICOM/0002-CT/0017.dcm")],
    "large numbers": [
        ((b"1", b"123456", b"RTSTRUCT", b"999999999 "), "DICOM/123456-RTSTRUCT/999999999.dcm")
    ],
    "a number twice": [
        ((b"1", b"2", b"MR", b"1"), "DICOM/0002-MR/0001.dcm"),
        ((b"1", b"2", b"MR", b"01"), "DICOM/0002-MR/0001-2.dcm"),
        ((b"1", b"2", b"MR", b" 1 "), "DICOM/0002-MR/0001-3.dcm"),
    ],
    "two series with one number": [
        ((b"1", b"2", b"MR", b"1"), "DICOM/0002-MR/0001.dcm"),
        ((b"2", b"2", b"MR", b"1"), "DICOM/0002-MR-2/0001.dcm"),
        ((b"1", b"2", b"MR", b"2"), "DICOM/0002-MR/0002.dcm"),
    ],
    "two series whose UIDs differ at the end": [
        ((b"1" * 127 + b"1", b"2", b"MR", b"1"), "DICOM/0002-MR/0001.dcm"),
        ((b"1" * 127 + b"2", b"2", b"MR", b"1"), "DICOM/0002-MR-2/0001.dcm"),
    ],
    "one series that says two things": [
        ((b"1", b"2", b"MR", b"1"), "DICOM/0002-MR/0001.dcm"),
        ((b"1", b"3", b"CT", b"2"), "DICOM/0002-MR/0002.dcm"),
    ],
    "nothing": [
        ((b"", b"", b"", b""), "DICOM/unnumbered/unnumbered.dcm"),
        ((b"", b"", b"", b""), "DICOM/unnumbered/unnumbered-2.dcm"),
    ],
    "no numbers": [((b"1", b"..", b"CT", b"-5"), "DICOM/unnumbered-CT/unnumbered.dcm")],
    "more digits than a number has": [
        ((b"1", b"1" * 20, b"CT", b"1"), "DICOM/unnumbered-CT/0001.dcm")
    ],
    "digits that are none": [
        ((b"1", "٣".encode(), b"CT", "１".encode()), "DICOM/unnumbered-CT/unnumbered.dcm")
    ],
    "a modality that nobody defined": [((b"1", b"1", b"MUELLER", b"1"), "DICOM/0001/0001.dcm")],
    "paths": [((b"1", b"../1", b"../../etc", b"/1"), "DICOM/unnumbered/unnumbered.dcm")],
    "a device of Windows": [((b"1", b"1", b"CON", b"NUL"), "DICOM/0001/unnumbered.dcm")],
    "small letters": [((b"1", b"1", b"ct", b"1"), "DICOM/0001/0001.dcm")],
}


@pytest.mark.parametrize("case", NAMES)
def test_what_an_instance_is_called(case: str) -> None:
    names = FileNames()
    for values, name in NAMES[case]:
        found = dict(zip((SERIES, SERIES_NUMBER, MODALITY, INSTANCE_NUMBER), values, strict=True))
        assert names.name(found) == name


TEXTS = (
    st.sampled_from(
        [
            b"1",
            b"2",
            b"1-2",
            b"1 ",
            b"CT",
            b"MR",
            b"CT-2",
            b"ct",
            b"CON",
            b"../x",
            b"a/b",
            b"x\\y",
            b"",
        ]
    )
    | st.integers(0, 2**40).map(lambda number: b"%d" % number)
    | st.binary(max_size=40)
)
VALUES = st.dictionaries(st.sampled_from([MODALITY, SERIES, SERIES_NUMBER, INSTANCE_NUMBER]), TEXTS)


@given(st.lists(VALUES, max_size=40))
def test_names_are_safe_and_different_whatever_the_instances_say(
    instances: list[dict[int, bytes]],
) -> None:
    names = FileNames()
    found = [names.name(values) for values in instances]
    assert len({name.lower() for name in found}) == len(found)
    for name in found:
        assert len(name) < 100
        first, folder, file = name.split("/")
        assert first == "DICOM"
        number, *rest = folder.split("-")
        assert re.fullmatch(r"[0-9]{4,9}|unnumbered", number)
        assert all(one in MODALITIES or re.fullmatch(r"[0-9]+", one) for one in rest)
        assert re.fullmatch(r"(?:[0-9]{4,9}|unnumbered)(?:-[0-9]+)?\.dcm", file)


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=8))
def test_it_is_read_in_any_split_and_any_encoding(syntax: str, cuts: list[int]) -> None:
    """The name hangs on what the instance says, not on how it arrives."""
    made = dataset(
        SeriesNumber=3,
        InstanceNumber=14,
        PixelData=bytes(4_000),
        BitsAllocated=8,
        SeriesDescription="Doe",
    )
    data, reader, start = encoded(made, syntax), NumbersReader(), 0
    for cut in [*sorted({cut % len(data) for cut in cuts}), len(data)]:
        if reader.read(data[start:cut]):
            break
        start = cut
    assert FileNames().name(reader.values) == "DICOM/0003-CT/0014.dcm"


@pytest.mark.parametrize(
    "garbage", [b"", b"x" * 200, bytes(200), b"x" * 128 + b"DICM" + b"x" * 200]
)
def test_what_cannot_be_read_has_a_name_all_the_same(garbage: bytes) -> None:
    reader = NumbersReader()
    assert reader.read(garbage) is bool(garbage)
    assert FileNames().name(reader.values) == "DICOM/unnumbered/unnumbered.dcm"


def test_nothing_else_is_read() -> None:
    """Names and descriptions stay where they are."""
    reader = NumbersReader()
    made = dataset(
        PatientName="Doe^Jane", SeriesDescription="Jane's knee", SeriesNumber=1, InstanceNumber=1
    )
    assert reader.read(encoded(made))
    assert set(reader.values) == {MODALITY, SERIES, SERIES_NUMBER, INSTANCE_NUMBER}
