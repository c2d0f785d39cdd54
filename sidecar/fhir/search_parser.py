"""Parser of ``GET [base]/ImagingStudy?…`` (SIA-20..24; https://hl7.org/fhir/R4/search.html).

Parameters that we do not know, and those without a value, are ignored and left out of
``link.self``, or refused when the client prefers ``handling=strict``. Modifiers and chains that we
do not have are refused, as R4 demands.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from sidecar.common.errors import BadRequest, NotSupported
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search import Search
from sidecar.fhir.search_parameters import CHAINS, PARAMETERS, read_patient_identifier

MAXIMUM_PARAMETERS = 50
MAXIMUM_LENGTH = 7_000
"""Characters of all parameters, encoded: they stand in the links of each page."""
MAXIMUM_ALTERNATIVES = 500
"""Limit of values in all parameters; those that commas separate count separately."""
_SHOWN_NAME = re.compile(r"[A-Za-z_-]{1,40}", re.ASCII)
_NEEDS_VALUE = frozenset({"_id", "identifier", "series", "instance", "endpoint"})
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
        known = PARAMETERS.get(base)
        if known is None and not base.startswith("_"):
            _refuse_chains(name)
        if known is None:
            _unknown(base, strict=strict)
            _ignore(search, base)
            continue
        if modifier is not None and modifier not in known.modifiers:
            raise NotSupported(
                f"The search parameter {base} has no such modifier here.", reason="bad_modifier"
            )
        if len(value) > 4_096 or not value.isprintable():
            raise BadRequest(
                f"The value of {base} is too long or has control characters.", reason="bad_value"
            )
        if _is_empty(base, value, strict=strict):
            _ignore(search, name)
            continue
        if modifier == "missing":
            search.missing.append((base, _boolean(base, value)))
        elif modifier == "identifier":
            read_patient_identifier(search, base, value, modifier, site)
        else:
            known.read(search, base, value, modifier, site)
        search.used.append((base if modifier == "Patient" else name, value))
    return search


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
    """Return the parameter and its modifier; a chain to Patient.identifier is a parameter."""
    chain = name.replace(":Patient.", ".", 1)
    if chain in CHAINS:
        return chain, None
    base, _, modifier = name.partition(":")
    return base, modifier or (None if base == name else "")


def _refuse_chains(name: str) -> None:
    if "." in name:
        raise NotSupported("Chained search parameters are not supported.", reason="chained")


def _unknown(name: str, *, strict: bool) -> None:
    if name in ("_has", "_filter", "_query", "_revinclude", "_text", "_content", "_list"):
        # These parameters select: without them the answer would be another search's.
        raise NotSupported(
            f"The search parameter {name} is not supported.", reason="unsupported_parameter"
        )
    if strict:
        is_shown = _SHOWN_NAME.fullmatch(name)
        named = f"search parameter {name}" if is_shown else "name of a search parameter"
        raise NotSupported(
            f"The {named} is not supported (Prefer: handling=strict).", reason="strict"
        )


def _is_empty(name: str, value: str, *, strict: bool) -> bool:
    """Return whether a parameter has no value and is ignored.

    Raises ``BadRequest`` when it must have one.
    """
    if value.strip(",") or name in _REFUSES_EMPTY:
        return False
    if name in _NEEDS_VALUE:
        raise BadRequest(f"The search parameter {name} has no value.", reason="bad_value")
    if strict:
        raise NotSupported(
            f"The search parameter {name} has no value (Prefer: handling=strict).", reason="strict"
        )
    return True


def _ignore(search: Search, name: str) -> None:
    shown = name if _SHOWN_NAME.fullmatch(name.partition(":")[0]) else "…"
    if shown not in search.ignored:
        search.ignored.append(shown)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"{name}:missing is true or false.", reason="bad_value")
    return value == "true"
