"""Build the audit trail, from ``audit`` in the settings."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sidecar import __version__
from sidecar.audit.backlog import Backlog
from sidecar.audit.delivery import Delivery
from sidecar.audit.event import AuditSource
from sidecar.audit.repository import Repository
from sidecar.audit.sinks import FileSink, NoSink, Sink, StdoutSink
from sidecar.audit.spool import Spool
from sidecar.audit.trail import AuditTrail
from sidecar.bootstrap.context import BuildContext
from sidecar.settings.document import Settings


@contextlib.contextmanager
def _naming(key: str, path: Path) -> Iterator[None]:
    """Raise ``ValueError`` with the setting and the path in place of an ``OSError``."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{key} {path}: {error.strerror or 'cannot be used'}; check says what to do"
        ) from None


def audit_source(settings: Settings) -> AuditSource:
    """Return where events come from."""
    return AuditSource(
        f"smart-imaging-sidecar {__version__}",
        settings.ehr.fhir_url,
        f"{settings.server.public_url}/fhir",
        settings.audit.site,
        settings.audit.repository.patient_reference,
    )


async def audit_trail(context: BuildContext) -> AuditTrail:
    """Return the trail, whose events are delivered until ``context.stack`` is left.

    Raises ``ValueError`` for a path that cannot be used.
    """
    audit, metrics, stack = context.settings.audit, context.metrics, context.stack
    metrics.begin_audit(audit.sink)
    observe = partial(metrics.observe_audit, sink=audit.sink)
    delivery: Delivery | None = None
    sink: Sink = StdoutSink() if audit.sink == "stdout" else NoSink()
    if audit.file is not None:
        with _naming("audit.file", audit.file):
            sink = file = FileSink(audit.file)
        stack.callback(file.close)
    if audit.spool.folder is not None and audit.repository.url is not None:
        repository = Repository(
            await context.session(audit.repository.ca_file, 1),
            audit.repository.url,
            authorization=audit.repository.auth.authorization,
            timeout_seconds=context.settings.limits.audit_timeout_seconds,
            update=audit.repository.interaction == "update",
        )
        backlog = Backlog(audit.spool.folder)
        delivery = Delivery(backlog, repository, metrics, batch=audit.repository.batch_size)
        with _naming("audit.spool.folder", audit.spool.folder):
            sink = spool = Spool(
                audit.spool.folder,
                max_bytes=audit.spool.max_bytes,
                when_full=audit.when_full,
                sync=audit.spool.sync,
                observe=observe,
            )
        await stack.enter_async_context(delivery.running())
        stack.callback(spool.close)
    key = audit.key(context.host.key)
    return AuditTrail(
        sink,
        audit_source(context.settings),
        key,
        observe=observe,
        hand_over=delivery.hand_over if delivery else lambda: None,
    )
