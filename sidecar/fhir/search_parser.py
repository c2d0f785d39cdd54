"""Parser of ``GET [base]/ImagingStudy?…`` (SIA-20..24; https://hl7.org/fhir/R4/search.html).

What may be ignored is left out of ``link.self`` and named, or refused when the client prefers
``handling=strict``. Other filters, modifiers and chains that we do not have are refused
(docs/decisions/0054-forgive-what-shows-nobody-else.md).
"""

import re
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import urlencode

from sidecar.common.errors import BadRequest, Ignorable, NotSupported
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search import Search
from sidecar.fhir.search_parameters import (
    CHAINS,
    NAMES_IN_R5,
    PARAMETERS,
    RESULTS,
    Parameter,
)

MAXIMUM_PARAMETERS = 50
MAXIMUM_LENGTH = 7_000
"""Characters of all parameters, encoded: they stand in the links of each page."""
MAXIMUM_ALTERNATIVES = 500
"""Limit of values in all parameters; those that commas separate count separately."""
_SHOWN_NAME = re.compile(r"[A-Za-z_-]{1,40}(?::[a-z-]{1,20})?", re.ASCII)
_NEEDS_VALUE = frozenset({"_id", "identifier", "series", "instance", "endpoint", "basedon"})
"""Parameters that identify studies."""
_REFUSES_EMPTY = frozenset(
    {"patient", "subject", "patient.identifier", "subject.identifier", "_after"}
)
"""Parameters whose readers refuse an empty value."""


def parse_search(
    parameters: Sequence[tuple[str, str]], site: Site, *, strict: bool = False
) -> Search:
    """Return the search that ``parameters`` (decoded names and values) mean.

    Raises ``BadRequest``.
    """
    _check_size(parameters)
    search = Search()
    for name, value in parameters:
        base, modifier = _name(name)
        try:
            _read(search, base, modifier, value, site)
        except Ignorable as ignorable:
            if strict:
                raise
            search.is_widened = search.is_widened or ignorable.widens
            _ignore(search, name, base)
        else:
            search.used.append((base if modifier == "Patient" else name, value))
    if search.is_widened and search.result.only_total:
        # There is no entry to say that it was ignored; the number would be another search's.
        raise NotSupported(
            "A total alone would be of another search, without " + ", ".join(search.ignored) + ".",
            reason="widened_total",
        )
    return search


def _read(search: Search, base: str, modifier: str | None, value: str, site: Site) -> None:
    """Read a parameter into ``search``. Raises ``BadRequest``; ``Ignorable`` before it is read."""
    known = PARAMETERS.get(base)
    if known is None:
        _refuse_unknown(base)
    if modifier is not None and modifier not in known.modifiers:
        _refuse_modifier(base, modifier, known)
    if len(value) > 4_096 or not value.isprintable():
        raise BadRequest(
            f"The value of {base} is too long or has control characters.", reason="bad_value"
        )
    _check_has_value(base, value)
    if modifier == "missing":
        search.missing.append((base, _boolean(base, value)))
    else:
        known.read(search, base, value, modifier, site)


def _check_size(parameters: Sequence[tuple[str, str]]) -> None:
    # The parameters that our own links add do not count, so these links can be followed.
    counted = sum(name not in ("_after", "patient") for name, _ in parameters)
    if counted > MAXIMUM_PARAMETERS or len(parameters) > MAXIMUM_PARAMETERS + 2:
        raise BadRequest("There are too many search parameters.", reason="too_many_parameters")
    measured = [pair for pair in parameters if pair[0] != "_after"]
    if len(urlencode(measured, errors="replace")) > MAXIMUM_LENGTH:
        raise BadRequest("The search is too long for the links of its pages.", reason="too_long")
    if sum(value.count(",") + 1 for _, value in parameters) > MAXIMUM_ALTERNATIVES:
        raise BadRequest(
            f"The search has more than {MAXIMUM_ALTERNATIVES} values (those separated by commas "
            "counted one by one).",
            reason="too_many_alternatives",
        )


def _name(name: str) -> tuple[str, str | None]:
    """Return the parameter and its modifier; a chain that we have is a parameter."""
    if name in CHAINS:
        return CHAINS[name], None
    base, colon, modifier = name.partition(":")
    return NAMES_IN_R5.get(base, base), modifier if colon else None


def _refuse_unknown(name: str) -> NoReturn:
    if "." in name and not name.startswith("_"):
        chains = ", ".join(known for known in PARAMETERS if "." in known)
        raise NotSupported(f"Chained search parameters here are {chains}.", reason="chained")
    is_shown = _SHOWN_NAME.fullmatch(name)
    named = f"search parameter {name}" if is_shown else "name of a search parameter"
    # What other resources say of a study is not here; the patient's own studies are.
    raise Ignorable(
        f"The {named} is not supported (Prefer: handling=strict).",
        reason="strict",
        widens=name == "_has",
    )


def _refuse_modifier(name: str, modifier: str, known: Parameter) -> NoReturn:
    modifiers = ", ".join(f":{one}" for one in known.modifiers) or "none"
    text = f"The search parameter {name} has no such modifier here; it has {modifiers}."
    reason = "bad_modifier"
    if name in RESULTS:
        raise Ignorable(text, reason=reason)
    if modifier == "text" and known.kind == "token":
        raise Ignorable(text, reason=reason, widens=True)
    raise NotSupported(text, reason=reason)


def _check_has_value(name: str, value: str) -> None:
    """Raise ``Ignorable`` for a parameter without a value, ``BadRequest`` when it must have one."""
    if value.strip(",") or name in _REFUSES_EMPTY:
        return
    if name in _NEEDS_VALUE:
        raise BadRequest(f"The search parameter {name} has no value.", reason="bad_value")
    raise Ignorable(
        f"The search parameter {name} has no value (Prefer: handling=strict).", reason="strict"
    )


def _ignore(search: Search, name: str, base: str) -> None:
    shown = next(filter(_SHOWN_NAME.fullmatch, (name, base)), "…")
    if shown not in search.ignored:
        search.ignored.append(shown)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"{name}:missing is true or false.", reason="bad_value")
    return value == "true"
