"""Tracing end to end: a request's eight steps at a collector, its trace at the PACS and the EHR, in
log and metrics.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

from sidecar.bootstrap.build import Sidecar
from sidecar.server.listener import listen
from sidecar.telemetry.logs import JsonFormatter
from sidecar.telemetry.metrics import Metrics
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.retrievals import BROKEN, GOOD, PATH, WHOLE
from tests.fakes.site import HEADERS, sidecar_between
from tests.telemetry.collector import Collector, attributes
from tests.waiting import WAIT_SECONDS, wait_until_async

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
JOINED = HEADERS | {
    "traceparent": f"00-{TRACE}-{PARENT}-01",
    "tracestate": "app=anything",
    "baggage": "user=anyone",
}
WADO = "GET /wado-rs/{tail}"


class World:
    """A sidecar that sends spans to ``collector`` when it ends, between ``ehr`` and ``pacs``."""

    def __init__(self, url: str, sidecar: Sidecar, client: aiohttp.ClientSession) -> None:
        self.url, self.sidecar, self.client = url, sidecar, client

    async def get(self, path: str, headers: dict[str, str] = JOINED) -> tuple[int, bytes]:
        """Status and body."""
        async with self.client.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.read()


@contextlib.asynccontextmanager
async def traced(
    pacs: ScriptedPacs, ehr: ScriptedEhr, endpoint: str | None, **changes: Any
) -> AsyncIterator[World]:
    tracing = {"endpoint": endpoint} | changes
    async with (
        sidecar_between(ehr, pacs, tracing=tracing) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        yield World(url, sidecar, client)


async def test_a_retrieval_is_seen_step_by_step() -> None:
    """One trace, begun by the app: our span below its, the steps below ours, the PACS below the
    steps.
    """
    pacs, ehr = ScriptedPacs(GOOD["chunked"]), ScriptedEhr()
    async with Collector().serve() as collector:
        async with traced(pacs, ehr, collector.endpoint) as world:
            assert await world.get(PATH) == (200, WHOLE)
        spans = {one.span_id: one for one in collector.spans()}
        root = collector.named(WADO)
        assert {one.trace_id.hex() for one in spans.values()} == {TRACE}
        assert root.parent_span_id.hex() == PARENT
        parents = {
            (spans[one.parent_span_id].name, one.name)
            for one in spans.values()
            if one is not root and one.parent_span_id in spans
        }
        assert parents == {
            (WADO, "read"),
            (WADO, "token"),
            ("token", "ehr discovery"),
            ("token", "ehr introspection"),
            (WADO, "decide patient"),
            (WADO, "patient"),
            (WADO, "ownership"),
            ("ownership", "pacs query"),
            (WADO, "issuers"),
            ("issuers", "pacs query"),
            (WADO, "decide study"),
            (WADO, "queue"),
            (WADO, "record"),
            (WADO, "fetch"),
            ("fetch", "pacs query"),
            ("fetch", "pacs study"),
            ("fetch", "transfer"),
        }
        told = attributes(root)
        assert told.pop("smart_imaging.request_id")
        assert told == {
            "http.request.method": "GET",
            "http.route": "/wado-rs/{tail}",
            "http.response.status_code": 200,
        }
        assert attributes(collector.named("token")) == {"smart_imaging.outcome": "miss"}
        assert attributes(collector.named("decide study")) == {"smart_imaging.outcome": "permit"}
        transfer = attributes(collector.named("transfer"))
        assert (transfer["smart_imaging.kind"], transfer["smart_imaging.outcome"]) == (
            "study",
            "complete",
        )
        assert isinstance(size := transfer["http.response.size"], int)
        assert len(WHOLE) <= size <= len(WHOLE) + 2_000
        # What the peers were told.
        ids = {one.name: one.span_id.hex() for one in spans.values()}
        queries = {
            f"00-{TRACE}-{one.span_id.hex()}-01"
            for one in spans.values()
            if one.name == "pacs query"
        }
        assert f"traceparent: 00-{TRACE}-{ids['pacs study']}-01" in pacs.heads[-1].lower().split(
            "\r\n"
        )
        passed = {
            one
            for head in pacs.heads[:-1]
            for one in head.split("\r\n")
            if one.startswith("traceparent")
        }
        assert passed == {"traceparent: " + one for one in queries}
        assert ehr.requests[0]["traceparent"] == f"00-{TRACE}-{ids['ehr introspection']}-01"
        for head in pacs.heads:
            assert "tracestate" not in head.lower()
            assert "baggage" not in head.lower()
        assert not {"tracestate", "baggage"} & set(ehr.requests[0])


async def test_a_search_is_seen_step_by_step() -> None:
    pacs = ScriptedPacs(GOOD["chunked"])
    async with Collector().serve() as collector:
        async with traced(pacs, ScriptedEhr(), collector.endpoint) as world:
            status, body = await world.get("/fhir/ImagingStudy?patient=p1", HEADERS)
            assert (status, json.loads(body)["total"]) == (200, 1)
        root = collector.named("GET /fhir/ImagingStudy")
        spans = {one.span_id: one for one in collector.spans()}
        assert root.parent_span_id == b""
        assert {one.trace_id for one in spans.values()} == {root.trace_id}
        below = [one.name for one in spans.values() if one.parent_span_id == root.span_id]
        assert {"read", "token", "decide patient", "patient", "fetch", "record"} <= set(below)
        fetch = collector.named("fetch")
        queries = [one for one in spans.values() if one.name == "pacs query"]
        assert fetch.span_id in {one.parent_span_id for one in queries}
        assert {attributes(one)["http.response.status_code"] for one in queries} == {200}
        assert all(f"traceparent: 00-{root.trace_id.hex()}-" in head.lower() for head in pacs.heads)


async def test_refusals_and_failures_have_their_reason() -> None:
    """A refusal is no error; what breaks off is one."""
    async with Collector().serve() as collector:
        async with traced(
            ScriptedPacs(BROKEN["reset"]), ScriptedEhr(), collector.endpoint
        ) as world:
            assert (await world.get("/fhir/Patient/p2/$wado-rs/studies"))[0] == 403
            with contextlib.suppress(aiohttp.ClientError):
                await world.get(PATH)
        refused = collector.named("GET /fhir/Patient/{patient}/$wado-rs/{tail}")
        assert attributes(refused)["smart_imaging.reason"] == "other_patient"
        assert refused.status.code == 0
        broken = collector.named(WADO)
        assert attributes(broken)["http.response.status_code"] == 502
        assert broken.status.code == 2
        assert attributes(collector.named("transfer"))["smart_imaging.outcome"] == "pacs_broken"


@pytest.mark.parametrize("on", [False, True])
async def test_a_clients_context_goes_nowhere_unless_tracing_is_on(on: bool) -> None:
    """And then only its trace id: no span id of the client, no tracestate, no baggage."""
    pacs, ehr = ScriptedPacs(GOOD["chunked"]), ScriptedEhr()
    async with (
        Collector().serve() as collector,
        traced(pacs, ehr, collector.endpoint if on else None) as world,
    ):
        assert (await world.get(PATH))[0] == 200
        assert (await world.get("/fhir/ImagingStudy"))[0] == 200
    heads = "".join(pacs.heads).lower() + json.dumps(ehr.requests).lower()
    assert (TRACE in heads, "traceparent" in heads) == (on, on)
    for never in (PARENT, "tracestate", "baggage", "anything", "anyone"):
        assert never not in heads


@pytest.mark.parametrize("fault", ["away", "silent"])
async def test_a_bad_collector_delays_neither_answers_nor_the_end(fault: str) -> None:
    async with Collector(delay=3_600).serve() as collector:
        endpoint = collector.endpoint if fault == "silent" else "http://127.0.0.1:9/v1/traces"
        async with (
            asyncio.timeout(WAIT_SECONDS),
            traced(ScriptedPacs(GOOD["chunked"]), ScriptedEhr(), endpoint) as world,
        ):
            for _ in range(20):
                assert await world.get(PATH) == (200, WHOLE)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("sidecar.telemetry.tracing", "sidecar.telemetry.span_export"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(
        ValueError,
        match=r"^tracing.endpoint needs .*: pip install '\.\[tracing\]' in the project's folder$",
    ):
        async with traced(
            ScriptedPacs(GOOD["chunked"]), ScriptedEhr(), "http://127.0.0.1:9/v1/traces"
        ):
            pass
    async with traced(ScriptedPacs(GOOD["chunked"]), ScriptedEhr(), None) as world:
        assert await world.get(PATH) == (200, WHOLE)


@pytest.mark.parametrize("on", [False, True])
async def test_lines_of_the_log_have_the_trace(on: bool, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    handler = Handler()
    caplog.set_level(logging.INFO)
    logging.getLogger("sidecar").addHandler(handler)
    try:
        async with (
            Collector().serve() as collector,
            traced(
                ScriptedPacs(BROKEN["reset"]), ScriptedEhr(), collector.endpoint if on else None
            ) as world,
        ):
            with contextlib.suppress(aiohttp.ClientError):
                await world.get(PATH)
    finally:
        logging.getLogger("sidecar").removeHandler(handler)
    told = {one["message"]: one.get("trace_id") for one in lines}
    wanted = TRACE if on else None
    assert told["request"] == wanted
    assert told["a PACS answer was not passed on, or not to its end"] == wanted


OPEN = (
    "application/openmetrics-text;version=1.0.0,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5"
)
SLOW = ("smart_imaging_request_duration_seconds", "smart_imaging_pacs_first_byte_seconds")


@pytest.mark.parametrize("on", [False, True])
async def test_exemplars_lead_from_the_metrics_to_the_trace(on: bool) -> None:
    """In OpenMetrics, to whoever accepts that, as Prometheus does; the classic text is as ever."""
    async with (
        Collector().serve() as collector,
        traced(
            ScriptedPacs(GOOD["chunked"]), ScriptedEhr(), collector.endpoint if on else None
        ) as world,
        listen(world.sidecar.admin, "127.0.0.1", 0) as port,
    ):
        await world.get(PATH)
        # It is counted when the client has it already.
        labels = {"route": "wado-rs", "method": "GET", "status": "200"}
        await wait_until_async(
            "the count",
            lambda: world.sidecar.metrics.registry.get_sample_value(
                "smart_imaging_requests_total", labels
            ),
        )
        async with world.client.get(
            f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPEN}
        ) as answer:
            assert answer.content_type == "application/openmetrics-text"
            text = await answer.text()
        async with world.client.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.headers["Content-Type"] == Metrics.CONTENT_TYPE
            plain = await answer.text()
    found = {
        family.name: {
            sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar
        }
        for family in open_metrics(text)  # type: ignore[no-untyped-call]
    }
    for name in SLOW:
        assert found[name] == ({TRACE} if on else set())
    assert TRACE not in plain
    assert set(SLOW) <= {family.name for family in classic(plain)}
    assert TOKEN not in text
    assert STUDY not in text
