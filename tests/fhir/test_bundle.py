"""The searchset Bundle and its links (SIA-24)."""

from datetime import UTC, datetime, timedelta

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest
from sidecar.fhir.bundle import instant
from sidecar.fhir.cursor import Cursor
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import MAXIMUM_PARAMETERS
from sidecar.web.target import MAXIMUM_LENGTH
from tests.fhir.answers import EHR, LINKS, NOW, REAL, answer, follow, link, parse, study
from tests.fhir.profile import check_bundle
from tests.fhir.rows import ORTHANC_EMPTY, Row, uids

Parameters = list[tuple[str, str]]


@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize("include", [[], [("_include", "ImagingStudy:endpoint")]])
@pytest.mark.parametrize("rows", [REAL, [], [ORTHANC_EMPTY]], ids=len)
@pytest.mark.parametrize(
    "more", [[], [("_count", "1")], [("_count", "0")], [("started", "ge1997,sa2025")]], ids=str
)
def test_the_bundle_is_valid(
    rows: list[Row], include: Parameters, more: Parameters, contained: bool
) -> None:
    """SIA-24 and R4; also with nothing found."""
    bundle = answer(rows, parse(("patient", "123"), *include, *more), contained=contained)
    check_bundle(bundle)
    Bundle.model_validate(bundle)
    included = [entry for entry in bundle.get("entry", []) if entry["search"]["mode"] == "include"]
    assert len(included) == (1 if include and not contained and len(bundle.get("entry", [])) else 0)
    assert ("entry" in bundle) is (
        bool(rows) and ("_count", "0") not in more and bundle["total"] > 0
    )
    assert bundle["meta"]["lastUpdated"] == "2024-03-01T12:00:00.123Z"


@pytest.mark.parametrize("rows", [REAL, []], ids=len)
def test_what_was_ignored_is_an_outcome(rows: list[Row]) -> None:
    """R4 http.html#search: an OperationOutcome of mode outcome, which counts as no match and is on
    the first page.
    """
    search = parse(("colour", "blue"), ("_count", "1"), ("modality", ""))
    bundle = answer(rows, search)
    check_bundle(bundle)
    Bundle.model_validate(bundle)
    *matches, last = bundle["entry"]
    assert last["search"] == {"mode": "outcome"}
    assert (
        last["resource"]["issue"][0]["diagnostics"] == "Ignored search parameters: colour, modality"
    )
    assert (len(matches), bundle["total"]) == (min(len(rows), 1), len(rows))
    assert "colour" not in str(bundle["link"])
    assert "modality" not in str(bundle["link"])


def test_count_0_is_the_total_alone() -> None:
    """R4 search.html#count."""
    bundle = answer(REAL, parse(("_count", "0")))
    assert bundle["total"] == 3
    assert link(bundle, "next") is None


def test_every_answer_has_an_id_of_its_own() -> None:
    assert answer(REAL, Search())["id"] != answer(REAL, Search())["id"]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2024-03-01T12:00:00.123Z"),
        (datetime(2024, 3, 1, tzinfo=UTC), "2024-03-01T00:00:00.000Z"),
        (datetime.fromisoformat("2024-03-01T00:30:00+01:00"), "2024-02-29T23:30:00.000Z"),
        (NOW.replace(microsecond=999_999), "2024-03-01T12:00:00.999Z"),
    ],
)
def test_instants(moment: datetime, text: str) -> None:
    """Rounded down: a sync from there must not skip what came in the same millisecond."""
    assert instant(moment) == text


date_values = st.sampled_from(
    [
        "2024",
        "ge2024-02",
        "lt2024-02-29,2023",
        "ap2024-02-29T10:11Z",
        "gt2024-02-29T10:11:12.123+05:30",
        "ne2024-02-29T10:11:12 01:00",
    ]
)
sensible = st.lists(
    st.tuples(
        st.sampled_from(["patient", "subject", "subject:Patient"]),
        st.sampled_from(["123", "Patient/123", EHR + "/Patient/123"]),
    )
    | st.tuples(st.sampled_from(["started", "_lastUpdated"]), date_values)
    | st.tuples(
        st.just("identifier"), st.text("AB&=+#%ä山 ,|;/?", max_size=12).map("x".__add__) | uids
    )
    | st.tuples(st.just("_count"), st.sampled_from(["0", "1", "2", "500", "9999"]))
    | st.tuples(st.just("_include"), st.sampled_from(["ImagingStudy:endpoint", "*"]))
    | st.tuples(st.just("modality"), st.sampled_from(["CT", "CT,MR", "|CT"]))
    | st.tuples(
        st.just("_sort"),
        st.sampled_from(["started", "-started", "_lastUpdated", "-_lastUpdated,started"]),
    )
    | st.tuples(st.just("_elements"), st.sampled_from(["modality", "series.uid,started"]))
    | st.tuples(st.just("colour"), st.text()),
    max_size=8,
)


@given(sensible)
def test_the_self_link_says_just_what_was_understood(parameters: Parameters) -> None:
    """Asked again it means the same, and names itself: a fixed point."""
    search = parse(*parameters)
    url = link(answer(REAL, search), "self")
    assert url is not None
    again = follow(url)
    assert link(answer(REAL, again), "self") == url
    assert again.patients == {"123"}
    for part in ("identifiers", "started", "last_updated", "tokens", "result"):
        assert getattr(again, part) == getattr(search, part), part


@given(sensible)
def test_the_next_link_asks_the_same_further_on(parameters: Parameters) -> None:
    search = parse(*parameters)
    bundle = answer([study(f"1.2.{number}") for number in range(4)], search)
    url = link(bundle, "next")
    matches = [
        entry["resource"]["id"]
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] == "match"
    ]
    if url is None:  # There is nothing further on: all are here, or none was asked for.
        assert len(matches) == (0 if search.result.count == 0 else bundle["total"])
        return
    further = follow(url)
    last = matches[-1]
    assert further.after is not None
    assert further.after.uid == last
    for part in ("identifiers", "started", "last_updated", "tokens", "result"):
        assert getattr(further, part) == getattr(search, part), part


@pytest.mark.parametrize("named", [True, False])
def test_links_of_the_longest_list_of_parameters_can_be_followed(named: bool) -> None:
    """We must not refuse what we wrote ourselves."""
    fixed = [("_count", "1"), *([("patient", "123")] if named else [])]
    bundle = answer(
        REAL, parse(*fixed, *[("started", "ge1900")] * (MAXIMUM_PARAMETERS - len(fixed)))
    )
    for one in bundle["link"]:
        follow(one["url"])


def posted(identifiers: int) -> Search:
    """A list of identifiers that only a body can carry."""
    many = ",".join(f"urn:oid:1.2.{number}" for number in range(identifiers))
    return parse(("_count", "1"), *[("identifier", many[:4_000].rpartition(",")[0])] * 2)


@pytest.mark.parametrize("identifiers", [10, 100, 150])
def test_links_of_a_long_posted_search_can_be_followed(identifiers: int) -> None:
    """SIA-20, _search: what is accepted has no ``next`` that would be a 414."""
    bundle = answer([study(f"1.2.{number}") for number in range(3)], posted(identifiers))
    assert link(bundle, "next")
    assert all(len(one["url"]) <= MAXIMUM_LENGTH for one in bundle["link"])


def test_a_search_that_is_too_long_for_its_links_is_refused() -> None:
    with pytest.raises(BadRequest, match="too_long"):
        posted(250)


def test_a_long_list_of_patients_is_refused_or_can_be_followed() -> None:
    """The token's own patient a thousand times in a posted search."""
    try:
        search = parse(("_count", "1"), *[("patient", ",".join(["123"] * 1_000))] * 3)
    except BadRequest:
        return
    assert all(len(one["url"]) <= MAXIMUM_LENGTH for one in answer(REAL, search)["link"])


def test_every_page_shows_when_the_first_was_asked_for() -> None:
    """A safe ``_lastUpdated=gt`` for the next sync, whichever page's a client takes."""
    first = answer(REAL, parse(("_count", "1")))
    url = link(first, "next")
    assert url is not None
    second = answer(REAL, follow(url), as_of=NOW + timedelta(minutes=1))
    url = link(second, "next")
    assert url is not None
    third = answer(REAL, follow(url), as_of=NOW + timedelta(minutes=2))
    assert {one["meta"]["lastUpdated"] for one in (first, second, third)} == {
        "2024-03-01T12:00:00.123Z"
    }


@pytest.mark.parametrize("as_of", [0, 1, -1, 2**40])
def test_an_as_of_is_never_in_the_future(as_of: int) -> None:
    """Also when another replica's clock was ahead."""
    sealed = LINKS.seal(Cursor((5,), "1.2", as_of), "123", [("patient", "123")])
    bundle = answer(REAL, parse(("_after", sealed)))
    assert bundle["meta"]["lastUpdated"] <= "2024-03-01T12:00:00.123Z"


@pytest.mark.parametrize("text", ["x", "AAAA", ""])
def test_a_made_up_link_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="bad_cursor"):
        parse(("_after", text))
