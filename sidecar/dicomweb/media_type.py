"""Media types with parameters (RFC 9110 8.3.1, 12.5.1), read in linear time and in one way only."""

import re
from dataclasses import dataclass

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_NAME = re.compile(rf"({_TOKEN})/({_TOKEN})", re.ASCII)
# Clients and archives write type=application/dicom without quotes; "/" is no token character.
_PARAMETER = re.compile(
    rf"({_TOKEN})[ \t]*=[ \t]*(?:\"([ !#-\[\]-~]*)\"|([A-Za-z0-9!#$%&'*+.^_`|~/()?:@=-]+))",
    re.ASCII,
)
_NEEDS_QUOTES = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]|^$", re.ASCII)
# Up to the separator, with quoted strings whole. Possessive: nothing is tried twice.
_UNTIL = {
    ",": re.compile(r'(?:[^",]++|"[^"]*+"?+)*+'),
    ";": re.compile(r'(?:[^";]++|"[^"]*+"?+)*+'),
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type: ``name`` such as ``image/png``, and ``parameters``, names in lower case."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        """Return the value of a parameter, or ``None``."""
        return next((value for found, value in self.parameters if found == name), None)

    def __str__(self) -> str:
        return self.name + "".join(f"; {name}={_written(value)}" for name, value in self.parameters)


def _written(value: str) -> str:
    return f'"{value}"' if _NEEDS_QUOTES.search(value) else value


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Return what is between ``,`` or ``;`` outside of quoted strings, without outer spaces."""
    elements, position = [], 0
    while position <= len(text):
        match = _UNTIL[separator].match(text, position)
        end = match.end() if match else len(text)
        elements.append(text[position:end].strip(" \t"))
        position = end + 1
    return elements


def parse_media_type(text: str) -> MediaType:
    """Return the media type (or range, ``image/*``) that ``text`` is.

    Raises ``ValueError`` for anything else, also for a parameter that stands twice.
    """
    name, *rest = split_outside_quotes(text, ";")
    if not _NAME.fullmatch(name):
        raise ValueError("not a media type")
    parameters: dict[str, str] = {}
    for element in rest:
        if not element:
            continue
        match = _PARAMETER.fullmatch(element)
        if match is None or match[1].lower() in parameters:
            raise ValueError("not a parameter, or one that stands twice")
        parameters[match[1].lower()] = match[3] if match[2] is None else match[2]
    return MediaType(name.lower(), tuple(parameters.items()))
