"""What is known of a study when it is decided whether it may be seen: facts, brought by others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Attributes = Mapping[str, tuple[str, ...]]
"""DICOM keyword -> values as text. A keyword that is not there has no value, or the archive does not tell it."""


@dataclass(frozen=True, slots=True)
class DescribedSeries:
    """A series of a study."""

    uid: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the hospital's own policy (``access.external``) says of a study for a caller."""

    allow: bool
    exclude_series: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DescribedStudy:
    """A study as the archive describes it.

    ``started_by``: the last moment at which it can have begun (StudyDate, StudyTime), in seconds since 1970, ``None``
    when they do not tell; ``satisfies``: those constraints of the token's scopes that it satisfies;
    ``verdicts``: of the external policy, where there is one, by the context of the scope (``patient``, …).
    """

    attributes: Attributes
    series: tuple[DescribedSeries, ...] = ()
    started_by: float | None = None
    satisfies: frozenset[str] = field(default_factory=frozenset)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
