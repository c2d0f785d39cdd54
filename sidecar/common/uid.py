"""DICOM unique identifiers (PS3.5 section 9.1)."""

import re

# A component is 0 or a number without leading zero. re.ASCII: other scripts' digits are not digits here.
_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
MAXIMUM_LENGTH = 64


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID as PS3.5 9.1 writes it: no wildcard, list, space, leading zero or other digit."""
    return len(text) <= MAXIMUM_LENGTH and _UID.fullmatch(text) is not None
