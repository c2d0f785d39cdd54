"""Permits and refusals: what ``access.decision`` returns.

Nothing here has a default that permits more.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from sidecar.access.facts import Caller, Conditions, KnownAs, Part, Rule
from sidecar.access.reasons import Reason


class AllSeries(Enum):
    """The type of ``ALL_SERIES``."""

    ALL_SERIES = "all series"


ALL_SERIES: Final = AllSeries.ALL_SERIES
"""All series of a study, also those that come later: nothing tells one from another."""
SeriesSet: TypeAlias = frozenset[str] | AllSeries
"""Series of a study by their SeriesInstanceUIDs, or all of them."""


def includes(series: SeriesSet, uid: str) -> bool:
    """Return whether the series with this UID is in the set."""
    return series is ALL_SERIES or uid in series


class AllStudies(Enum):
    """The type of ``ALL_STUDIES``."""

    ALL_STUDIES = "all studies"


ALL_STUDIES: Final = AllStudies.ALL_STUDIES
"""All studies of a patient: a permit leads everywhere."""


class Interaction(StrEnum):
    """What the caller wants to do: a search needs ``s``, a read or retrieval ``r`` (SIA-11)."""

    SEARCH = "search"
    READ = "read"
    RETRIEVE = "retrieve"


@dataclass(frozen=True, slots=True)
class Deny:
    """A refusal. ``series``: for ``PARTLY_EXCLUDED``, those that the caller may have instead."""

    reason: Reason
    series: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GrantPath:
    """The studies of a patient that one grant permits.

    They satisfy the ``constraint`` of the scope, and the conditions ``studies`` hold for them.
    ``rules``: those of the site's rules that apply. ``context``: that of the grant's scope. Paths
    are never joined: what none of them leads to alone is not permitted (SIA-15).
    """

    constraint: str | None
    studies: Conditions
    rules: tuple[Rule, ...]
    context: str

    @property
    def leads_everywhere(self) -> bool:
        """Whether it leads to every study of the patient."""
        return self.constraint is None and not self.studies and not self.rules


@dataclass(frozen=True, slots=True)
class PatientPermit:
    """The caller may do ``interaction`` on imaging of ``patient`` (FHIR id).

    One of the ``paths`` leads to that imaging. ``caller``: about whom the external policy
    must be asked for each study, ``None``: there is no such policy.
    """

    patient: str
    interaction: Interaction
    paths: tuple[GrantPath, ...]
    caller: Caller | None

    @property
    def is_limited(self) -> bool:
        """Whether studies must be described before it is known which of them may be seen."""
        return self.caller is not None or not any(path.leads_everywhere for path in self.paths)

    @property
    def constraints(self) -> frozenset[str]:
        """The constraints that each study must be compared with."""
        return frozenset(path.constraint for path in self.paths if path.constraint is not None)


@dataclass(frozen=True, slots=True)
class SearchPermit:
    """Rows of ``patient`` (FHIR id), whom the archive knows by ``known_as``, may be searched."""

    patient: str
    known_as: KnownAs


@dataclass(frozen=True, slots=True)
class HeaderPermit:
    """Instances in ``part`` may be opened to read whose they are; nothing of them may leave.

    ``known_as``: the identifiers of the patient on which it was decided.
    """

    patient: str
    part: Part
    known_as: KnownAs


@dataclass(frozen=True, slots=True)
class StudyPermit:
    """``part`` of the archive is the permitted patient's and may be fetched.

    ``series``: those of its series that may. ``known_as``: the identifiers of the patient on which
    it was decided; none permit nothing.
    """

    patient: str
    part: Part
    series: SeriesSet
    known_as: KnownAs


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question of our own about the archive: whose a study is, how many instances there are.

    Nothing of its rows goes to a client. A decision rests on the answer, so that none can come
    first; ``tests/access/test_permits.py`` lists who may ask so. ``known_as``: for which patient it
    is asked, none: for nobody.
    """

    known_as: KnownAs


RowPermit: TypeAlias = SearchPermit | StudyPermit | HeaderPermit | Inquiry
"""By which rows may be read from the archive."""


class Operation(StrEnum):
    """What a capability may be for: retrieving the study (WADO-RS) or searching it (QIDO-RS)."""

    RETRIEVE = "retrieve"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Capability:
    """A permission for one study, to be used with one token.

    ``expires_at`` in seconds since 1970, never after the token's; ``token_hash``: SHA-256 of that
    token (32 bytes).
    """

    patient: str
    study: str
    operations: frozenset[Operation]
    expires_at: float
    token_hash: bytes


def token_hash(bearer: str) -> bytes:
    """Return the SHA-256 (32 bytes) of a token, which a capability is bound to."""
    return hashlib.sha256(bearer.encode()).digest()
