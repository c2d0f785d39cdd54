"""Whose instance it is, read from its first bytes, in any split: pydicom is the oracle (SIA-42,
PS3.5, PS3.10).
"""

import contextlib
import io
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from sidecar.access.facts import InstanceHeader, PatientIdentifier
from sidecar.dicom.dataset_walker import LIMIT_BYTES
from sidecar.dicom.element import Unreadable
from sidecar.dicom.instance_header import HeaderReader
from tests.dicom_instances import INSTANCE, SERIES, STUDY, dataset, encoded

DATA = Path(pydicom.__file__).parent / "data"
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def read(data: bytes, step: int = 0) -> InstanceHeader:
    """Read as a stream of ``step`` bytes a time (0: at once), to its end."""
    reader = HeaderReader()
    for start in range(0, len(data), step or len(data) or 1):
        list(reader.steps(data[start : start + (step or len(data))]))
    return reader.end()


def bundled() -> list[Path]:
    files = [*(DATA / "test_files").rglob("*"), *(DATA / "charset_files").glob("*.dcm")]
    return [file for file in files if file.is_file() and file.suffix in ("", ".dcm")]


@pytest.mark.parametrize("file", bundled(), ids=lambda file: file.name)
def test_every_bundled_file_is_read_as_pydicom_reads_it(file: Path) -> None:
    """Or refused where it has no PatientID, study or file meta: never read otherwise."""
    truth = dcmread(file, stop_before_pixels=True, force=True)
    patient, study = (
        str(truth.get("PatientID") or "").strip(),
        str(truth.get("StudyInstanceUID", "")),
    )
    has_syntax = "TransferSyntaxUID" in getattr(truth, "file_meta", {})
    if not patient or not study or not has_syntax:
        with pytest.raises(Unreadable):
            read(file.read_bytes())
        return
    expected = InstanceHeader(
        PatientIdentifier(patient, truth.get("IssuerOfPatientID")),
        study,
        str(truth.get("SeriesInstanceUID", "")),
        str(truth.get("SOPInstanceUID", "")),
    )
    assert read(file.read_bytes()) == expected
    assert read(file.read_bytes(), step=997) == expected


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("preamble", [True, False])
def test_every_encoding(syntax: str, preamble: bool) -> None:
    made = dataset(IssuerOfPatientID="HOSPITAL")
    expected = InstanceHeader(PatientIdentifier("P-1", "HOSPITAL"), STUDY, SERIES, INSTANCE)
    assert read(encoded(made, syntax, preamble=preamble), step=1) == expected


def private_first(made: Dataset) -> Dataset:
    made.add_new(0x00090010, "LO", "ACME")
    made.add_new(0x00091001, "OB", b"\x10\x00\x20\x00LO\x06\x00EVIL-1" * 50)
    made.add_new(0x00091002, "UN", b"\x01\x02")
    return made


def nested_patients(made: Dataset) -> Dataset:
    """Sequences before PatientID that hold other people's, of undefined and of defined length."""
    for undefined in (True, False):
        inner, item = Dataset(), Dataset()
        inner.PatientID, inner.StudyInstanceUID = "EVIL-2", "9.9.9"
        item.PatientID = "EVIL-1"
        item.ReferencedSOPSequence = Sequence([inner])
        item.ReferencedSOPSequence.is_undefined_length = undefined
        item.is_undefined_length_sequence_item = undefined
        name = (
            "ReferencedStudySequence" if undefined else "ReferencedPerformedProcedureStepSequence"
        )
        setattr(made, name, Sequence([item, item]))
        made[name].value.is_undefined_length = undefined
        made[name].is_undefined_length = undefined
    return made


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("change", [private_first, nested_patients])
def test_only_the_instances_own_patient_counts(syntax: str, change: object) -> None:
    assert callable(change)
    written = encoded(change(dataset()), syntax)
    assert dcmread(io.BytesIO(written)).PatientID == "P-1"
    for step in (0, 1, 50):
        assert read(written, step) == InstanceHeader(
            PatientIdentifier("P-1"), STUDY, SERIES, INSTANCE
        )


def test_a_sequence_of_unknown_vr_is_implicit_inside() -> None:
    """PS3.5 6.2.2: UN of undefined length."""
    head = encoded(dataset())
    where = head.index(b"\x10\x00\x10\x00PN")
    item = b"\x10\x00\x20\x00\x06\x00\x00\x00EVIL-1"
    unknown = (
        b"\x09\x00\x01\x10UN\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        + item
        + b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    assert read(head[:where] + unknown + head[where:], 1).patient == PatientIdentifier("P-1")


@given(st.data())
def test_any_text_in_any_character_set(data: st.DataObject) -> None:
    """PatientID is LO: it may have any character of the instance's character set."""
    name, characters = data.draw(
        st.sampled_from(
            [
                ("ISO_IR 192", "äß山ñ"),
                ("ISO_IR 100", "äßñÆ"),
                ("ISO_IR 144", "Люк"),
                ("GB18030", "王小"),
                ("ISO 2022 IR 6\\ISO 2022 IR 87", "山田"),
            ]
        )
    )
    patient_id = data.draw(st.text(alphabet=characters + "A1-", min_size=1, max_size=12)) + "Z"
    made = dataset(SpecificCharacterSet=name.split("\\"), PatientID=patient_id)
    written = encoded(made)
    assert read(written).patient.patient_id == str(dcmread(io.BytesIO(written)).PatientID).strip()


@given(st.integers(0, 2_000), st.sampled_from(SYNTAXES))
def test_a_cut_instance_is_refused_or_read_rightly(cut: int, syntax: str) -> None:
    written = encoded(private_first(nested_patients(dataset())), syntax)[:cut]
    try:
        header = read(written)
    except Unreadable:
        return
    assert header.patient == PatientIdentifier("P-1")
    assert header.study == STUDY


@given(st.binary(max_size=600), st.integers(0, 600))
def test_junk_is_refused_and_nothing_else(junk: bytes, at: int) -> None:
    """Any bytes, also spliced into a good header: a header or ``Unreadable``."""
    good = encoded(dataset())
    for data in (junk, good[:at] + junk + good[at:], bytes(128) + b"DICM" + junk):
        with contextlib.suppress(Unreadable):
            read(data)


def test_a_value_that_stands_twice_is_refused() -> None:
    """Two readers may choose different ones."""
    good = encoded(dataset())
    again = b"\x10\x00\x20\x00LO\x06\x00EVIL-1"
    where = good.index(b"\x20\x00\x0d\x00UI")
    with pytest.raises(Unreadable):
        read(good[:where] + again + good[where:])


def test_what_comes_first_is_bounded() -> None:
    """A private block of 5 MB, and a deflated bomb of zeros."""
    made = dataset()
    made.add_new(0x00090010, "LO", "ACME")
    made.add_new(0x00091001, "OB", bytes(LIMIT_BYTES + 2**19))
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        with pytest.raises(Unreadable):
            read(encoded(made, syntax), step=2**18)


@pytest.mark.parametrize("step", [0, 1, 997, 2**16])
def test_what_stands_behind_a_deflated_data_set_is_not_looked_at_again_and_again(step: int) -> None:
    """More than one round of inflating, and a checksum behind the end, as in one of the library's
    files.
    """
    made = dataset()
    made.add_new(0x00291001, "OB", bytes(300_000))
    written = encoded(made, DeflatedExplicitVRLittleEndian) + b"\x01\x02\x03\x04\x00\x00\x00\x00"
    assert read(written, step).patient == PatientIdentifier("P-1")


def test_deflated_in_any_split() -> None:
    written = encoded(private_first(dataset()), DeflatedExplicitVRLittleEndian)
    with pytest.raises(zlib.error):
        zlib.decompress(written[-20:])
    for step in (1, 7, 100):
        assert read(written, step).patient == PatientIdentifier("P-1")


UNKNOWN_TEXTS: list[tuple[bytes, bytes]] = [
    (b"", "Ä1".encode()),
    (b"", b"\xc41"),
    (b"ISO_IR 6", b"\xc41"),
    (b"ISO_IR 192", b"P\xff1"),
    (b"ISO_IR 999", b"\xc41"),
    (b"", b"\x1b$B12"),
    (b"ISO_IR 100", b"\x1b-L12"),
    (b"ISO_IR 192", "1\ufffd".encode()),
    (b"ISO_IR 100", "\u0410".encode()),
]


@pytest.mark.parametrize(("character_set", "patient_id"), UNKNOWN_TEXTS)
def test_a_number_whose_characters_cannot_be_known_is_refused(
    character_set: bytes, patient_id: bytes
) -> None:
    """Not guessed, and not one with replacement characters: two could then be one."""
    padded = patient_id + b" " * (8 - len(patient_id))
    written = encoded(dataset(PatientID="PPPPPPPP", SpecificCharacterSet="ISO_IR 192"))
    written = written.replace(b"PPPPPPPP", padded).replace(b"ISO_IR 192", character_set.ljust(10))
    with pytest.raises(Unreadable):
        read(written)
