"""DICOM wildcard matching (PS3.4 C.2.2.2.4).

``*`` is any run of characters, also none, ``?`` is any one character. Patterns come from clients,
tokens and configuration, values from the archive: neither becomes a regular expression. A match
costs at most ``len(pattern) * len(value)`` comparisons, so whoever calls it bounds both lengths.
"""

from collections.abc import Sequence
from functools import lru_cache

LONGEST_PATTERN = 64
"""Limit in characters of a pattern that somebody outside of the configuration may give."""
LONGEST_VALUE = 1_024
"""Limit in characters of a value that is compared: no attribute that patterns are for may be longer
(PS3.5 6.2)."""

# Characters with one upper case of several letters, which have no single upper-case letter to be
# compared by.
_SAME_LETTER = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb06": "\ufb05"}


def matches(pattern: Sequence[str], value: Sequence[str]) -> bool:
    """Return whether ``value`` matches ``pattern`` as a whole, with regard to case.

    Both are texts, or lists of characters. Only the last ``*`` is ever tried anew: what stands
    before it matched as early as possible, and an earlier ``*`` could take no more than the later
    one can.
    """
    at = position = 0
    star, resume = -1, 0
    while position < len(value):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, position
            at += 1
        elif at < len(pattern) and (pattern[at] == "?" or pattern[at] == value[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(pattern[rest] == "*" for rest in range(at, len(pattern)))


def without_case(text: str) -> str:
    """Return ``text``, as long as it is, with each letter as one that stands for all its cases."""
    return text.upper() if text.isascii() else "".join(map(_without_case, text))


@lru_cache(4_096)
def _without_case(character: str) -> str:
    lower = character.lower()[0]  # The lower case of U+0130 is "i" and a combining dot.
    upper = lower.upper()
    return upper if len(upper) == 1 else _SAME_LETTER.get(lower, lower)
