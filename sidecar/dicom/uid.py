"""DICOM unique identifiers as archives have them (PS3.5 section 9.1, and what breaks it)."""

import re

# PS3.5 9.1 wants several components without leading zeros. With re.ASCII, the digits of other
# scripts do not match.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
MAXIMUM_LENGTH = 128
"""Limit in characters. The limit of PS3.5 9.1 is 64."""


def is_uid(text: str) -> bool:
    """Return whether ``text`` is digits with single points between them.

    A UID has no wildcard, list, space or other digit, and no URL parser takes it for a dot segment.
    Archives have UIDs with leading zeros, of one component, and of over 64 characters. UIDs are
    compared character by character: ``1.02`` and ``1.2`` differ.
    """
    return len(text) <= MAXIMUM_LENGTH and _UID.fullmatch(text) is not None
