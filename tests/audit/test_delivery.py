"""From the spool to a repository that is down, slow, picky or confused: everything, once, in order
(SIA-60).
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.audit import delivery as module
from sidecar.audit.spool import REJECTED
from tests.audit.deliveries import line_to, numbers, out_of_order, size_of, soon
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import wait_until_async

__all__ = ["soon"]


async def test_batches_in_order(tmp_path: Path) -> None:
    repository = FhirRepository()
    repository.seconds = 0.02
    async with line_to(
        tmp_path, repository, batch=40, authorization=lambda: "Bearer secret"
    ) as line:
        line.tell(range(1))
        await wait_until_async("a request", lambda: repository.requests)
        line.tell(range(1, 100))
        await wait_until_async("events", lambda: len(repository.events), lambda found: found == 100)
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 100
        )
    assert numbers(repository) == list(range(100))
    assert [path for _, path, _ in repository.requests] == [
        "/fhir/AuditEvent",
        "/fhir",
        "/fhir",
        "/fhir",
    ]
    assert {authorization for _, _, authorization in repository.requests} == {"Bearer secret"}


async def test_events_that_come_one_by_one_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request for each: the requests' CPU time is that of the clients' process."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 3_600)
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as line:
        for number in range(20):
            line.tell(range(number, number + 1))
            for _ in range(20):  # Time for a request.
                await line.delivery._in_thread(line.backlog.measure)
    assert numbers(repository) == list(range(20))
    assert len(repository.requests) <= 3  # At the start, just behind that, and at the end.


async def test_a_repository_that_is_down_for_long_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits is seen, and said once; then all comes in order."""
    repository = FhirRepository()
    repository.status = 503
    async with line_to(tmp_path, repository) as line:
        line.tell(range(250))
        # Said behind the first few requests only: they get smaller, with no pause between them.
        await wait_until_async(
            '"audit events wait" in caplog.text', lambda: "audit events wait" in caplog.text
        )
        await wait_until_async(
            "what waits",
            lambda: line.value("audit_queue_bytes"),
            float(size_of(range(250))).__eq__,
        )
        assert line.value("audit_queue_age_seconds") > 1_000_000
        assert line.outcome("undelivered") > 4
        repository.recover_with(0)
        await wait_until_async("events", lambda: len(repository.events), lambda found: found == 250)
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
        assert line.value("audit_queue_age_seconds") == 0
    assert numbers(repository) == list(range(250))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "audit events wait: the repository does not take them",
        "the audit repository takes events again",
    ]


@pytest.mark.parametrize("batch", [1, 7, 100])
async def test_what_the_repository_will_never_take_holds_nothing_up(
    tmp_path: Path, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept where people look, and an alert says so."""
    repository = FhirRepository()
    repository.of_event = lambda event: 422 if event["number"] % 10 == 3 else 201
    async with line_to(tmp_path, repository, batch=batch) as line:
        line.tell(range(30))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 27
        )
        assert line.outcome("rejected") == 3
    kept = [json.loads(one)["number"] for one in (tmp_path / REJECTED).read_text().splitlines()]
    assert kept == [3, 13, 23]
    assert numbers(repository) == [number for number in range(30) if number % 10 != 3]
    assert "rejected.jsonl" in caplog.text


async def test_of_a_batch_only_what_was_not_taken_is_told_again(tmp_path: Path) -> None:
    """And before anything newer."""
    repository = FhirRepository()
    tries: list[int] = []

    def busy_once(event: dict[str, Any]) -> int:
        tries.append(event["number"])
        return 503 if event["number"] in (2, 5) and tries.count(event["number"]) == 1 else 201

    repository.of_event = busy_once
    async with line_to(tmp_path, repository, batch=8) as line:
        line.tell(range(20))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 20
        )
    assert sorted(numbers(repository)) == list(range(20))
    assert sorted(tries) == sorted([*range(20), 2, 5])
    assert max(numbers(repository).index(number) for number in (2, 5)) < numbers(repository).index(
        8
    )


async def test_a_batch_that_is_too_large_is_halved(tmp_path: Path) -> None:
    repository = FhirRepository()
    repository.most = 3
    async with line_to(tmp_path, repository, batch=20) as line:
        line.tell(range(20))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 20
        )
    assert numbers(repository) == list(range(20))


@pytest.mark.parametrize(
    "mangle",
    [
        lambda answer: {},
        lambda answer: [],
        lambda answer: {"entry": answer["entry"][:-1]},
        lambda answer: {"entry": [{} for _ in answer["entry"]]},
        lambda answer: {"entry": None},
    ],
)
async def test_an_answer_that_does_not_say_it_of_each_is_none(
    tmp_path: Path, mangle: Callable[[dict[str, Any]], Any]
) -> None:
    """Told again, and alone in the end, rather than lost; under ids of ours it is there once."""
    repository = FhirRepository()
    repository.mangle = mangle
    async with line_to(tmp_path, repository, update=True) as line:
        line.tell(range(5))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 5
        )
        assert line.outcome("undelivered") > 2
    assert numbers(repository) == list(range(5))
    assert [path for _, path, _ in repository.requests].count("/fhir") > 2


async def test_retry_after_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 60)
    repository = FhirRepository()
    repository.status, repository.retry_after = 429, "50"
    async with line_to(tmp_path, repository) as line:
        line.tell(range(2))
        await wait_until_async("repository.requests", lambda: repository.requests)
        await asyncio.sleep(0.3)
        assert len(repository.requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 500, 502])
async def test_no_status_of_the_server_loses_an_event(tmp_path: Path, status: int) -> None:
    """A wrong URL or an expired credential is mended by people, in time."""
    repository = FhirRepository()
    repository.status = status
    async with line_to(tmp_path, repository) as line:
        line.tell(range(2))
        await wait_until_async(
            "undelivered", lambda: line.outcome("undelivered"), lambda found: found > 1
        )
        assert line.outcome("rejected") == 0
        repository.recover_with(0)
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 2
        )
    assert numbers(repository) == [0, 1]


async def test_a_credential_that_cannot_be_read_for_a_moment_ends_nothing(tmp_path: Path) -> None:
    """A Secret that is being renewed: the task goes on, and what waits is seen."""
    repository, secret = FhirRepository(), tmp_path / "secret"

    def authorization() -> str:
        try:
            return secret.read_text()
        except OSError:
            raise ValueError("cannot be read") from None

    async with line_to(tmp_path / "spool", repository, authorization=authorization) as line:
        line.tell(range(3))
        await wait_until_async(
            "undelivered", lambda: line.outcome("undelivered"), lambda found: found > 1
        )
        secret.write_text("Bearer new")
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 3
        )
    assert numbers(repository) == [0, 1, 2]


async def test_an_error_of_ours_ends_nothing(tmp_path: Path) -> None:
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as line:
        deliver, line.repository.deliver = line.repository.deliver, lambda events: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        line.tell(range(2))
        await wait_until_async(
            "undelivered", lambda: line.outcome("undelivered"), lambda found: found > 1
        )
        line.repository.deliver = deliver  # type: ignore[method-assign]
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 2
        )
    assert numbers(repository) == [0, 1]


@pytest.mark.parametrize("body", ["<html>Please log in</html>", "[]", '{"resourceType":"Patient"}'])
async def test_a_page_that_says_200_or_201_is_no_delivery(tmp_path: Path, body: str) -> None:
    """A login or maintenance page of something in between."""
    repository = FhirRepository()
    handle, pages = repository.handle, [200, 201]

    async def page(request: web.Request) -> web.Response:
        return web.Response(status=pages.pop(), text=body) if pages else await handle(request)

    repository.handle = page  # type: ignore[method-assign]
    async with line_to(tmp_path, repository, batch=1) as line:
        line.tell(range(1))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 1
        )
        assert line.outcome("undelivered") == 2
    assert numbers(repository) == [0]


async def test_what_cannot_be_put_aside_repeats_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = FhirRepository()
    repository.of_event = lambda event: 422 if event["number"] == 0 else 201
    (tmp_path / REJECTED).mkdir()
    async with line_to(tmp_path, repository) as line:
        line.tell(range(10))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 9
        )
        await wait_until_async(
            "tries",
            lambda: caplog.text.count("rejected.jsonl cannot be written"),
            lambda count: count > 2,
        )
        (tmp_path / REJECTED).rmdir()
        await wait_until_async(
            "rejected", lambda: line.outcome("rejected"), lambda found: found == 1
        )
    assert numbers(repository) == list(range(1, 10))


@pytest.mark.parametrize("batch", [2, 8, 100])
async def test_one_that_fails_for_ever_holds_nothing_up_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, batch: int
) -> None:
    """A server crashes on one record and takes all others: after many tries it is put aside."""
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] in (3, 4) else 201
    async with line_to(tmp_path, repository, batch=batch) as line:
        number = 0

        def one_more() -> float:
            nonlocal number
            line.tell(range(number, number + 1))
            number += 1
            return line.outcome("rejected")

        await wait_until_async("rejected", one_more, lambda found: found == 2)
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == number - 2
        )
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
    assert sorted(numbers(repository)) == [one for one in range(number) if one not in (3, 4)]
    assert sorted(
        json.loads(one)["number"] for one in (tmp_path / REJECTED).read_text().splitlines()
    ) == [3, 4]
    assert "rejected.jsonl" in caplog.text


async def test_a_repository_that_fails_between_gives_up_no_event(tmp_path: Path) -> None:
    """However often: while it takes nothing at all, nothing is said of one event."""
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] == 1 else 201
    async with line_to(tmp_path, repository, batch=10) as line:
        line.tell(range(3))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 2
        )
        repository.of_event = lambda event: 500
        line.tell(range(3, 10))
        asked = len(repository.requests)
        await wait_until_async(
            "requests", lambda: len(repository.requests), lambda found: found > asked + 40
        )
        repository.recover_with(3)
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 10
        )
        assert line.outcome("rejected") == 0
    assert sorted(numbers(repository)) == list(range(10))
    # That one, and one that showed that others are taken.
    assert out_of_order(numbers(repository)) <= 2


async def test_a_server_that_answers_too_late_gets_less_at_a_time(tmp_path: Path) -> None:
    """It may have stored what it did not answer for: told again, but ever less of it, until it
    answers in time.
    """
    repository = FhirRepository()
    handle = repository.handle

    async def slow(request: web.Request) -> web.Response:
        answer = await handle(request)
        await asyncio.sleep(0.02 * len(json.loads(await request.read()).get("entry", [1])))
        return answer

    repository.handle = slow  # type: ignore[method-assign]
    async with line_to(tmp_path, repository, batch=64, update=True, timeout_seconds=0.2) as line:
        line.tell(range(64))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 64
        )
        assert 0 < line.outcome("undelivered") < 40
    assert sorted(numbers(repository)) == list(range(64))


async def test_the_log_says_why_an_event_is_rejected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the code of the server's OperationOutcome: its text may quote the event."""
    server = FhirRepository()
    server.of_event = lambda event: 422 if event["number"] == 1 else 201
    issue = {"severity": "error", "code": "invariant", "diagnostics": "Patient/p1"}

    def explain(answer: dict[str, Any]) -> dict[str, Any]:
        for entry in answer["entry"]:
            entry["response"]["outcome"] = {"resourceType": "OperationOutcome", "issue": [issue]}
        return answer

    server.mangle = explain
    async with line_to(tmp_path, server) as line:
        line.tell(range(3))
        await wait_until_async("it is rejected", lambda: line.outcome("rejected") == 1)
    details = [vars(one).get("detail") for one in caplog.records if "rejected" in one.msg]
    assert details == ["status 422, invariant"]
