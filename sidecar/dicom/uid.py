"""DICOM unique identifiers as archives have them (PS3.5 section 9.1, and what breaks it)."""

import re

# PS3.5 9.1 wants several components without leading zeros. re.ASCII: other scripts' digits are not
# digits here.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
MAXIMUM_LENGTH = 128
"""Limit in characters; PS3.5 9.1 has 64."""


def is_uid(text: str) -> bool:
    """Return whether ``text`` is digits with single points between them.

    No wildcard, list, space or other digit is in it, and no URL parser takes it for a dot segment.
    Archives have UIDs with leading zeros, of one component, and of over 64 characters. They are
    compared to the letter: ``1.02`` and ``1.2`` are two.
    """
    return len(text) <= MAXIMUM_LENGTH and _UID.fullmatch(text) is not None
