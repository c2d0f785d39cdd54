"""The second, fresh look at what is being sent: a count, frames, corrections (SIA-42, 43)."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, Token
from sidecar.access.permits import StudyPermit
from sidecar.authorization.authorizer import Authorizer, Request
from sidecar.authorization.current_study import CHANGED_SECONDS, CurrentStudy
from sidecar.authorization.limits import QueryLimits
from sidecar.common.errors import Unavailable
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from tests.fhir.rows import row
from tests.permits import study_permit

OWN = frozenset({PatientIdentifier("p1")})
STUDY, INSTANCE = Part("1.2"), Part("1.2", "1.3", "1.4")
REQUEST: Any = SimpleNamespace(token=Token((), 0, patient="p1"))
DOWN = Unavailable("Not now.", reason="down")


class Places(QueryLimits):
    """Counts those that are held."""

    held = 0

    @contextlib.asynccontextmanager
    async def place(self, token: Token) -> AsyncIterator[None]:
        """As ``QueryLimits``."""
        async with super().place(token):
            self.held += 1
            yield
            self.held -= 1


class Decisions(Authorizer):
    """Notes what is asked of it, in order; ``refusal`` is what it raises when it decides again."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.refusal: Exception | None = None
        self.queries = self.places = Places()

    def forget_study(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """As ``Authorizer``."""
        self.asked.append(("forget", study, known_as))

    async def decide_again(self, request: Request, part: Part, answer: AnswerKind) -> StudyPermit:
        """As ``Authorizer``."""
        self.asked.append(("decide", part, answer))
        if self.refusal is not None:
            raise self.refusal
        return study_permit("p1", part)

    async def is_corrected(self, request: Request, part: Part) -> bool:
        """As ``Authorizer``."""
        self.asked.append(("corrected", part))
        return True


class Archive:
    """Answers each search with ``rows``, while the caller holds a place."""

    def __init__(self, decisions: Decisions, *rows: Row) -> None:
        self.decisions = decisions
        self.rows: Sequence[Row] | Exception = rows
        self.searches: list[tuple[Query, Sequence[tuple[str, str]]]] = []
        self.limits: list[int | None] = []

    async def search(
        self,
        query: Query,
        parameters: Sequence[tuple[str, str]],
        *,
        permit: object,
        limit: int | None = None,
        fresh: bool = False,
    ) -> list[Row]:
        """As ``PacsClient``."""
        self.limits.append(limit)
        assert self.decisions.places.held == 1
        self.searches.append((query, parameters))
        if isinstance(self.rows, Exception):
            raise self.rows
        return list(self.rows)


def second_look(part: Part, *rows: Row) -> tuple[CurrentStudy, Decisions, Archive]:
    decisions = Decisions()
    archive = Archive(decisions, *rows)
    permit = study_permit("p1", part, known_as=OWN)
    return (
        CurrentStudy(decisions, cast("PacsClient", archive), REQUEST, permit),
        decisions,
        archive,
    )


def study_row(patient: str, count: int = 7) -> Row:
    return row(StudyInstanceUID="1.2", PatientID=patient, NumberOfStudyRelatedInstances=count)


async def test_the_count_is_what_the_archive_says_now() -> None:
    current, decisions, archive = second_look(STUDY, study_row("p1"))
    assert await current.count() == 7
    assert await current.expected() == 7
    assert decisions.asked == []
    assert len(archive.searches) == 2


@pytest.mark.parametrize("rows", [[], [study_row("p2")], [study_row("p1"), study_row("p2")]])
async def test_a_study_that_is_not_the_patients_alone_is_decided_again(rows: list[Row]) -> None:
    """What is remembered of it is forgotten before that. In no case is there a count."""
    current, decisions, _ = second_look(STUDY, *rows)
    assert await current.count() is None
    decisions.refusal = PermissionError()
    with pytest.raises(PermissionError):
        await current.expected()
    assert decisions.asked == [("forget", "1.2", OWN), ("decide", STUDY, AnswerKind.NAMED)]
    decisions.refusal = None
    with pytest.raises(Unavailable, match=r"^study_changed$") as changed:
        await current.expected()
    assert changed.value.diagnostics == "The study has just changed; try again."
    assert changed.value.retry_after == CHANGED_SECONDS


def instance_row(uid: str, frames: int | None) -> Row:
    return row(SOPInstanceUID=uid, NumberOfFrames=frames)


@pytest.mark.parametrize(
    ("rows", "frames", "has"),
    [
        ([instance_row("1.4", 3)], (1, 3), True),
        ([instance_row("1.4", 3)], (4, 1), False),
        ([instance_row("1.4", None)], (1,), True),  # A single image (PS3.3 C.7.6.6.1.1).
        ([instance_row("1.4", None)], (2,), False),
        # The archive did not say it of this instance.
        ([], (9,), True),
        ([instance_row("1.5", 3)], (9,), True),
        ([instance_row("1.4", 3), instance_row("1.4", 3)], (9,), True),
        (DOWN, (9,), True),
    ],
)
async def test_frames_that_an_instance_has(
    rows: list[Row] | Unavailable, frames: Sequence[int], has: bool
) -> None:
    current, decisions, archive = second_look(INSTANCE)
    archive.rows = rows
    assert await current.has_frames(frames) is has
    ((query, parameters),) = archive.searches
    assert query == Query("instances", study="1.2", series="1.3")
    assert parameters == (("SOPInstanceUID", "1.4"), ("includefield", "00280008"))
    assert archive.limits == [1]
    assert decisions.asked == []


async def test_a_correction_is_asked_for_by_the_permitted_part() -> None:
    current, decisions, _ = second_look(INSTANCE)
    assert await current.is_corrected() is True
    assert decisions.asked == [("corrected", INSTANCE)]
