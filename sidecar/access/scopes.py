"""SMART scope strings -> grants on ImagingStudy.

SIA-11; SMART App Launch 2.2 "Scopes and Launch Context".

v1: ``patient/ImagingStudy.read``; v2: ``patient/ImagingStudy.rs``, letters of ``cruds`` in that
order, optionally ``?parameter=value``. Anything that does not match the grammar to the letter
grants nothing.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

RESOURCE = "ImagingStudy"

_SCOPE = re.compile(
    r"(?P<context>patient|user|system)/(?P<resource>\*|[A-Z][A-Za-z]*)\."
    r"(?:(?P<v1>read|write|\*)|(?P<v2>c?r?u?d?s?))(?P<constraint>\?[!-~]*)?",
    re.ASCII,
)


class ScopeContext(StrEnum):
    """Whose data a grant is about."""

    PATIENT = "patient"
    USER = "user"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Grant:
    """One scope that is about ImagingStudy.

    ``constraint`` is what follows ``?`` in a v2 scope (``modality=CT``), ``None`` without one. A
    grant keeps its own context and constraint; grants are never joined to a wider one (SIA-15).
    """

    context: ScopeContext
    read: bool
    search: bool
    constraint: str | None = None

    def covers(self, is_search: bool) -> bool:
        """Return whether the scope permits searches, or else reads and retrievals."""
        return self.search if is_search else self.read


def parse_scope(scope: str, resources: Collection[str] = (RESOURCE,)) -> Grant | None:
    """Return the grant of one scope, or ``None`` when it grants nothing on ImagingStudy.

    ``resources``: the types whose scopes count as scopes on ImagingStudy. A constraint on another
    type than ImagingStudy cannot be evaluated on studies, so such a scope grants nothing.
    """
    match = _SCOPE.fullmatch(scope)
    if match is None or match["resource"] not in ("*", *resources):
        return None
    constraint = match["constraint"]
    if constraint is not None and match["resource"] not in ("*", RESOURCE):
        return None
    if match["v1"]:
        # v1 scopes have no constraints, and read means read + search (SMART App Launch 2.2, "v1
        # scopes").
        if constraint is not None or match["v1"] == "write":
            return None
        return Grant(ScopeContext(match["context"]), read=True, search=True)
    letters = match["v2"]
    if "r" not in letters and "s" not in letters:
        return None
    return Grant(
        ScopeContext(match["context"]),
        read="r" in letters,
        search="s" in letters,
        constraint=None if constraint is None else constraint[1:],
    )


def parse_scopes(scopes: str, resources: Collection[str] = (RESOURCE,)) -> tuple[Grant, ...]:
    """Return the grants of a space-separated scope string (RFC 6749 3.3), each once, in order.

    ``resources``: as for ``parse_scope``. Scopes on other types are for servers that know none on
    ImagingStudy: beside one they count for nothing, for they would undo its constraint.
    """
    grants, named = _grants(scopes, resources), _grants(scopes, (RESOURCE,))
    contexts = {grant.context for grant in named}
    return tuple(grant for grant in grants if grant in named or grant.context not in contexts)


def _grants(scopes: str, resources: Collection[str]) -> dict[Grant, None]:
    """Return each grant once, in order."""
    grants = (parse_scope(scope, resources) for scope in scopes.split(" "))
    return dict.fromkeys(grant for grant in grants if grant is not None)
