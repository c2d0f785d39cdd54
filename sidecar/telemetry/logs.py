"""JSON lines on standard error: one for each request, and what operators must know."""

import json
import logging
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from sidecar.common.spans import current_span

_STANDARD_COUNT = len(vars(logging.makeLogRecord({})))
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_QUIET = (
    # Warnings of pydicom and Python quote values of images; the client of `check` logs each study.
    "pydicom",
    "py.warnings",
    "dicomweb_client",
    # They name the collector with each batch; telemetry/span_export.py logs instead.
    "opentelemetry",
    "urllib3",
    # They quote requests; web/middleware.py logs failures of handlers.
    "aiohttp.server",
    "aiohttp.access",
)


class JsonFormatter(logging.Formatter):
    """Write a JSON object a line: ``time``, ``level``, ``logger``, ``message``, extra fields.

    With tracing on, lines of a request have its ``trace_id``. Of an exception the type and the
    places are written: its text may quote what a peer sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A value that JSON does not have is replaced by its type."""
        message = record.getMessage()
        # asyncio's further lines quote tasks with the texts of their exceptions.
        if record.name == "asyncio":
            message = message.partition("\n")[0]
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if (trace_id := current_span().trace_id) is not None:
            entry["trace_id"] = trace_id
        # Extra fields stand behind what every record has, among what other handlers have added.
        fields = islice(vars(record).items(), _STANDARD_COUNT, None)
        entry.update(field for field in fields if field[0] not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = record.exc_info[0].__name__
            entry["places"] = _places(record.exc_info[2])
        return _written(entry)


def _written(entry: dict[str, Any]) -> str:
    try:
        return orjson.dumps(entry, default=_type_name).decode()
    except TypeError:
        return json.dumps({str(name): _plain(value) for name, value in entry.items()})


def _type_name(value: object) -> str:
    """Return what replaces a value that JSON does not have. Its text may quote a peer."""
    return f"<{type(value).__name__}>"


def _plain(value: object) -> object:
    return (
        value if isinstance(value, str | int | float | bool) or value is None else _type_name(value)
    )


def _places(traceback: Any) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-20:]


def configure_logs(level: str = "INFO") -> None:
    """Log everything from ``level`` on to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # No line names its place in the code and its thread: they would cost a sixth of a line
    # (https://docs.python.org/3/howto/logging.html, "Optimization").
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
