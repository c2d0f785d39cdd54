"""Files that two readers read differently: refused, or read as every other reader reads them
(SIA-42).

In each the walk would find patient OWN where other readers (pydicom, dcmtk, viewers) find EVIL, or
the other way round.
"""

import struct
from collections.abc import Callable

import pytest

from sidecar.dicom.element import Unreadable
from sidecar.dicom.instance_header import HeaderReader
from tests.dicom.encodings import (
    CT,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    ITEM_END,
    SEQUENCE_END,
    SERIES,
    STUDY,
    UNDEFINED,
    explicit,
    implicit,
    item,
)


def data_set(patient: str, study: str = STUDY, write: Callable[..., bytes] = explicit) -> bytes:
    elements = [
        (0x00080016, "UI", CT),
        (0x00080018, "UI", INSTANCE),
        (0x00080060, "CS", "CT"),
        (0x00100010, "PN", "X^Y"),
        (0x00100020, "LO", patient),
        (0x0020000D, "UI", study),
        (0x0020000E, "UI", SERIES),
        (0x00200013, "IS", "1 "),
    ]
    return b"".join(write(*one) for one in elements)


def meta(*syntaxes: str, group_length: int | None = None) -> bytes:
    body = explicit(0x00020002, "UI", CT) + explicit(0x00020003, "UI", INSTANCE)
    body += b"".join(explicit(0x00020010, "UI", one) for one in syntaxes)
    size = len(body) if group_length is None else group_length
    return bytes(128) + b"DICM" + explicit(0x00020000, "UL", struct.pack("<I", size)) + body


OWN, EVIL = data_set("OWN"), data_set("EVIL", "9.9.9")
PIXELS = explicit(0x7FE00010, "OW", bytes(2))
PRIVATE = explicit(0x00090010, "LO", "ACME")


def implicit_own() -> bytes:
    """Implicit: one long element, then OWN. Explicit: EVIL first."""
    evil = explicit(0x00080008, "CS") + EVIL
    evil += explicit(0x7FE00010, "OW", bytes(8 + 0x5343 - len(evil) - 12 + 1))
    return (
        evil[: 8 + 0x5343] + data_set("OWN", write=implicit) + implicit(0x7FE00010, "OW", bytes(2))
    )


def covering(tag: int, item_of: Callable[[bytes], bytes]) -> bytes:
    """An OB of undefined length whose item hides a sequence delimiter, EVIL, and an element that
    covers OWN.
    """
    hidden = SEQUENCE_END + EVIL + explicit(0x7FE00010, "OW", length=8 + 8 + len(OWN))
    return explicit(tag, "OB", length=UNDEFINED) + item_of(hidden) + SEQUENCE_END + OWN


SERIES_LENGTH = len(explicit(0x0020000E, "UI", SERIES) + explicit(0x00200013, "IS", "1 "))


def after_group_8(patient: str, study: str, write: Callable[..., bytes]) -> bytes:
    first = [(0x00080016, "UI", CT), (0x00080018, "UI", INSTANCE), (0x00080060, "CS", "CT")]
    return data_set(patient, study, write)[len(b"".join(write(*one) for one in first)) :]


def early_end(write: Callable[..., bytes]) -> tuple[bytes, bytes]:
    """A sequence of known length: its content has a delimiter first, EVIL, and what covers OWN;
    then OWN.
    """
    own = after_group_8("OWN", STUDY, write)
    hidden = SEQUENCE_END + after_group_8("EVIL", "9.9.9", write)
    hidden += struct.pack("<HHI", 0x0029, 0x1010, len(own)) if write is implicit else b""
    return hidden, own


def in_unknown() -> bytes:
    """Return an implicit sequence in a UN: OWN by its length, EVIL by its first delimiter."""
    rest = ITEM_END + SEQUENCE_END + after_group_8("OWN", STUDY, explicit)
    hidden = SEQUENCE_END + ITEM_END + SEQUENCE_END + after_group_8("EVIL", "9.9.9", explicit)
    hidden += explicit(0x00291010, "OB", length=len(rest))
    content = struct.pack("<HHI", 0x0008, 0x1140, len(hidden)) + hidden + rest
    return (
        explicit(0x00090010, "LO", "ACME")
        + explicit(0x00091010, "UN", length=UNDEFINED)
        + item(content, UNDEFINED)[:8]
        + content
    )


def any_two_capitals() -> bytes:
    """Implicit: one element of 0x4141 bytes, then OWN. Explicit, of VR AA: EVIL first."""
    own = data_set("OWN", write=implicit)
    evil = EVIL
    space = 0x4141 - len(evil) - 12
    evil += explicit(0x00291010, "OB", length=space + len(own)) + bytes(space)
    return struct.pack("<HHI", 0x0008, 0x0001, 0x4141) + evil + own


AMBIGUOUS: dict[str, bytes] = {
    "an implicit sequence with an early delimiter": meta(IMPLICIT)
    + implicit(0x00080018, "UI", INSTANCE)
    + implicit(0x00081140, "SQ", early_end(implicit)[0])
    + early_end(implicit)[1],
    "a sequence with an early delimiter in a UN": meta(EXPLICIT)
    + explicit(0x00080018, "UI", INSTANCE)
    + in_unknown(),
    "implicit with any two capitals": meta(IMPLICIT) + any_two_capitals(),
    "an unknown VR before EVIL": meta(EXPLICIT) + OWN + explicit(0x00211010, "ZZ") + EVIL,
    "an undefined length before EVIL": meta(EXPLICIT)
    + OWN
    + explicit(0x00291010, "OB", length=UNDEFINED)
    + SEQUENCE_END
    + EVIL,
    "sequences behind the header that are deeper than we walk": meta(EXPLICIT)
    + OWN
    + (explicit(0x00400275, "SQ", length=UNDEFINED) + item(b"", UNDEFINED)) * 40
    + (ITEM_END + SEQUENCE_END) * 40
    + EVIL,
    "a broken sequence behind the header": meta(EXPLICIT)
    + OWN
    + explicit(0x00400275, "SQ", length=UNDEFINED)
    + explicit(0x00400007, "LO")
    + SEQUENCE_END
    + EVIL,
    "an item in a UN that looks explicit": meta(EXPLICIT)
    + explicit(0x00080018, "UI", INSTANCE)
    + explicit(0x00091010, "UN", length=UNDEFINED)
    + item(struct.pack("<HH2sH", 0x0009, 0x0002, b"UI", 0) + bytes(0x4955) + ITEM_END, UNDEFINED)
    + SEQUENCE_END
    + after_group_8("OWN", STUDY, explicit),
    "implicit elements behind an explicit header": meta(EXPLICIT)
    + OWN
    + implicit(0x00100020, "LO", "EVIL")
    + implicit(0x0020000D, "UI", "9.9.9")
    + implicit(0x7FE00010, "OW", bytes(8)),
    "an item outside of a sequence": meta(EXPLICIT)
    + OWN[:-SERIES_LENGTH]
    + item(b"", 0x4F4C)[:8]
    + explicit(0x00291010, "OB", length=len(EVIL))
    + EVIL
    + explicit(0x0020000E, "UI", SERIES),
    "an item outside of a sequence, behind the header": meta(EXPLICIT)
    + OWN
    + b"\xfe\xff\x00\xe0LO\0\0"
    + explicit(0x00291010, "OB", length=len(EVIL))
    + EVIL,
    "a command set first": meta("1.2.840.10008.1.2.2")
    + implicit(0x00000000, "UL", bytes(4))
    + EVIL,
    "a deflated block that looks like a command set": meta("1.2.840.10008.1.2.1.99")
    + bytes(2)
    + OWN,
    "groups before 0008": meta(EXPLICIT) + explicit(0x00041130, "CS", "X ") + OWN,
    "something behind padding": meta(EXPLICIT)
    + OWN
    + bytes(8)
    + explicit(0x00100020, "LO", "EVIL"),
    "PatientID again behind the header": meta(EXPLICIT)
    + OWN
    + explicit(0x00100020, "LO", "EVIL")
    + PIXELS,
    "PatientID again behind the pixels": meta(EXPLICIT)
    + OWN
    + PIXELS
    + explicit(0x00100020, "LO", "EVIL"),
    "StudyInstanceUID again": meta(EXPLICIT) + OWN + explicit(0x0020000D, "UI", "9.9.9") + PIXELS,
    "PatientID again behind a higher group": meta(EXPLICIT)
    + OWN[:-SERIES_LENGTH]
    + explicit(0x00280010, "US", b"\1\0")
    + explicit(0x00100020, "LO", "EVIL")
    + explicit(0x0020000E, "UI", SERIES),
    "study before patient": meta(EXPLICIT)
    + explicit(0x0020000D, "UI", STUDY)
    + explicit(0x00100020, "LO", "OWN")
    + explicit(0x0020000E, "UI", SERIES)
    + explicit(0x00100020, "LO", "EVIL")
    + PIXELS,
    "transfer syntax twice": meta(EXPLICIT, IMPLICIT) + implicit_own(),
    "transfer syntax twice, the other way": meta(IMPLICIT, EXPLICIT) + OWN + PIXELS,
    "implicit that looks explicit": meta(IMPLICIT) + implicit_own(),
    "GE's private syntax": meta("1.2.840.113619.5.2") + implicit_own(),
    "a syntax with a leading space": meta(" " + IMPLICIT) + implicit_own(),
    "a syntax with junk behind it": meta(IMPLICIT + "\0 \0") + implicit_own(),
    "no syntax": meta() + OWN + PIXELS,
    "an empty syntax": meta("") + OWN + PIXELS,
    "no file meta": OWN + PIXELS,
    "a group length that swallows the header": meta(
        EXPLICIT, group_length=len(meta(EXPLICIT)) - 144 + len(OWN)
    )
    + OWN
    + EVIL
    + PIXELS,
    "a delimiter in an item of a private OB": meta(EXPLICIT) + PRIVATE + covering(0x00091001, item),
    "a delimiter in an undefined item": meta(EXPLICIT)
    + PRIVATE
    + covering(
        0x00091001, lambda hidden: item(explicit(0x00091010, "OB", hidden) + ITEM_END, UNDEFINED)
    ),
    "an item longer than its sequence": meta(EXPLICIT)
    + explicit(0x00081140, "SQ", length=8)
    + item(OWN)[:8]
    + OWN
    + EVIL
    + PIXELS,
    "an undefined item longer than its sequence": meta(EXPLICIT)
    + explicit(0x00081140, "SQ", length=8)
    + item(OWN + ITEM_END, UNDEFINED)
    + EVIL
    + PIXELS,
    "PatientID as a sequence first": meta(EXPLICIT)
    + explicit(0x00080018, "UI", INSTANCE)
    + explicit(0x00100020, "UN", length=UNDEFINED)
    + SEQUENCE_END
    + explicit(0x00100020, "LO", "OWN")
    + explicit(0x0020000D, "UI", STUDY)
    + explicit(0x0020000E, "UI", SERIES),
    "PatientID of another VR": meta(EXPLICIT)
    + explicit(0x00100020, "OB", "OWN")
    + explicit(0x0020000D, "UI", STUDY)
    + explicit(0x0020000E, "UI", SERIES),
    "deflated frames taken for a deflated data set": meta("1.2.840.10008.1.2.8.1")
    + b"\x12\x00\x00\xaaUI\xaa"
    + OWN,
    "a character set that nobody knows": meta(EXPLICIT)
    + explicit(0x00080005, "CS", "SECRET^NAME")
    + explicit(0x00100020, "LO", "Ä")
    + explicit(0x0020000D, "UI", STUDY)
    + explicit(0x0020000E, "UI", SERIES),
}


def read(data: bytes, step: int) -> str:
    reader = HeaderReader()
    for start in range(0, len(data), step):
        list(reader.steps(data[start : start + step]))
    return reader.end().patient.patient_id


ENDLESS: dict[str, bytes] = {
    "a file meta of megabytes": meta(EXPLICIT)
    + b"".join(explicit(0x00020100 + number, "LO", bytes(60)) for number in range(2_000))
    + OWN
    + PIXELS,
    "more elements than anybody has time for": meta(EXPLICIT)
    + OWN
    + explicit(0x00211010, "LO") * 2_100_000,
}


@pytest.mark.parametrize("what", AMBIGUOUS)
@pytest.mark.parametrize("step", [1, 997, 10**6])
def test_two_readings_are_none(what: str, step: int, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unreadable):
        read(AMBIGUOUS[what], step)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "what",
    # tests/dicom/test_file_kinds.py has this, too.
    [
        pytest.param(one, marks=pytest.mark.exhaustive) if one.startswith("more elements") else one
        for one in ENDLESS
    ],
)
def test_what_takes_too_long_is_refused(what: str) -> None:
    """All requests wait while one file is walked."""
    with pytest.raises(Unreadable):
        read(ENDLESS[what], 2**16)


@pytest.mark.parametrize("step", [1, 997, 10**6])
def test_what_is_odd_and_clear_is_read(step: int) -> None:
    """Padding and elements out of order may stand behind the header."""
    for tail in (
        bytes(64),
        explicit(0x00280010, "US", b"\1\0") + explicit(0x00180050, "DS", "1 ") + PIXELS,
        b"\xff" * 9,
    ):
        assert read(meta(EXPLICIT) + OWN + PIXELS + tail, step) == "OWN"
        assert read(meta(EXPLICIT) + OWN + tail, step) == "OWN"


def test_no_byte_is_read_twice() -> None:
    """A long sequence in small pieces costs a walk over it, not one a piece."""
    items = item(explicit(0x00081150, "UI", CT)) * 9_000
    sequence = explicit(0x00080006, "SQ", length=UNDEFINED) + items + SEQUENCE_END
    data = meta(EXPLICIT) + sequence + OWN
    steps = 0

    class Counting(HeaderReader):
        def _pass_on(self, piece: memoryview) -> None:
            nonlocal steps
            super()._pass_on(piece)
            assert self._walk is not None
            steps = self._walk.elements

    reader = Counting()
    for start in range(0, len(data), 100):
        list(reader.steps(data[start : start + 100]))
    assert reader.end().patient.patient_id == "OWN"
    assert steps < 2 * 9_000 + 50
