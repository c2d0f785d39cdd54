"""How much a requirement demands, by which text of the guide, and the outcomes of a check."""

from collections.abc import Mapping
from enum import StrEnum


class Guide(StrEnum):
    """A text of the guide, by its month."""

    SEPTEMBER = "2026-09"
    AUGUST = "2026-08"


TEXTS = {
    Guide.SEPTEMBER: "the draft of late September 2026 (argonautproject/smart-imaging, 3d82157)",
    Guide.AUGUST: "the drafts of August 2026, with requires-access-token and bearer capabilities",
}


class RequirementLevel(StrEnum):
    """How much is demanded, by whom; the strictest first. A broken ``SHALL`` alone is a problem.

    ``BASE``: base FHIR, or what it stands on (HTTP, OAuth, DICOMweb). ``WISH``: this kit's authors.
    """

    SHALL = "SHALL"
    SHOULD = "SHOULD"
    MAY = "MAY"
    BASE = "base FHIR"
    WISH = "our wish"


SHALL, SHOULD, MAY, BASE, WISH = RequirementLevel

Levels = RequirementLevel | Mapping[Guide, RequirementLevel]
"""RequirementLevel in all texts, or in each text that has the requirement."""


def level_in(guide: Guide, levels: Levels) -> RequirementLevel | None:
    """Return the level in a text of the guide; ``None`` if that text does not have it."""
    return levels if isinstance(levels, RequirementLevel) else levels.get(guide)


class Violated(Exception):
    """A requirement is not kept. The text says what was seen, ``hint`` what may be the cause.

    ``level`` is that of the part that is not kept, if it is another than the check's.
    """

    def __init__(
        self, text: str, hint: str | None = None, *, level: RequirementLevel | None = None
    ) -> None:
        super().__init__(text)
        self.hint = hint
        self.level = level


class Leaked(Violated):
    """The server gave what the caller must not have: no part of a check is more strict."""

    def __init__(self, text: str) -> None:
        super().__init__(text, level=SHALL)


class NotTested(Exception):
    """A requirement could not be checked. The text is what follows on "not tested, because"."""


class NoAnswer(Violated):
    """There was no HTTP answer, or no whole one."""
