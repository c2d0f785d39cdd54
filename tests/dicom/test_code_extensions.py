"""Texts with code extensions are what pydicom reads, where it reads all (PS3.5 6.1.2.5)."""

import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.charset import (
    CODES_TO_ENCODINGS,
    convert_encodings,
    decode_bytes,
    encode_string,
    python_encoding,
)

from sidecar.dicom.character_sets import decode_text
from sidecar.dicom.code_extensions import CODECS, decode
from sidecar.dicom.element import Unreadable

pytestmark = pytest.mark.filterwarnings("ignore:.*Specific Character Set")
DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D}
TERMS = st.lists(st.sampled_from(sorted(CODECS)), min_size=1, max_size=4)
ESCAPES = [*CODES_TO_ENCODINGS, b"\x1b", b"\x1b$", b"\x1b(K"]
VALUES = st.lists(
    st.one_of(
        st.sampled_from(ESCAPES),
        st.binary(max_size=8),
        st.text("AZ^=\\ \t\r\n", max_size=4).map(str.encode),
        st.text("é山田Я김희", max_size=4).map(lambda text: text.encode("iso2022_jp_2", "ignore")),
        st.text("김희", max_size=4).map(lambda text: text.encode("euc_kr")),
    ),
    max_size=8,
).map(b"".join)


def by_pydicom(value: bytes, terms: list[str]) -> tuple[str, bool]:
    """Return the text, and whether pydicom warns that it is not sure."""
    encodings = convert_encodings(list(terms))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        return decode_bytes(value, encodings, DELIMITERS), bool(warned)


def test_all_terms_of_pydicom_are_known() -> None:
    assert CODECS.keys() == python_encoding.keys()


@given(VALUES, TERMS)
@example(b"\x1b-A\xe9", ["", "ISO 2022 IR 101"])
@example(b"\x1b(B\xe9", ["", "ISO 2022 IR 101"])
@example(b"\xe9\x1b-F\xe9\r\xe9", ["ISO 2022 IR 100", "ISO 2022 IR 126"])
@example(b"\xc3\xa9", ["ISO_IR 192", "ISO 2022 IR 100"])
@example(b"\xe9", ["ISO 2022 IR 100", "ISO_IR 192"])
@example(b"\xa0", ["ISO_IR 166"])
def test_a_text_is_what_pydicom_reads_or_is_refused(value: bytes, terms: list[str]) -> None:
    expected, is_unsure = by_pydicom(value, terms)
    try:
        text = decode(value, terms)
    except ValueError:
        assert is_unsure
        return
    # pydicom leaves the escape sequence of GB 2312 in the text.
    assert text == expected.replace("\x1b$)A", "")


NAMES = {
    "Yamada^Tarou=山田^太郎=やまだ^たろう": ["", "ISO 2022 IR 87"],
    "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎": ["ISO 2022 IR 13", "ISO 2022 IR 87"],
    "丂丄": ["", "ISO 2022 IR 159"],
    "Hong^Gildong=洪^吉洞=홍^길동": ["", "ISO 2022 IR 149"],
    "Διονυσιος": ["ISO_IR 126"],
    "Люкceмбypг": ["ISO_IR 144"],
    "قباني^لنزار": ["ISO_IR 127"],
    "שרון^דבורה": ["ISO_IR 138"],
    "Äneas^Rüdiger": ["ISO_IR 100"],
    "Wang^XiaoDong=王^小东": ["GB18030"],
    "Wang^XiaoDong=王^小東": ["ISO_IR 192"],
}
"""Examples of PS3.5 annexes H to K."""


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_standard(name: str) -> None:
    terms = NAMES[name]
    for group in name.split("="):
        written = encode_string(group, convert_encodings(list(terms)))
        assert decode_text(written, "\\".join(terms).encode()) == group


def test_gb_2312_with_its_escape_sequence() -> None:
    """PS3.5 K.3: pydicom 3.0 leaves the sequence in the text."""
    written = b"Zhang^XiaoDong=\x1b$)A" + "张^小东".encode("gb2312")
    assert decode_text(written, rb"\ISO 2022 IR 58") == "Zhang^XiaoDong=张^小东"


@pytest.mark.parametrize(
    ("value", "terms"),
    [
        (b"\x1b-F\xe9", rb"\ISO 2022 IR 100"),
        (b"\x1b%G\xc3\xa9", rb"\ISO 2022 IR 100"),
        (b"\xff\xff", b"ISO_IR 192"),
        (b"\x1b-F\xe9", rb"ISO_IR 192\ISO 2022 IR 126"),
        (b"\xe9", b""),
        (b"\xe9", b"ISO_IR 6"),
        (b"\xe9", b"UTF-8"),
        (b"\x1b", b"ISO_IR 100"),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes, terms: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_text(value, terms)
