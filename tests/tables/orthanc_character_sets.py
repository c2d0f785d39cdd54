"""Texts in any character set: what Orthanc 1.10 says of a file in a query, and what we answer.

The table is the specification, for two settings of Orthanc's ``DefaultEncoding``. Read it beside
docs/orthanc.md.
"""

from dataclasses import dataclass

LISTED, HIDDEN = True, False


@dataclass(frozen=True, slots=True)
class Seen:
    """What one patient gets of a study: whether searches list it, and the HTTP statuses of its
    retrievals.
    """

    listed: bool
    metadata: int
    drawn: int
    instance: int


ALL = Seen(LISTED, 200, 200, 200)
NOTHING = Seen(HIDDEN, 404, 404, 404)
LISTS_ALONE = Seen(LISTED, 404, 404, 502)
"""Orthanc itself read another number than stands in the file: its lists are of its database, no
image leaves.
"""
UNREADABLE = Seen(LISTED, 502, 502, 502)
"""Nobody can say which characters stand in the file: no image leaves, whoever asks."""
PIXELS_ALONE = Seen(LISTED, 502, 200, 200)
"""The number needs no character set, but the texts of the metadata do, and theirs is none of
DICOM's.
"""
NOT_ANSWERED = Seen(HIDDEN, 502, 502, 502)
"""Orthanc would leave characters out of the patient's lists: 502, and operators are told what to
do.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A file, and what is answered.

    ``stored``: its PatientID; ``number``: what that is, as the EHR has it. ``cut``: another
    patient's number, as which it is read where characters are lost. ``latin1`` and ``utf8``, with
    that ``DefaultEncoding``: the PatientID that QIDO-RS says when SpecificCharacterSet is asked
    for, what the patient of ``number`` gets, and what that of ``cut``. ``400``: Orthanc refuses; it
    is asked again without, and believed when it answers in UTF-8.
    """

    name: str
    character_set: bytes | None
    stored: bytes
    number: str
    cut: str
    latin1: tuple[str | None, Seen, Seen]
    utf8: tuple[str | None, Seen, Seen]


def same(
    says: str | None, own: Seen, cut: Seen = NOTHING
) -> dict[str, tuple[str | None, Seen, Seen]]:
    """The same with both settings."""
    return {"latin1": (says, own, cut), "utf8": (says, own, cut)}


_CYRILLIC = "\u041012345"
"""A number with a Cyrillic letter that looks like an A."""

TABLE: tuple[Case, ...] = (
    Case("none, ASCII", None, b"P1", "P1", "P", **same("P1", ALL)),
    Case("ISO_IR 100", b"ISO_IR 100", b"\xc41", "Ä1", "1", **same("Ä1", ALL)),
    Case("ISO_IR 101", b"ISO_IR 101", b"\xa31", "Ł1", "1", **same("Ł1", ALL)),
    Case("ISO_IR 126", b"ISO_IR 126", b"\xd91", "Ω1", "1", **same("Ω1", ALL)),
    Case("ISO_IR 127", b"ISO_IR 127", b"\xc81", "ب1", "1", **same("ب1", ALL)),
    Case("ISO_IR 138", b"ISO_IR 138", b"\xe01", "א1", "1", **same("א1", ALL)),
    Case("ISO_IR 144", b"ISO_IR 144", b"\xb012345", _CYRILLIC, "12345", **same(_CYRILLIC, ALL)),
    Case("ISO_IR 148", b"ISO_IR 148", b"\xf01", "ğ1", "1", **same("ğ1", ALL)),
    Case("ISO_IR 166", b"ISO_IR 166", b"\xa11", "ก1", "1", **same("ก1", ALL)),
    Case("ISO_IR 13", b"ISO_IR 13", b"\xb11", "ｱ1", "1", **same("ｱ1", ALL)),
    Case("GB18030", b"GB18030", b"\xd0\xd81", "胸1", "1", **same("胸1", ALL)),
    Case("GBK", b"GBK", b"\xd0\xd81", "胸1", "1", **same("胸1", ALL)),
    Case("ISO_IR 192", b"ISO_IR 192", _CYRILLIC.encode(), _CYRILLIC, "12345", **same(_CYRILLIC, ALL)),
    Case("ISO_IR 192, emoji", b"ISO_IR 192", "1😀2".encode(), "1😀2", "12", **same("1😀2", ALL)),
    Case("ISO_IR 192, combining", b"ISO_IR 192", "A\u03081".encode(), "A\u03081", "A1", **same("A\u03081", ALL)),
    Case("ISO_IR 192, full width", b"ISO_IR 192", "１２".encode(), "１２", "12", **same("１２", ALL)),
    # Characters that nobody sees: no query can be made for such a number (access.identity).
    Case("ISO_IR 192, zero width", b"ISO_IR 192", "1\u200b2".encode(), "1\u200b2", "12", **same("1\u200b2", NOTHING)),
    Case("ISO_IR 192, no-break space", b"ISO_IR 192", "12\xa0".encode(), "12\xa0", "12", **same("12\xa0", NOTHING)),
    # Code extensions: Orthanc refuses to write them. Without being asked to, it writes in
    # DefaultEncoding.
    Case("ISO 2022 IR 100", b"ISO 2022 IR 100", b"\xc41", "Ä1", "1", **same("Ä1", ALL)),
    Case("ISO 2022 IR 87", b"\\ISO 2022 IR 87", b"1\x1b$B6;\x1b(B2", "1胸2", "12", latin1=("400", NOT_ANSWERED, NOTHING), utf8=("400", ALL, NOTHING)),
    Case("ISO 2022 IR 149", b"\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe81", "김1", "1", latin1=("400", NOT_ANSWERED, NOTHING), utf8=("400", ALL, NOTHING)),
    # Orthanc reads the first of several alone.
    Case("ISO 2022 IR 6 and IR 144", b"ISO 2022 IR 6\\ISO 2022 IR 144", b"1\x1b-L\xb0", "1\u0410", "1-L", latin1=("400", NOT_ANSWERED, NOT_ANSWERED), utf8=("400", NOTHING, LISTS_ALONE)),
    Case("ISO 2022 IR 58", b"\\ISO 2022 IR 58", b"\x1b$)A\xd0\xd81", "胸1", "1", latin1=("400", NOT_ANSWERED, NOTHING), utf8=("400", ALL, NOTHING)),
    # What is not what it says, or says nothing: Orthanc guesses by DefaultEncoding, or leaves
    # characters out.
    Case("none, UTF-8", None, _CYRILLIC.encode(), _CYRILLIC, "12345", latin1=("\xd0\x9012345", NOTHING, NOTHING), utf8=(_CYRILLIC, UNREADABLE, NOTHING)),
    Case("none, Latin-1", None, b"\xc41", "Ä1", "1", latin1=("Ä1", UNREADABLE, NOTHING), utf8=(None, NOTHING, NOTHING)),
    Case("empty, UTF-8", b"", _CYRILLIC.encode(), _CYRILLIC, "12345", latin1=("\xd0\x9012345", NOTHING, NOTHING), utf8=(_CYRILLIC, UNREADABLE, NOTHING)),
    Case("none, escapes", None, b"\x1b$B12345", "\x1b$B12345", "$B12345", **same("\x1b$B12345", NOTHING)),
    Case("ISO_IR 6, UTF-8", b"ISO_IR 6", _CYRILLIC.encode(), _CYRILLIC, "12345", **same("12345", NOTHING, UNREADABLE)),
    Case("ISO_IR 192, broken", b"ISO_IR 192", b"P\xff1", "P\ufffd1", "P1", **same("P1", NOTHING, UNREADABLE)),
    Case("ISO_IR 192, Latin-1", b"ISO_IR 192", b"\xc41", "Ä1", "1", **same(None, NOTHING)),
    Case("ISO_IR 100, UTF-8", b"ISO_IR 100", "\u04101".encode(), "\u04101", "1", **same("\xd0\x901", NOTHING)),
    Case("unknown, ASCII", b"ISO_IR 999", b"P1", "P1", "P", latin1=("400", NOT_ANSWERED, NOTHING), utf8=("400", PIXELS_ALONE, NOTHING)),
    Case("unknown, UTF-8", b"ISO_IR 999", _CYRILLIC.encode(), _CYRILLIC, "12345", latin1=("400", NOT_ANSWERED, NOT_ANSWERED), utf8=("400", NOTHING, UNREADABLE)),
)  # fmt: skip
