"""JSON lines on standard error: one for each request, and what operators must know."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson

from sidecar.common.spans import current_span

_requests = logging.getLogger("sidecar.request")
_ANY_RECORD = vars(logging.makeLogRecord({"name": _requests.name, "msg": "request"}))
_STANDARD_COUNT = len(_ANY_RECORD)
_STANDARD = frozenset(_ANY_RECORD) | {"message", "asctime", "taskName"}

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
            "time": instant(record.created),
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


def instant(seconds: float) -> str:
    """Return seconds since 1970 as an instant of ISO 8601 in UTC, with milliseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1_000):03}+00:00"


@lru_cache(8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


def log_request(level: int, fields: Mapping[str, object]) -> None:
    """Log the line of a request, with these fields.

    To find out where it was logged and by which thread, which no line has, costs as much as it.
    """
    if _requests.isEnabledFor(level):
        record = logging.LogRecord.__new__(logging.LogRecord)
        record.__dict__.update(
            _ANY_RECORD, levelno=level, levelname=logging.getLevelName(level), created=time.time()
        )
        record.__dict__.update(fields)
        _requests.handle(record)


def configure_logs(level: str = "INFO") -> None:
    """Log everything from ``level`` on to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
