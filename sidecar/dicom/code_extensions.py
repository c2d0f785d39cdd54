"""Texts with code extensions: escape sequences that change the character set (PS3.5 6.1.2.5).

pydicom can decode them, but brings numpy along. The tests compare both.
"""

import re
from collections.abc import Sequence

ASCII_TERMS = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
"""Defined terms of the default character repertoire."""
_DEFAULT = "iso8859_1"
CODECS = {
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "ISO 2022 IR 58": "gb2312",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 GBK": "gbk",
    "ISO 2022 58": "gb2312",
}
"""Python's codecs by the defined terms of SpecificCharacterSet (PS3.3 C.12.1.1.2)."""
CODECS |= dict.fromkeys(ASCII_TERMS, _DEFAULT)
CODECS |= {
    term.replace("ISO_IR", "ISO 2022 IR"): codec
    for term, codec in CODECS.items()
    if term.startswith("ISO_IR") and codec != "utf_8"
}
_STAND_ALONE = frozenset({"ISO_IR 192", "GB18030", "GBK"})
"""Terms without code extensions."""
_ESCAPES = {
    b"(B": _DEFAULT,
    b"(J": "shift_jis",
    b")I": "shift_jis",
    b"-A": "latin_1",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-F": "iso8859_7",
    b"-G": "iso8859_6",
    b"-H": "iso8859_8",
    b"-L": "iso8859_5",
    b"-M": "iso8859_9",
    b"-T": "tis_620",
    b"$B": "iso2022_jp",
    b"$(D": "iso2022_jp_2",
    b"$)A": "gb2312",
    b"$)C": "euc_kr",
}
"""Codecs by what stands behind the escape character (PS3.3 Tables C.12-3 and C.12-4)."""
_ESCAPING_CODECS = frozenset({"iso2022_jp", "iso2022_jp_2"})
"""Python's codecs that take the escape sequence as part of the text."""
_BACK_TO_FIRST = re.compile(rb"[\t\n\f\r]")


def decode(value: bytes, terms: Sequence[str]) -> str:
    """Return a text value, decoded by the defined ``terms`` of its SpecificCharacterSet.

    Raises ``ValueError`` for what cannot be decoded. Behind a term without code extensions no other
    term counts.
    """
    first = CODECS[terms[0]]
    others = () if terms[0] in _STAND_ALONE else terms[1:]
    codecs = {first, _DEFAULT, *(CODECS[term] for term in others)}
    plain, *escaped = value.split(b"\x1b")
    texts = [_decode_escaped(fragment, first, codecs) for fragment in escaped]
    return "".join([plain.decode(first), *texts])


def _decode_escaped(fragment: bytes, first: str, codecs: set[str]) -> str:
    """Return the text between an escape character and the next."""
    size = 3 if fragment.startswith((b"$(", b"$)")) else 2
    codec = _ESCAPES.get(fragment[:size])
    if codec not in codecs:
        raise ValueError  # No character set that is named has this escape sequence.
    if codec in _ESCAPING_CODECS:
        return (b"\x1b" + fragment).decode(codec)
    text = fragment[size:]
    reset = _BACK_TO_FIRST.search(text)
    end = len(text) if reset is None else reset.start()
    return text[:end].decode(codec) + text[end:].decode(first)
