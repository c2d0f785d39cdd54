"""A collector of spans: an OTLP receiver (HTTP, protobuf) that keeps what it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.server.listener import listen

Attribute = str | int | float | bool


@dataclass
class Collector:
    """A collector. ``raw`` has unpacked bodies, ``headers`` the last headers."""

    status: int = 200
    delay: float = 0
    raw: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["Collector"]:
        """Serve; ``endpoint`` is its URL from now on."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/traces", self.take)
        async with listen(app, "127.0.0.1", 0) as port:
            self.endpoint = f"http://127.0.0.1:{port}/v1/traces"
            yield self

    async def take(self, request: web.Request) -> web.Response:
        """Answer one message."""
        await asyncio.sleep(self.delay)
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.raw.append(await request.read())
        return web.Response(status=self.status, content_type="application/x-protobuf")

    def messages(self) -> list[ExportTraceServiceRequest]:
        """What came, decoded."""
        return [ExportTraceServiceRequest.FromString(one) for one in self.raw]

    def spans(self) -> list[Span]:
        """All spans that came."""
        return [
            one
            for message in self.messages()
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for one in scope.spans
        ]

    def named(self, name: str) -> Span:
        """The only span of that name."""
        (found,) = [one for one in self.spans() if one.name == name]
        return found


def attributes(span: Span) -> dict[str, Attribute]:
    """Its attributes as Python has them."""
    found: dict[str, Attribute] = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        assert kind is not None
        found[one.key] = getattr(one.value, kind)
    return found
