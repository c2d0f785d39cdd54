"""Spans by OTLP: W3C parents, batches that hold nothing up, no texts of exceptions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from sidecar.common.errors import Unavailable
from sidecar.common.spans import (
    NO_SPAN,
    Span,
    Tracing,
    current_span,
    exemplar,
    span,
    trace_headers,
)
from sidecar.telemetry import span_export
from sidecar.telemetry.span_export import SpanExport
from sidecar.telemetry.tracing import OpenTelemetryTracing
from tests.certificates import certificate, server_context
from tests.common.peer import Clock
from tests.telemetry.collector import Collector, attributes
from tests.waiting import WAIT_SECONDS, wait_until_async

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
NOWHERE = "http://127.0.0.1:9/v1/traces"


def tracing_to(export: SpanExport, ratio: float = 1, *, joins: bool = True) -> OpenTelemetryTracing:
    return OpenTelemetryTracing(
        export, service_name="imaging", version="1.2.3", ratio=ratio, joins=joins
    )


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector().serve() as made:
        yield made


@pytest.fixture
async def export(collector: Collector) -> AsyncIterator[SpanExport]:
    made = SpanExport(collector.endpoint)
    yield made
    await made.close()


async def test_off_is_nothing() -> None:
    with Tracing().request("GET", "/x", [GOOD]) as root, span("token") as step:
        step.set("a", 1)
        assert step is NO_SPAN
        assert root is current_span()
        assert type(root) is Span
        assert root.child("token", "internal") is NO_SPAN
        assert trace_headers() == {}
        assert exemplar() is None


async def test_spans_are_nested_and_told(collector: Collector, export: SpanExport) -> None:
    """Names, parents, kinds and attributes; a failure has its class and a constant alone."""
    with tracing_to(export).request("GET", "/fhir/Patient/{patient}", []) as root:
        root.set("http.response.status_code", 200)
        with (
            pytest.raises(ValueError, match="told"),
            span("token"),
            span("ehr introspection", "client"),
        ):
            raise ValueError("not to be told")
        with pytest.raises(Unavailable), span("fetch"):
            raise Unavailable("A text.", reason="pacs_busy")
    await export.close()
    root_span, token, fetch = (
        collector.named(one) for one in ("GET /fhir/Patient/{patient}", "token", "fetch")
    )
    introspection = collector.named("ehr introspection")
    assert (token.parent_span_id, introspection.parent_span_id) == (
        root_span.span_id,
        token.span_id,
    )
    assert len({one.trace_id for one in collector.spans()}) == 1
    assert root_span.kind == WireSpan.SPAN_KIND_SERVER
    assert introspection.kind == WireSpan.SPAN_KIND_CLIENT
    assert attributes(root_span) == {
        "http.request.method": "GET",
        "http.route": "/fhir/Patient/{patient}",
        "http.response.status_code": 200,
    }
    assert attributes(introspection) == {"peer.service": "ehr", "error.type": "ValueError"}
    assert attributes(fetch) == {"error.type": "Unavailable", "smart_imaging.reason": "pacs_busy"}
    assert fetch.status.code == Status.STATUS_CODE_ERROR
    assert fetch.status.message == ""
    assert not any(one.events or one.links for one in collector.spans())
    assert b"told" not in b"".join(collector.raw)


async def test_who_tells(collector: Collector, tmp_path: Path) -> None:
    """The service, not the machine; the collector's credential is a header."""
    export = SpanExport(collector.endpoint, authorization="Bearer collector-secret")
    with tracing_to(export).request("GET", None, []):
        pass
    await export.close()
    assert collector.headers["authorization"] == "Bearer collector-secret"
    (resource,) = collector.messages()[0].resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (told["service.name"], told["service.version"]) == ("imaging", "1.2.3")
    assert "host.name" not in told
    assert [one.name for one in collector.spans()] == ["GET"]


def seen(
    traceparents: Sequence[str], ratio: float = 1, *, joins: bool = True
) -> tuple[str, bool, str]:
    """Trace id, whether it is sampled, and what a peer gets."""
    export = SpanExport(NOWHERE)
    try:
        with tracing_to(export, ratio, joins=joins).request("GET", "/x", traceparents) as root:
            assert root.trace_id is not None
            return root.trace_id, root.is_sampled, trace_headers()["traceparent"]
    finally:
        export.processor._batch_processor._queue.clear()
        export.processor.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "traceparent",
    [
        GOOD,
        GOOD.replace("-01", "-03"),
        GOOD.replace("-01", "-ff"),
        "cc" + GOOD[2:],
        "cc" + GOOD[2:] + "-what-later",
    ],
)
def test_a_good_parent_is_joined(traceparent: str) -> None:
    """W3C 3.2.2. Later versions are read as this one (4.3); unknown flags are not passed on."""
    trace_id, sampled, passed = seen([traceparent])
    assert (trace_id, sampled) == (TRACE, True)
    assert passed.startswith(f"00-{TRACE}-")
    assert PARENT not in passed
    assert passed.endswith("-01")


MALFORMED: dict[str, list[str]] = {
    "none": [],
    "empty": [""],
    "two": [GOOD, GOOD],
    "joined by a proxy": [f"{GOOD}, {GOOD}"],
    "upper case": [GOOD.upper()],
    "version ff": ["ff" + GOOD[2:]],
    "version 00 with more": [GOOD + "-00"],
    "trace id of zeros": [f"00-{'0' * 32}-{PARENT}-01"],
    "parent of zeros": [f"00-{TRACE}-{'0' * 16}-01"],
    "short": [f"00-{TRACE[1:]}-{PARENT}-01"],
    "long": ["cc" + GOOD[2:] + "-" + "x" * 600],
    "no flags": [f"00-{TRACE}-{PARENT}"],
    "not hexadecimal": [GOOD.replace("0a", "0g")],
    "inside something": ["x" + GOOD],
    "unicode digits": [GOOD.replace("0", "٠")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_parent_is_ignored(name: str) -> None:
    trace_id, sampled, passed = seen(MALFORMED[name])
    assert trace_id != TRACE
    assert sampled
    assert passed.startswith(f"00-{trace_id}-")


@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=80)
    | st.from_regex(r"[0-9a-f-]{50,60}")
)
def test_whatever_comes_what_goes_on_is_well_formed(traceparent: str) -> None:
    _, _, passed = seen([traceparent])
    assert len(passed) == 55
    assert [len(one) for one in passed.split("-")] == [2, 32, 16, 2]
    assert set(passed) <= set("0123456789abcdef-")


def test_the_ratio_bounds_what_callers_sample_too() -> None:
    """Unsampled spans still hang together: the peer gets the trace, and that it is not sampled."""
    for traceparents in ([GOOD], []):
        _, sampled, passed = seen(traceparents, ratio=0)
        assert not sampled
        assert passed.endswith("-00")
    assert not seen([GOOD.replace("-01", "-00")])[1]


def test_callers_need_not_be_joined() -> None:
    trace_id, sampled, _ = seen([GOOD], joins=False)
    assert trace_id != TRACE
    assert sampled


def test_opentelemetry_can_be_disabled_by_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody is told a trace, the caller's not either."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    export = SpanExport(NOWHERE)
    for traceparents in ([], [GOOD]):
        with tracing_to(export).request("GET", "/x", traceparents) as root:
            assert root.trace_id is None
            assert trace_headers() == {}
    export.processor.shutdown()  # type: ignore[no-untyped-call]


async def test_what_is_not_sampled_has_no_exemplar(export: SpanExport) -> None:
    with tracing_to(export, 0).request("GET", "/x", []):
        assert exemplar() is None
    with tracing_to(export).request("GET", "/x", []) as root:
        assert exemplar() == {"trace_id": root.trace_id}


async def test_tasks_go_on_below_whoever_started_them(
    collector: Collector, export: SpanExport
) -> None:
    """Also when they outlive the request."""
    gate = asyncio.Event()

    async def work() -> None:
        with span("pacs query", "client"):
            await gate.wait()

    with tracing_to(export).request("GET", "/x", []):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
    assert current_span() is NO_SPAN
    gate.set()
    await task
    await export.close()
    assert collector.named("pacs query").parent_span_id == collector.named("GET /x").span_id


@pytest.mark.parametrize("fault", ["refuses connections", "never answers", "answers 503"])
async def test_a_bad_collector_costs_nothing_but_spans(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times what the queue holds is quick; the end is bounded."""
    monkeypatch.setattr(span_export, "CLOSE_SECONDS", 0.5)
    async with Collector(
        delay=3_600 if fault == "never answers" else 0, status=503
    ).serve() as collector:
        export = SpanExport(NOWHERE if fault == "refuses connections" else collector.endpoint)
        tracing = tracing_to(export)
        for _ in range(span_export.QUEUE_SPANS * 2):
            with tracing.request("GET", "/x", []):
                pass
        assert len(export.processor._batch_processor._queue) <= span_export.QUEUE_SPANS
        async with asyncio.timeout(WAIT_SECONDS):
            await export.close()
        export.processor._batch_processor._queue.clear()


async def test_what_the_collector_did_not_get_is_counted() -> None:
    """Of what is sampled."""
    counted = dict.fromkeys(("ended", "sent", "failed"), 0)

    def observe(outcome: str, count: int) -> None:
        counted[outcome] += count

    async with Collector().serve() as collector:
        export = SpanExport(collector.endpoint, observe=observe)
        for ratio, times in ((1, 5), (0, 3)):
            for _ in range(times):
                with tracing_to(export, ratio).request("GET", "/x", []):
                    pass
        await export.close()
    assert counted == {"ended": 5, "sent": 5, "failed": 0}
    export = SpanExport(NOWHERE, observe=observe)
    with tracing_to(export).request("GET", "/x", []):
        pass
    await export.close()
    await wait_until_async(
        "the counts", lambda: counted, {"ended": 6, "sent": 5, "failed": 1}.__eq__
    )


async def test_a_collector_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    """``ca_file`` is whom to trust; without it nothing is sent, and that is counted."""
    files = certificate(tmp_path, "server")
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=server_context(files))
    async with server:
        counted: list[str] = []
        for ca_file in (files[0], None):
            endpoint = f"https://localhost:{server.port}/v1/traces"
            export = SpanExport(
                endpoint, ca_file=ca_file, observe=lambda outcome, count: counted.append(outcome)
            )
            with tracing_to(export).request("GET", "/x", []):
                pass
            await export.close()
        await wait_until_async("four counts", lambda: counted, lambda found: len(found) == 4)
    assert [one.name for one in collector.spans()] == ["GET /x"]
    assert counted == ["ended", "sent", "ended", "failed"]


class Failing(SpanExporter):
    """Fails, or raises."""

    def __init__(self) -> None:
        self.raises: Exception | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.raises is not None:
            raise self.raises
        return SpanExportResult.FAILURE


def test_failures_are_told_rarely_and_without_what_they_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, failing = Clock(), Failing()
    quiet = span_export.QuietExporter(failing, clock)
    with caplog.at_level(logging.DEBUG):
        assert quiet.export([]) is SpanExportResult.FAILURE
        failing.raises = OSError("https://secret.example.org")
        assert quiet.export([]) is SpanExportResult.FAILURE
        clock.now += span_export.REPEAT_SECONDS + 1
        assert quiet.export([]) is SpanExportResult.FAILURE
    told = [(one.message, vars(one)["detail"]) for one in caplog.records]
    assert told == [
        ("spans cannot be sent to the collector: they are lost", "not accepted"),
        ("spans cannot be sent to the collector: they are lost", "OSError"),
    ]
