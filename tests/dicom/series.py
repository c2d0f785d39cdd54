"""Instances of a series, laid out in a few ways, and damage to them."""

import functools

from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.dicom_instances import dataset, encoded

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


@functools.cache
def series(syntax: str) -> list[bytes]:
    """Return instances of a series: values of a few lengths, sequences, private blocks."""
    made = []
    for number in range(12):
        one = dataset(
            InstanceNumber=number, SliceLocation=number * 7.5, PatientID=f"P-{number % 3}"
        )
        one.SOPInstanceUID = f"1.2.3.4.{10**number}"
        one.IssuerOfPatientID = "HOSPITAL" if number % 2 else None
        for name in ("Manufacturer", "StationName", "StudyDescription", "KVP", "BodyPartExamined"):
            setattr(one, name, "1" * (number % 2 * 2))
        item = Dataset()
        item.PatientID, item.ReferencedSOPInstanceUID = "OTHER", "1.2.9"
        one.ReferencedImageSequence = Sequence([item] * (number % 3))
        one.add_new(0x00090010, "LO", "ACME")
        one.add_new(0x00091001, "OB", bytes(2 * (number % 2)))
        one.PixelData = bytes(range(256)) * 2
        one["PixelData"].VR = "OW"
        made.append(encoded(one, syntax))
    return made


changes = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["set", "insert", "delete"]),
        st.binary(min_size=1, max_size=4),
    ),
    max_size=3,
)


def changed(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for where, how, what in changes:
        position = int(where * len(data))
        behind = position + (0 if how == "insert" else len(what))
        data = data[:position] + (b"" if how == "delete" else what) + data[behind:]
    return data
