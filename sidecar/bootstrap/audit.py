"""The part of the composition that is about the audit trail: ``audit`` in the settings -> a sink, its delivery."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import aiohttp

from sidecar import __version__
from sidecar.audit.delivery import Delivery
from sidecar.audit.event import AuditSource
from sidecar.audit.repository import Repository
from sidecar.audit.retry_queue import MOST_BYTES
from sidecar.audit.sinks import FileSink, NoSink, Sink, StdoutSink
from sidecar.audit.spool import Spool
from sidecar.audit.spool_reader import SpoolReader
from sidecar.audit.trail import AuditTrail
from sidecar.bootstrap.pacs import authorization_of
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics


@contextlib.contextmanager
def _named(key: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{key} {path}: {error.strerror or 'cannot be used'}; check says what to do"
        ) from None


Session = Callable[..., AbstractAsyncContextManager[aiohttp.ClientSession]]


async def audit_trail(
    settings: Settings, metrics: Metrics, stack: contextlib.AsyncExitStack, session: Session
) -> AuditTrail:
    """Return the trail; ``session`` makes the one for the repository.

    Raises ``ValueError`` for a bad path.
    """
    audit = settings.audit
    metrics.begin_audit(audit.sink)
    observe = partial(metrics.observe_audit, sink=audit.sink)
    delivery: Delivery | None = None
    sink: Sink = StdoutSink() if audit.sink == "stdout" else NoSink()
    if audit.file is not None:
        with _named("audit.file", audit.file):
            sink = file = FileSink(audit.file)
        stack.callback(file.close)
    if audit.spool.folder is not None and audit.repository.url is not None:
        repository = Repository(
            await stack.enter_async_context(session(audit.repository.ca_file, connections=1)),
            audit.repository.url,
            authorization=lambda: authorization_of(audit.repository.auth),
            timeout_seconds=audit.repository.timeout_seconds,
            update=audit.repository.interaction == "update",
        )
        delivery = Delivery(
            SpoolReader(audit.spool.folder),
            repository,
            metrics,
            batch=audit.repository.batch_size,
            aside_bytes=min(MOST_BYTES, audit.spool.max_bytes // 8),
        )
        with _named("audit.spool.folder", audit.spool.folder):
            sink = spool = Spool(
                audit.spool.folder,
                max_bytes=audit.spool.max_bytes,
                when_full=audit.when_full,
                sync=audit.spool.sync,
                observe=observe,
                wake=delivery.wake,
            )
        await stack.enter_async_context(delivery.running())
        stack.callback(spool.close)
    source = AuditSource("smart-imaging-sidecar " + __version__, settings.ehr.fhir_url, audit.site)
    retire = None if delivery is None else delivery.retire
    return AuditTrail(sink, source, audit.key(), observe=observe, retire=retire)
