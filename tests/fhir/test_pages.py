"""Pages: every study once, whatever arrives meanwhile, and never anybody else's."""

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.cursor import Cursor, PageLinks
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.result_parameters import ResultParameters
from sidecar.fhir.search import Search
from sidecar.fhir.select import StudyPage
from tests.fhir.observing import observe
from tests.fhir.rows import Row, row, uids
from tests.fhir.selection import select

LINKS = PageLinks(b"key")
SITE = Site("https://ehr.example.org/fhir", UTC)


def page_of(rows: list[Row], after: Cursor | None, count: int, patient: str = "123") -> StudyPage:
    """Return a page; the cursor has been through a link, as any."""
    cursor = LINKS.open(LINKS.seal(after, patient, []), patient, []) if after else None
    search = Search(after=cursor, result=ResultParameters(count=count))
    return select(rows, search, seen=observe(Catalog(), patient, rows), site=SITE, page_size=50)


# Few days and times, so that many studies begin at once.
studies = st.dictionaries(
    uids,
    st.tuples(
        st.sampled_from([None, "20240229", "20240301", "00010101", "20990101"]),
        st.sampled_from([None, "0915"]),
    ),
    max_size=12,
).map(
    lambda found: {
        uid: row(StudyInstanceUID=uid, StudyDate=day, StudyTime=time)
        for uid, (day, time) in found.items()
    }
)


@given(studies, st.lists(studies, max_size=6), st.integers(1, 4))
def test_every_study_is_on_one_page_whatever_arrives(
    first: dict[str, Row], arrivals: list[dict[str, Row]], count: int
) -> None:
    """What was there from the start comes exactly once, what arrives at most once, and the pages
    end.
    """
    archive = dict(first)
    coming = iter(arrivals)
    seen: list[str] = []
    after: Cursor | None = None
    for _ in range(1_000):
        page = page_of(list(archive.values()), after, count)
        assert page.total == len(archive)
        assert len(page.studies) <= count
        seen += [study.uid for study in page.studies]
        after = page.next_after
        if after is None:
            break
        archive |= {uid: one for uid, one in next(coming, {}).items() if uid not in archive}
    assert after is None
    assert len(seen) == len(set(seen))
    assert set(first) <= set(seen) <= set(archive)


@given(studies, st.integers(1, 4), st.data())
def test_a_study_that_goes_takes_no_other_with_it(
    first: dict[str, Row], count: int, data: st.DataObject
) -> None:
    """Also when the page ended with it: a page begins behind a place, whoever is there."""
    archive = dict(first)
    gone: set[str] = set()
    seen: list[str] = []
    after: Cursor | None = None
    while True:
        page = page_of(list(archive.values()), after, count)
        seen += [study.uid for study in page.studies]
        after = page.next_after
        if after is None:
            break
        leaves = data.draw(st.sampled_from(sorted(archive)))
        gone.add(leaves)
        archive = {uid: one for uid, one in archive.items() if uid != leaves}
        if not archive:
            break
    assert len(seen) == len(set(seen))
    assert set(first) - gone <= set(seen)


@given(studies, studies, st.integers(-(2**62), 2**62), uids, st.integers(0, 50))
def test_a_made_up_cursor_reaches_nobody_else(
    mine: dict[str, Row], foreign: dict[str, Row], began: int, uid: str, count: int
) -> None:
    """It only skips: rows are the patient's own, whatever place it names, another patient's study's
    too.
    """
    own = list(mine.values())
    whole = [study.row for study in page_of(own, None, 500).studies]
    foreign_keys = [
        Cursor((-study.start,), study.uid)
        for study in page_of(list(foreign.values()), None, 500, patient="124").studies
    ]
    for cursor in (Cursor((began,), uid), *foreign_keys):
        page = page_of(own, cursor, count)
        assert page.total == len(own)
        shown = [one.row for one in page.studies]
        start = whole.index(shown[0]) if shown else 0
        assert shown == whole[start : start + len(shown)]
        if page.next_after is not None:
            assert page.next_after.uid in mine
