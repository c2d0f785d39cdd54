"""JSON lines on standard error: one for each request, and what operators must know.

Never an identifier or a token.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from sidecar.common.spans import current_span

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message`` and the record's extra fields.

    With tracing on, lines of a request have its ``trace_id``.

    A traceback is written as its type and places only: exception texts may quote what a peer sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what cannot be written as it is costs its field, never the line."""
        message = record.getMessage()
        # Its further lines quote tasks, and so their exceptions' texts.
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
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
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
    """Stands for what JSON does not have: its text may quote what a peer sent."""
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
    """Send everything of level and above to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What pydicom and Python warn of quotes values of images and answers; the client of `check`
    # tells each study.
    logging.captureWarnings(True)
    # Those of the exporter of spans name its peer, and come with each batch:
    # telemetry/span_export.py tells instead.
    for name in ("pydicom", "py.warnings", "dicomweb_client", "opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # aiohttp's own error log quotes requests; failures of handlers are logged by web/middleware.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
