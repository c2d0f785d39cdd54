"""WADO-URI (PS3.18 chapter 9) becomes the same value that a WADO-RS path becomes."""

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.dicomweb.upstream_accept import accepted_types
from sidecar.dicomweb.wado_uri import parse_wado_uri
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import answer
from tests.fakes.site import HEADERS, sidecar_between
from tests.tables.wado_uri import ASKED

PART = Part("1.2", "1.2.3", "1.2.3.4")
LEAST = [
    ("requestType", "WADO"),
    ("studyUID", "1.2"),
    ("seriesUID", "1.2.3"),
    ("objectUID", "1.2.3.4"),
]
DRAWN = Retrieval(Kind.RENDERED, PART)


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_for(what: str) -> None:
    more, header, kind, accept, rendering = ASKED[what]
    found = parse_wado_uri([*LEAST, *more], header)
    assert (found.retrieval, found.accept, found.rendering) == (
        Retrieval(kind, PART),
        accept,
        rendering,
    )
    assert accepted_types(found.accept, found.retrieval).upstream


def test_a_frame() -> None:
    assert parse_wado_uri([*LEAST, ("frameNumber", "7")], None).retrieval == Retrieval(
        Kind.RENDERED, PART, (7,)
    )


@pytest.mark.parametrize(
    "more",
    [
        ("anonymize", "yes"),
        ("region", "0,0,1,1"),
        ("presentationUID", "1.2"),
        ("rows", "-1"),
        ("rows", "0"),
        ("columns", "1,2"),
        ("frameNumber", "0"),
        ("frameNumber", "x"),
        ("windowCenter", "40"),
        ("windowWidth", "400"),
        ("studyUID", "1.2"),
        ("objectUID", "1.3"),
        ("contentType", "a b/c"),
    ],
)
def test_what_cannot_be_answered_as_asked_is_refused(more: tuple[str, str]) -> None:
    """Nothing is left out in silence: ``anonymize`` least of all."""
    with pytest.raises(BadRequest):
        parse_wado_uri([*LEAST, more], None)


@pytest.mark.parametrize("missing", range(4))
@pytest.mark.parametrize("instead", [None, "", "x", "1.2/../1.3", "1.2\\1.3", "*", "1..2", ".."])
def test_the_four_are_required(missing: int, instead: str | None) -> None:
    rest = [one for at, one in enumerate(LEAST) if at != missing]
    with pytest.raises(BadRequest):
        parse_wado_uri(rest if instead is None else [*rest, (LEAST[missing][0], instead)], None)


NAMES = st.sampled_from(
    sorted({*dict(LEAST), "rows", "contentType", "transferSyntax", "frameNumber"})
)


@given(st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=8))
def test_any_query_is_a_value_or_a_refusal(parameters: list[tuple[str, str]]) -> None:
    """And what a client wrote travels no further than as UIDs, numbers and what the next steps
    check again.
    """
    try:
        found = parse_wado_uri([*LEAST, *parameters], None)
    except BadRequest:
        return
    assert found.retrieval.part == PART


@pytest.mark.parametrize("on", [True, False])
async def test_it_is_there_only_when_the_site_wants_it(on: bool) -> None:
    """By the same checks as WADO-RS; the archive is asked by WADO-RS alone."""
    pacs = ScriptedPacs(answer(b"Content-Type: image/jpeg\r\nContent-Length: 4\r\n", b"JPEG"))
    query = {
        "requestType": "WADO",
        "studyUID": STUDY,
        "seriesUID": SERIES,
        "objectUID": INSTANCE,
        "rows": "64",
    }
    async with (
        sidecar_between(ScriptedEhr(), pacs, server={"wado_uri": on}) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(url + "/wado-uri", params=query, headers=HEADERS) as response:
            assert response.status == (200 if on else 404)
            if on:
                assert await response.read() == b"JPEG"
                assert pacs.requests[-1].endswith(f"/instances/{INSTANCE}/rendered?viewport=64,64")
        for changed in (
            {"studyUID": "1.2.840.99"},
            {"seriesUID": "1.2.840.99"},
            {"objectUID": "1.2.840.99"},
        ):
            retrievals = [target for target in pacs.requests if "rendered" in target]
            async with client.get(
                url + "/wado-uri", params=query | changed, headers=HEADERS
            ) as response:
                assert response.status == 404
            assert [target for target in pacs.requests if "rendered" in target] == retrievals
        async with client.get(url + "/wado-uri", params=query) as response:
            assert response.status == (401 if on else 404)
