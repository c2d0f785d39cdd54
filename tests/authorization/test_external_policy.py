"""The external policy: what it is told, what it may answer; without a clear answer nothing is
served (SIA-16).
"""

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Caller, DescribedSeries, DescribedStudy, Verdict
from sidecar.access.permits import Interaction
from sidecar.authorization.external_policy import ExternalPolicy, policy_input, read_verdict
from sidecar.common.errors import Unavailable
from sidecar.common.fair_queue import FairQueue
from sidecar.common.fetch import FetchFailed
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.uid import is_uid
from tests.authorization.recorded_spans import recorded_spans
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.permits import patient_permit
from tests.waiting import wait_until_async

CALLER = Caller("app", "u1", "https://ehr.example.org")
PERMIT = patient_permit("p1", Interaction.SEARCH, caller=CALLER)
STUDY = DescribedStudy(
    {"StudyDate": ("20240229",), "ModalitiesInStudy": ("CT", "SR")},
    (DescribedSeries("1.2.1", {"Modality": ("CT",)}), DescribedSeries("1.2.2", {})),
)


def policy(session: aiohttp.ClientSession, peer: Peer, **options: Any) -> ExternalPolicy:
    """At ``peer``."""
    given: dict[str, Any] = {"cache_seconds": 10, "invalidation": Invalidation()} | options
    return ExternalPolicy(
        session, peer.url + "/v1/data/imaging/access", **{"timeout_seconds": 60} | given
    )


async def test_what_it_is_told(session: aiohttp.ClientSession, peer: Peer) -> None:
    """Who asks is what was validated; never the token."""
    peer.say(Reply({"result": True, "decision_id": "x"}))
    assert await policy(session, peer, token="ours").verdict(
        PERMIT, "patient", "1.2", STUDY
    ) == Verdict(True)
    (asked,) = peer.asked
    assert (asked.method, asked.target) == ("POST", "/v1/data/imaging/access")
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Authorization"] == "Bearer ours"
    assert policy_input(CALLER, PERMIT.interaction, PERMIT.patient, "patient", "1.2", STUDY) == {
        "interaction": "search",
        "patient": "p1",
        "client_id": "app",
        "subject": "u1",
        "issuer": "https://ehr.example.org",
        "context": "patient",
        "study": {
            "StudyInstanceUID": "1.2",
            "StudyDate": ["20240229"],
            "ModalitiesInStudy": ["CT", "SR"],
        },
        "series": [
            {"SeriesInstanceUID": "1.2.1", "Modality": ["CT"]},
            {"SeriesInstanceUID": "1.2.2"},
        ],
    }
    json.dumps(policy_input(CALLER, PERMIT.interaction, PERMIT.patient, "patient", "1.2", STUDY))


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (True, Verdict(True)),
        (False, Verdict(False)),
        ({"allow": True}, Verdict(True)),
        ({"allow": False}, Verdict(False)),
        ({"allow": True, "exclude_series": []}, Verdict(True)),
        (
            {"allow": True, "exclude_series": ["1.2.2", "1.2.2"]},
            Verdict(True, frozenset({"1.2.2"})),
        ),
        ({"allow": True, "exclude_series": ["1.02", "7"]}, Verdict(True, frozenset({"1.02", "7"}))),
    ],
)
def test_clear_answers(result: Any, verdict: Verdict) -> None:
    assert read_verdict({"result": result}) == verdict


NO_UIDS: list[Any] = [
    "",
    " ",
    "*",
    "1.2.*",
    "1.2.2,1.2.3",
    "1.2.2 ",
    " 1.2.2",
    "1.2.2\n",
    "1.2.2\0",
    "1.2..2",
    "..",
    ".1.2",
    "1.2.",
    ".",
    "urn:oid:1.2.2",
    "Series/1.2.2",
    "all",
    "1.2.\u0662",
    "1.2." + "2" * 125,
    None,
    True,
    1.2,
    ["1.2.2"],
    {},
]
UNCLEAR = [
    {},
    {"result": None},
    {"result": "true"},
    {"result": 1},
    {"result": []},
    {"result": {}},
    {"result": {"allow": "yes"}},
    {"result": {"allow": True, "exclude_series": "1.2"}},
    {"result": {"allow": True, "exclude_series": ""}},
    {"result": {"allow": True, "exclude_series": "12"}},
    {"result": {"allow": True, "exclude_series": {}}},
    {"result": {"allow": True, "exclude_series": None}},
    {"result": {"allow": True, "exclude_series": [1]}},
    *({"result": {"allow": True, "exclude_series": ["1.2.2", one]}} for one in NO_UIDS),
    {"result": {"allow": False, "exclude_series": ["all"]}},
    {"result": {"allow": True, "exclude": ["1.2"]}},
    {"result": {"exclude_series": []}},
    {"allow": True},
]


@pytest.mark.parametrize("answer", UNCLEAR)
def test_unclear_answers(answer: Any) -> None:
    """A member that we do not know might be what takes something away."""
    with pytest.raises(FetchFailed):
        read_verdict(answer)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda below: (
            st.lists(below)
            | st.dictionaries(st.sampled_from(["allow", "exclude_series", "x"]), below)
        ),
    )
)
def test_any_answer_is_clear_or_none(result: Any) -> None:
    try:
        found = read_verdict({"result": result})
    except FetchFailed:
        return
    assert found.allow is (result if isinstance(result, bool) else result["allow"])


@given(
    st.lists(
        st.from_regex(r"[12]{1,3}(\.[12]{1,3}){1,3}", fullmatch=True) | st.text(max_size=8),
        max_size=4,
    )
)
def test_each_name_is_a_uid_or_none_counts(named: list[str]) -> None:
    """A name that is none may be a misspelled one, and then shows what was to be taken away."""
    if all(map(is_uid, named)):
        assert read_verdict(
            {"result": {"allow": True, "exclude_series": named}}
        ).exclude_series == set(named)
    else:
        with pytest.raises(FetchFailed):
            read_verdict({"result": {"allow": True, "exclude_series": named}})


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=401),
        Reply(status=302, headers={"Location": "/x"}),
        Reply("<html>"),
        Reply([]),
        Reply('{"result": false, "result": true}'),
        Reply(" " * 2_000_000),
        *(Reply(one) for one in UNCLEAR),
    ],
)
async def test_without_a_clear_answer_nothing_is_decided(
    session: aiohttp.ClientSession, peer: Peer, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    seen: list[str] = []
    peer.say(reply)
    asked = policy(session, peer, observe=seen.append)
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable) as failed:
        await asked.verdict(PERMIT, "patient", "1.2", STUDY)
    assert failed.value.status == 503
    assert failed.value.retry_after == 5
    assert seen == ["unavailable"]
    assert "p1" not in all_that_is_said(caplog)
    peer.say(Reply({"result": True}))
    # A failure is not remembered.
    assert await asked.verdict(PERMIT, "patient", "1.2", STUDY) == Verdict(True)


async def test_a_policy_that_is_not_there(session: aiohttp.ClientSession) -> None:
    gone = ExternalPolicy(
        session,
        "http://127.0.0.1:9/x",
        timeout_seconds=60,
        cache_seconds=10,
        invalidation=Invalidation(),
    )
    with pytest.raises(Unavailable):
        await gone.probe()


async def test_answers_are_remembered_for_a_moment(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    clock = Clock()
    seen: list[str] = []
    peer.say(Reply({"result": {"allow": True, "exclude_series": ["1.2.2"]}}))
    asked = policy(session, peer, clock=clock, observe=seen.append)
    await asyncio.gather(*(asked.verdict(PERMIT, "patient", "1.2", STUDY) for _ in range(20)))
    assert len(peer.asked) == 1
    assert seen == ["partly"]
    peer.say(Reply({"result": False}))
    other = patient_permit("p1", Interaction.RETRIEVE, caller=PERMIT.caller)
    # Another question.
    assert await asked.verdict(other, "patient", "1.2", STUDY) == Verdict(False)
    clock.now += 10.1
    assert await asked.verdict(PERMIT, "patient", "1.2", STUDY) == Verdict(False)
    assert len(peer.asked) == 3
    asked._verdicts.forget(None)
    await asked.verdict(PERMIT, "patient", "1.2", STUDY)
    always = policy(session, peer, cache_seconds=0)
    await always.verdict(PERMIT, "patient", "1.2", STUDY)
    await always.verdict(PERMIT, "patient", "1.2", STUDY)
    assert len(peer.asked) == 6


async def test_what_is_sent_names_the_caller(session: aiohttp.ClientSession, peer: Peer) -> None:
    """A permit without a caller, and a probe, are about nobody; a token of ours is optional."""
    bodies: list[Any] = []

    async def note(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({"result": True})

    peer.say(Reply(write=note))
    asked = policy(session, peer)
    nobody = patient_permit("p1", Interaction.SEARCH)
    for permit in (PERMIT, nobody):
        assert await asked.verdict(permit, "user", "1.2", STUDY) == Verdict(True)
    assert await asked.probe() == Verdict(True)
    nothing = {"client_id": None, "subject": None, "issuer": None}
    assert bodies == [
        {"input": policy_input(CALLER, Interaction.SEARCH, "p1", "user", "1.2", STUDY)},
        {"input": policy_input(Caller(), Interaction.SEARCH, "p1", "user", "1.2", STUDY)},
        {
            "input": {
                "interaction": "search",
                "patient": "check",
                **nothing,
                "context": "patient",
                "study": {"StudyInstanceUID": "2.25.0"},
                "series": [],
            }
        },
    ]
    for one in peer.asked:
        assert "Authorization" not in one.headers
        assert one.headers["Accept"] == "application/json"
    await asked.close()


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (True, "allow"),
        (False, "deny"),
        ({"allow": False, "exclude_series": ["1.2.2"]}, "deny"),
        ({"allow": True, "exclude_series": ["1.2.2"]}, "partly"),
    ],
)
async def test_each_verdict_is_counted(
    session: aiohttp.ClientSession, peer: Peer, result: Any, outcome: str
) -> None:
    counted: list[str] = []
    peer.say(Reply({"result": result}))
    asked = policy(session, peer, observe=counted.append)
    with recorded_spans() as spans:
        await asked.verdict(PERMIT, "patient", "1.2", STUDY)
    assert counted == [outcome]
    assert [name for name, _ in spans] == ["policy"]


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        (Reply(status=500), "unexpected_status", "status 500"),
        (Reply({"result": True}, status=201), "unexpected_status", "status 201"),
        (Reply({}), "undefined", None),
        (Reply({"result": 1}), "wrong_shape", None),
        (Reply({"result": {"allow": 1}}), "wrong_shape", None),
        (Reply({"result": {"allow": True, "exclude_series": ["x"]}}), "wrong_shape", None),
    ],
)
async def test_why_there_is_no_decision_is_in_the_log(
    session: aiohttp.ClientSession,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
    reply: Reply,
    reason: str,
    detail: str | None,
) -> None:
    peer.say(reply)
    with pytest.raises(Unavailable) as failed:
        await policy(session, peer).verdict(PERMIT, "patient", "1.2", STUDY)
    assert failed.value.reason == f"policy_{reason}"
    assert failed.value.diagnostics == (
        "The hospital's access policy cannot be asked now; try again."
    )
    (line,) = caplog.records
    assert line.getMessage() == "the external policy gave no decision"
    assert (line.reason, line.detail) == (reason, detail)  # type: ignore[attr-defined]


@pytest.mark.parametrize("waiting", [0, 9])
async def test_a_policy_with_too_many_questions_is_not_asked(
    session: aiohttp.ClientSession, peer: Peer, waiting: int
) -> None:
    """Nothing is served without a verdict, whether the queue is full or the wait too long."""
    asked = policy(session, peer)
    asked._queue = queue = FairQueue((1,), waiting=(waiting,), seconds=0.01)
    async with queue.place():
        with pytest.raises(Unavailable) as failed:
            await asked.verdict(PERMIT, "patient", "1.2", STUDY)
    assert failed.value.reason == "policy_queue_full"
    assert peer.asked == []


async def test_closing_ends_what_is_under_way(session: aiohttp.ClientSession, peer: Peer) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    peer.say(Reply(write=hang))
    asked = policy(session, peer, timeout_seconds=3_600)  # It would end by itself.
    asking = asyncio.create_task(asked.verdict(PERMIT, "patient", "1.2", STUDY))
    await wait_until_async("the question", lambda: peer.asked)
    await asked.close()
    await wait_until_async("its end", asking.done)
    assert asking.cancelled() or asking.exception() is not None


async def test_a_change_at_the_archive_forgets_no_verdict(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    """What a policy allows does not follow from images; an administrator forgets everything."""
    invalidation = Invalidation()
    peer.say(Reply({"result": True}))
    asked = policy(session, peer, invalidation=invalidation)

    async def questions() -> int:
        await asked.verdict(PERMIT, "patient", "1.2", STUDY)
        return len(peer.asked)

    assert await questions() == 1
    invalidation.archive_changed({"p1"})
    invalidation.archive_changed(None)
    assert await questions() == 1
    invalidation.invalidate()
    assert await questions() == 2
