"""Order, amount and form of what a search returns (https://hl7.org/fhir/R4/search.html#return)."""

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.dicom.json_model import text
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import study_id
from sidecar.fhir.r5 import to_r5
from sidecar.fhir.result_parameters import SORTS, ResultParameters, read_result, subset
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from tests.fhir.answers import NOW, REAL, SITE, answer, follow, found, link, parse, study, uids_of

DATED = [
    study("1.2.1", "20230101"),
    study("1.2.2", "20240101"),
    study("1.2.3", None),
    study("1.2.4", "20240101"),
]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("-started", ["1.2.2", "1.2.4", "1.2.1", "1.2.3"]),
        ("started", ["1.2.3", "1.2.1", "1.2.2", "1.2.4"]),
    ],
)
def test_the_order(sort: str, expected: list[str]) -> None:
    """Ties by UID; a study that does not say when it began is the oldest."""
    assert uids_of(found(DATED, parse(("_sort", sort)))) == expected


def test_by_last_change() -> None:
    clock = [NOW.timestamp()]
    catalog = Catalog(clock=lambda: clock[0])
    for there in ((4,), (2, 4), (2, 3, 4), (1, 2, 3, 4)):  # They come one after another.
        found([DATED[number - 1] for number in there], Search(), catalog=catalog)
        clock[0] += 1
    assert uids_of(found(DATED, parse(("_sort", "_lastUpdated")), catalog=catalog)) == [
        "1.2.4",
        "1.2.2",
        "1.2.3",
        "1.2.1",
    ]
    newest = uids_of(found(DATED, parse(("_sort", "-_lastUpdated,started")), catalog=catalog))
    assert newest == ["1.2.1", "1.2.3", "1.2.2", "1.2.4"]


@given(st.permutations(SORTS).map(lambda sorts: next(iter(sorts))), st.integers(1, 3))
def test_every_order_pages_through_everything(sort: str, count: int) -> None:
    search = parse(("_sort", sort), ("_count", str(count)))
    whole = uids_of(found(DATED, parse(("_sort", sort))))
    seen: list[str] = []
    while True:
        bundle = answer(DATED, search)
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = link(bundle, "next")
        if url is None:
            break
        search = follow(url)
    assert seen == whole


@pytest.mark.parametrize(
    "value", ["modality", "started,-started", "started,started", "--started", "-"]
)
def test_other_orders_are_ignored_as_a_whole(value: str) -> None:
    """The studies are the same; the answer says that the order is not (decision 0054)."""
    search = parse(("_sort", value))
    assert (search.result.sort, search.ignored) == ((), ["_sort"])
    with pytest.raises(BadRequest):
        parse_search([("_sort", value)], SITE, strict=True)


def test_by_id() -> None:
    """As text, also that of a hashed id; both ways."""
    rows = [study("1.2.10"), study("1.2.9"), study("1.2"), study("1." + "2" * 70)]
    expected = sorted(study_id(text(one, "StudyInstanceUID") or "") for one in rows)
    for sort, ids in (("_id", expected), ("-_id", expected[::-1])):
        page = found(rows, parse(("_sort", sort)))
        assert [one.id for one in page.studies] == ids


@pytest.mark.parametrize("parameter", [("_summary", "count"), ("_count", "0")])
def test_the_total_alone(parameter: tuple[str, str]) -> None:
    bundle = answer(REAL, parse(parameter))
    assert (bundle["total"], "entry" in bundle, link(bundle, "next")) == (3, False, None)


@pytest.mark.parametrize(
    ("value", "shown"), [("none", False), ("estimate", True), ("accurate", True)]
)
def test_the_total_can_be_left_out(value: str, shown: bool) -> None:
    assert ("total" in answer(REAL, parse(("_total", value)))) is shown


@pytest.mark.parametrize(
    ("parameter", "kept", "left"),
    [
        (("_summary", "true"), {"identifier", "modality", "started", "endpoint"}, {"contained"}),
        (("_summary", "text"), {"status", "subject"}, {"modality", "identifier", "started"}),
        (("_elements", "modality"), {"status", "subject", "modality"}, {"identifier", "started"}),
        (
            ("_elements", "ImagingStudy.started,series.uid"),
            {"status", "subject", "started"},
            {"modality"},
        ),
    ],
)
def test_less_of_each_study(parameter: tuple[str, str], kept: set[str], left: set[str]) -> None:
    """Marked as less, and valid all the same: what is mandatory stays."""
    bundle = answer(REAL, parse(parameter))
    Bundle.model_validate(bundle)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert resource["meta"]["tag"][0]["code"] == "SUBSETTED"
        assert resource["meta"]["lastUpdated"]
        assert kept & set(resource) == kept - ({"started"} if "started" not in resource else set())
        assert not left & set(resource)


@pytest.mark.parametrize("value", ["false", "data"])
def test_all_of_each_study(value: str) -> None:
    plain, summary = answer(REAL, Search()), answer(REAL, parse(("_summary", value)))
    assert [entry["resource"] for entry in plain["entry"]] == [
        one["resource"] for one in summary["entry"]
    ]


def test_a_contained_endpoint_stays_with_its_reference() -> None:
    (entry, *_) = answer(REAL, parse(("_summary", "true")), contained=True)["entry"]
    assert entry["resource"]["contained"]
    (entry, *_) = answer(REAL, parse(("_elements", "started")), contained=True)["entry"]
    assert "contained" not in entry["resource"]


@pytest.mark.parametrize("pair", [("_summary", "all"), ("_pretty", "1"), ("_elements", "a b")])
def test_other_values_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(BadRequest):
        parse(pair)


@pytest.mark.parametrize(
    "value",
    ["json", "application/json", "application/fhir+json", "application/fhir+json; fhirVersion=4.0"],
)
def test_json_is_spoken(value: str) -> None:
    assert parse(("_format", value)).used == [("_format", value)]


@pytest.mark.parametrize("value", ["xml", "application/fhir+xml", "ttl", "html"])
def test_nothing_else_is(value: str) -> None:
    with pytest.raises(NotAcceptable):
        parse(("_format", value))


@pytest.mark.parametrize(
    ("parameter", "left"),
    [
        (("_summary", "true"), {"payloadMimeType", "address"}),
        (("_summary", "text"), {"address"}),
        (("_elements", "Endpoint.address"), {"address"}),
        (("_elements", "payloadMimeType"), {"payloadMimeType", "address"}),
    ],
)
def test_less_of_an_endpoint(parameter: tuple[str, str], left: set[str]) -> None:
    """What it must have stays, and so does what earlier texts had (SIA-31): else an app would not
    know what it is.
    """
    endpoints = Endpoints("https://imaging.example.org/fhir", requires_access_token=True)
    whole = endpoints.resource("p1")
    found = subset(whole, read_result(ResultParameters(), *parameter, maximum_count=0))
    must = {"resourceType", "id", "meta", "extension", "status", "connectionType", "payloadType"}
    assert set(found) == must | left | {"address"}
    assert found["meta"]["tag"][0]["code"] == "SUBSETTED"
    Endpoint.model_validate(found)
    assert ("mimeType" in to_r5(found)["payload"][0]) == ("payloadMimeType" in left)
    assert subset(whole, ResultParameters()) is whole
