"""The facts of one request, worked out once and handed on as an argument."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sidecar.access.facts import KnownAs, Token
from sidecar.access.permits import ALL_STUDIES, AllStudies, PatientPermit, SearchPermit
from sidecar.access.visibility import Hidden, Visible
from sidecar.audit.record import AccessRecord
from sidecar.authorization.visible_studies import VisibleStudies

Asked_co = TypeVar("Asked_co", covariant=True)


@dataclass(frozen=True, slots=True)
class AuthorizedRequest(Generic[Asked_co]):
    """A request whose token reaches the patient; ``Authorizer.authorize`` alone makes it.

    ``record``: what the audit trail will say. ``token`` and ``permit``: who asks, and what of the
    patient is permitted. ``search``: the permit to search rows, with the patient's identifiers.
    ``asked``: what the request asks for, parsed. ``visible``: the studies that ``permit`` shows,
    ``ALL_STUDIES`` for a permit without limits.

    Who needs a second look (after a wait, or a correction that was seen in a stream) makes another
    one: ``Authorizer.decide_again``.
    """

    record: AccessRecord
    token: Token
    permit: PatientPermit
    search: SearchPermit
    asked: Asked_co
    visible: VisibleStudies | AllStudies

    @property
    def known_as(self) -> KnownAs:
        """All identifiers by which the archive may know the patient."""
        return self.search.known_as

    def seen(self, study: str) -> Visible | Hidden | AllStudies:
        """Return what may be seen of ``study``."""
        return ALL_STUDIES if self.visible is ALL_STUDIES else self.visible.of(study)
