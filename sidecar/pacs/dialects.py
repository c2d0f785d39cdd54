"""What differs between PACSs, as data."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

# What may stand in a query as it is (RFC 3986 3.4), but for "&", "=", "+", ";" which forms give a meaning of their own.
_LITERAL = "!$'()*,-./:?@_~"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# For a PACS that decodes nothing; "^" is in every name and does no harm in a request line.
_NOT_LITERAL = re.compile(r"[^A-Za-z0-9!$'()*,./:?@_~^|\\-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Facts on one PACS product.

    ``page_size``: rows that one QIDO request asks for. ``true_timezone``: whether TimezoneOffsetFromUTC in its answers
    comes from the images (Orthanc writes ``+0000`` whatever the truth). ``bulkdata``: its segment before a bulk data
    path. ``decodes_queries``: whether it undoes percent-encoding in the values of a query (Orthanc 1.10 does not: it
    would look for ``Doe%5EJane``).
    """

    name: str
    page_size: int = 500
    true_timezone: bool = True
    bulkdata: str = "bulkdata"
    decodes_queries: bool = True

    def query(self, parameters: Iterable[tuple[str, str]]) -> str:
        """Return the query string of a search."""
        return "&".join(f"{name}={self._value(value)}" for name, value in parameters)

    def _value(self, value: str) -> str:
        if self.decodes_queries:
            return quote(value, safe=_LITERAL)
        # Wildcards stand for what cannot be written; the rows are compared again. Orthanc keeps identifiers without
        # what is not ASCII, and drops a "?" at the end of a URL.
        written = _NOT_LITERAL.sub("?", _NOT_ASCII.sub("*", value))
        return written[:-1] + "*" if written.endswith("?") else written


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("generic"),
        Dialect("orthanc", true_timezone=False, bulkdata="bulk", decodes_queries=False),
        Dialect("dcm4chee"),
    )
}
