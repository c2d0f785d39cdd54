"""The external policy takes studies and series out of a patient's lists."""

import gc

from sidecar.access.facts import (
    Caller,
    DescribedStudy,
    Rule,
    Verdict,
)
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.access.visibility import Visible
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.common.slices import BATCH
from sidecar.fhir.imaging_study import study_uid
from tests.authorization.listed_archive import (
    NO_SR,
    ROWS,
    SEARCH,
    SERIES,
    Archive,
    permit,
    study,
    views,
)
from tests.permits import make_path, patient_permit


class Verdicts(ExternalPolicy):
    """Answers by the study; ``asked`` has contexts and studies."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.asked: list[tuple[str, str]] = []

    async def verdict(
        self, permit: PatientPermit, context: str, uid: str, study: DescribedStudy
    ) -> Verdict:
        """As the hospital's policy."""
        self.asked.append((context, uid))
        return self.verdicts[uid]


def judged(*rules: Rule, contexts: tuple[str, ...] = ("patient",)) -> PatientPermit:
    """Return a permit on whose studies a policy must be asked."""
    paths = tuple(make_path(rules=rules, context=context) for context in contexts)
    return patient_permit("p1", Interaction.RETRIEVE, paths, Caller("app"))


async def test_the_policy_takes_away_studies_and_series() -> None:
    policy = Verdicts(
        **{
            "1.2": Verdict(True, frozenset({"1.2.2"})),
            "1.3": Verdict(True),
            "1.4": Verdict(False),
        }
    )
    view = await views(Archive(ROWS, SERIES), external=policy).of(judged(), SEARCH)
    assert [study_uid(row) for row in view.rows] == ["1.2", "1.3"]
    assert [view.shows_row("1.2", series_uid) for series_uid in ("1.2.1", "1.2.2")] == [True, False]
    assert policy.asked == [("patient", "1.2"), ("patient", "1.3"), ("patient", "1.4")]


async def test_the_policy_is_not_asked_about_what_is_hidden_anyway() -> None:
    policy = Verdicts(**{"1.2": Verdict(True), "1.3": Verdict(True)})
    view = await views(Archive(ROWS, SERIES), external=policy).of(judged(NO_SR), SEARCH)
    assert [study_uid(row) for row in view.rows] == ["1.2", "1.3"]
    assert [uid for _, uid in policy.asked] == ["1.2", "1.3"]
    assert not view.shows_row("1.2", "1.2.2")
    policy.asked.clear()
    await views(Archive(ROWS, SERIES), external=policy).of(permit(NO_SR), SEARCH)
    assert policy.asked == []  # A permit that names no caller needs no verdict.


async def test_the_policy_is_asked_once_for_each_context() -> None:
    """SIA-15: what a scope of one context leads to is judged by that context alone."""
    policy = Verdicts(**{"1.2": Verdict(True)})
    archive = Archive(ROWS[:1], SERIES)
    permit_of_two = judged(contexts=("user", "patient", "user"))
    assert await views(archive, external=policy).of_study(permit_of_two, SEARCH, "1.2")
    assert policy.asked == [("patient", "1.2"), ("user", "1.2")]


async def test_without_a_policy_to_ask_nothing_is_shown() -> None:
    """SIA-16: a permit that needs a verdict gets none."""
    view = await views(Archive(ROWS, SERIES)).of(judged(), SEARCH)
    assert view.rows == []


async def test_each_of_a_studys_copies_is_judged() -> None:
    policy = Verdicts(**{"1.2": Verdict(True)})
    archive = Archive([study()], {}, copies=[study()])
    view = await views(archive, external=policy).of(judged(), SEARCH)
    assert isinstance(view.of("1.2"), Visible)
    assert policy.asked == [("patient", "1.2")] * 2


async def test_the_facts_of_a_long_list_are_not_in_memory_at_once() -> None:
    """Those of 20,000 studies hold the loop for 100 ms: the garbage collector goes through them."""
    alive: list[int] = []

    class Counting(Verdicts):
        async def verdict(
            self, permit: PatientPermit, context: str, uid: str, study: DescribedStudy
        ) -> Verdict:
            if uid == "1.499":
                alive.append(sum(type(each) is DescribedStudy for each in gc.get_objects()))
            return Verdict(True)

    rows = [study(f"1.{number}") for number in range(500)]
    view = await views(Archive(rows, {}), external=Counting()).of(judged(), SEARCH)
    assert len(view.rows) == 500
    assert 0 < alive[0] <= 4 * BATCH
