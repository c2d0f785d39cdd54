"""The client's QIDO-RS parameters, taken apart and built anew with the patient forced (PS3.18 10.6.1, 8.3.4).

Whatever the client writes about the patient is left out; ours is added. Each parameter that remains is a DICOM
attribute that we know by name, in one canonical spelling.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from sidecar.common.dicom_json import tag
from sidecar.common.errors import BadRequest

MAXIMUM_PARAMETERS = 100
MAXIMUM_VALUE_LENGTH = 4_096
MAXIMUM_LIMIT = 10_000
MAXIMUM_STEPS = 8
"""Of an attribute in sequences."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)

# Everything that says which patient: 0010,0020 0010,0021 0010,0022 0010,0024 0010,1000 0010,1001 0010,1002.
_WHO = frozenset({"00100020", "00100021", "00100022", "00100024", "00101000", "00101001", "00101002"})


@dataclass(frozen=True, slots=True)
class Matching:
    """A query without its patient: matching keys and ``includefield``; ``limit`` (``None``: all) and ``offset``."""

    parameters: tuple[tuple[str, str], ...]
    limit: int | None
    offset: int

    def of_study(self, study: str) -> "Matching":
        """The same query of one study, whatever it named itself."""
        name = tag("StudyInstanceUID")
        others = tuple(pair for pair in self.parameters if pair[0] != name)
        return Matching(((name, study), *others), self.limit, self.offset)


def parse_matching(parameters: Sequence[tuple[str, str]]) -> Matching:
    """Return the query that ``parameters`` (decoded names and values) mean. Raises ``BadRequest``."""
    if len(parameters) > MAXIMUM_PARAMETERS:
        raise BadRequest("There are too many query parameters.", reason="bad_query")
    paging: dict[str, int] = {}
    keys: dict[str, str] = {}
    fields: dict[str, None] = {}
    for name, value in parameters:
        if len(value) > MAXIMUM_VALUE_LENGTH or not value.isprintable():
            raise _bad("a value that is too long or has control characters")
        if name in ("limit", "offset"):
            _set_number(paging, name, value)
        elif name == "fuzzymatching":
            if value not in ("true", "false"):
                raise _bad("fuzzymatching that is neither true nor false")
        elif name == "includefield":
            fields |= dict.fromkeys(_field(item) for item in value.split(","))
        else:
            _set_key(keys, name, value)
    include = "all" if "all" in fields else ",".join(fields)
    return Matching(
        (*keys.items(), *((("includefield", include),) if include else ())),
        paging.get("limit"),
        paging.get("offset", 0),
    )


def _set_number(paging: dict[str, int], name: str, value: str) -> None:
    if name in paging or not _NUMBER.fullmatch(value):
        raise _bad(f"{name} that is not one whole number")
    paging[name] = min(int(value), MAXIMUM_LIMIT) if name == "limit" else int(value)


def _set_key(keys: dict[str, str], name: str, value: str) -> None:
    attribute = _path(name)
    if _WHO & set(attribute.split(".")):
        return
    if attribute in keys:
        raise _bad("an attribute that is given twice")
    if value:
        keys[attribute] = value


def _field(item: str) -> str:
    return "all" if item == "all" else _path(item)


def _path(name: str) -> str:
    """An attribute, or one in sequences: ``RequestAttributesSequence.ScheduledProcedureStepID``."""
    steps = name.split(".", MAXIMUM_STEPS)
    if len(steps) > MAXIMUM_STEPS:
        raise _bad("an attribute in too many sequences")
    return ".".join(_attribute(step) for step in steps)


def _attribute(step: str) -> str:
    """A keyword or tag in its canonical form: eight upper-case hexadecimal digits."""
    if _TAG.fullmatch(step):
        if dictionary_has_tag(int(step, 16)) and keyword_for_tag(int(step, 16)):
            return step.upper()
    elif _KEYWORD.fullmatch(step):
        try:
            return tag(step)
        except KeyError:
            pass
    raise _bad("a name that is no DICOM keyword or tag")


def _bad(what: str) -> BadRequest:
    return BadRequest(f"The query has {what}.", reason="bad_query")
