"""Token parameters: ``system|code``, ``code``, ``|code``, ``system|``; and texts.

R4 search.html#token, search.html#string.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

_PIECES = re.compile(r"\\.|.", re.DOTALL)
_ESCAPE = re.compile(r"\\([,|$\\])")

Value = tuple[str, str]
"""System (empty: none) and code of a study's value."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Alternative of a token parameter. ``system`` ``None``: any; ``code`` empty: any of it."""

    system: str | None
    code: str


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Token parameter; ``negated``: ``:not``."""

    name: str
    alternatives: tuple[Alternative, ...]
    negated: bool = False
    _named: frozenset[tuple[str | None, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # What is compared with each study is looked up, however many alternatives there are.
        named = frozenset(
            (alternative.system, alternative.code.casefold()) for alternative in self.alternatives
        )
        object.__setattr__(self, "_named", named)

    def matches(self, values: Collection[Value]) -> bool:
        """Return whether a study with these values passes; with ``:not``, if none is named."""
        return any(map(self._is_named, values)) is not self.negated

    def _is_named(self, value: Value) -> bool:
        """Return whether ``value`` is named; codes match without case (R4 search.html#token)."""
        system, code = value[0], value[1].casefold()
        # A system without a code means any of its codes.
        any_code = bool(system) and (system, "") in self._named
        return any_code or (None, code) in self._named or (system, code) in self._named


@dataclass(frozen=True, slots=True)
class TextFilter:
    """Name of a person, or ``:text``: the beginnings that a text may have, as ``_folded``."""

    name: str
    beginnings: tuple[str, ...]

    def matches(self, texts: Iterable[str]) -> bool:
        """Return whether one of the texts begins so (R4 search.html#string)."""
        return any(_folded(text).startswith(self.beginnings) for text in set(texts))


def _folded(text: str) -> str:
    """Return the text without case and accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def parse_text(name: str, value: str) -> TextFilter:
    """Return the filter of a text parameter, whose alternatives are separated by commas."""
    found = (_folded(unescaped(alternative).strip()) for alternative in split(value, ","))
    # What is nothing but accents begins no text, else it would begin each.
    return TextFilter(name, tuple(filter(None, found)))


def parse_token(
    name: str, value: str, *, negated: bool = False, code: Callable[[str], str] = lambda code: code
) -> TokenFilter:
    """Return the filter of a parameter, whose alternatives are separated by commas.

    ``code`` brings codes into the form that values have.
    """
    found = tuple(Alternative(system, code(written)) for system, written in alternatives(value))
    return TokenFilter(name, found, negated)


def alternatives(value: str) -> Iterator[tuple[str | None, str]]:
    """Yield system (``None``: any) and code of each alternative that has a meaning."""
    for alternative in split(value, ","):
        *systems, code = (unescaped(part) for part in split(alternative, "|"))
        if len(systems) <= 1:
            yield systems[0] if systems else None, code


def split(value: str, separator: str) -> list[str]:
    """Split at unescaped separators and keep the escapes (R4 search.html#escaping)."""
    parts = [""]
    for piece in _PIECES.findall(value):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def unescaped(text: str) -> str:
    """Undo R4's escapes."""
    return _ESCAPE.sub(r"\1", text)
