"""Log lines: one JSON object each, and nothing of what a peer or a client sent in an exception."""

import asyncio
import gc
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.spans import add_duration, measure
from sidecar.telemetry.logs import JsonFormatter, configure_logs, instant
from tests.durations import durations_of_a_request

SECRET = "a-recognizable-secret"
QUIET = (
    "aiohttp.server",
    "aiohttp.access",
    "pydicom",
    "py.warnings",
    "dicomweb_client",
    "opentelemetry",
    "urllib3",
)
log = logging.getLogger("sidecar.test")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Yield the lines on standard error after ``configure_logs``, and restore the loggers."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    root.handlers.clear()  # basicConfig(force=True) would close the test runner's own.
    monkeypatch.setattr(sys, "stderr", written)
    try:
        configure_logs("INFO")
        yield written
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in quiet.items():
            logging.getLogger(name).setLevel(before)


def read(written: io.StringIO) -> list[dict[str, Any]]:
    """The lines."""
    return [json.loads(line) for line in written.getvalue().split("\n")[:-1]]


def test_a_line(lines: io.StringIO) -> None:
    log.warning(
        "the %s is %s",
        "PACS",
        "busy",
        extra={"status": 503, "durations": {"token": 0.5}, "reason": None},
    )
    (line,) = read(lines)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))).total_seconds()) < 5
    assert line == {
        "level": "warning",
        "logger": "sidecar.test",
        "message": "the PACS is busy",
        "status": 503,
        "durations": {"token": 0.5},
        "reason": None,
    }


@pytest.mark.parametrize("seconds", [0.0, 0.001953125, 1_764_499_999.5, 1_764_500_000.0, 4e9])
def test_an_instant_is_in_utc_with_milliseconds(seconds: float) -> None:
    expected = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    assert instant(seconds) == expected


def test_what_a_text_holds_is_one_line(lines: io.StringIO) -> None:
    """Nobody can write a line of their own into the log."""
    log.info("one\n%s\r\n\u2028\x00\x1b[31m", '{"level": "forged"}')
    assert lines.getvalue().count("\n") == 1
    assert read(lines)[0]["message"] == 'one\n{"level": "forged"}\r\n\u2028\x00\x1b[31m'


def test_the_level_counts(lines: io.StringIO) -> None:
    log.debug("too little")
    logging.getLogger("aiohttp.server").error("quotes the request: %s", SECRET)
    logging.getLogger("aiohttp.access").info(SECRET)
    assert lines.getvalue() == ""


def _fail(text: str) -> None:
    try:
        raise KeyError(text)
    except KeyError as cause:
        raise ValueError(f"because of {text}") from cause


def test_a_traceback_is_its_type_and_places(lines: io.StringIO) -> None:
    """Neither its text nor that of its cause."""
    try:
        _fail(SECRET)
    except ValueError:
        log.exception("internal error", extra={"request_id": "1"}, stack_info=True)
    (line,) = read(lines)
    assert line["exception"] == "ValueError"
    assert [place.rpartition(" ")[2] for place in line["places"]] == [
        "test_a_traceback_is_its_type_and_places",
        "_fail",
    ]
    assert all(place.startswith("test_logs.py:") for place in line["places"])
    assert SECRET not in lines.getvalue()


def test_places_are_bounded(lines: io.StringIO) -> None:
    def deeper(depth: int) -> None:
        if depth == 0:
            raise RecursionError(SECRET)
        deeper(depth - 1)

    try:
        deeper(100)
    except RecursionError:
        log.exception("internal error")
    (line,) = read(lines)
    assert len(line["places"]) == 20
    assert SECRET not in lines.getvalue()


def test_warnings_of_libraries_are_not_written(
    lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """pydicom and Python's warnings quote what an image says."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # pytest took the hook for itself: take it as a process of our own has it.
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn(f"Invalid value for VR UI: {SECRET!r}", stacklevel=1)
    logging.getLogger("pydicom").warning("Expected explicit VR, but found %s", SECRET)
    assert SECRET not in lines.getvalue() + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "name",
    ["opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk", "urllib3.connectionpool"],
)
def test_the_exporter_of_spans_does_not_tell_its_peer(lines: io.StringIO, name: str) -> None:
    """Theirs name the address and come with each batch; ours comes rarely."""
    logging.getLogger(name).error("Transient error %s", SECRET)
    assert lines.getvalue() == ""


def test_exc_info_of_nothing(lines: io.StringIO) -> None:
    log.error("no exception here", exc_info=True)  # noqa: LOG014 - that is the case
    assert "exception" not in read(lines)[0]


def test_values_of_other_types_are_written_as_text(lines: io.StringIO) -> None:
    log.info(
        "x",
        extra={
            "path": io.BytesIO,
            "when": datetime(2024, 1, 1, tzinfo=UTC),
            "many": (1, 2),
            "none": None,
        },
    )
    (line,) = read(lines)
    assert line["when"] == "2024-01-01T00:00:00+00:00"
    assert line["many"] == [1, 2]


def test_an_exception_among_the_fields_is_not_quoted(lines: io.StringIO) -> None:
    log.error("x", extra={"error": ValueError(SECRET)})
    assert read(lines)[0]["message"] == "x"
    assert SECRET not in lines.getvalue()


async def test_a_task_that_nobody_waited_for_is_not_quoted(lines: io.StringIO) -> None:
    """Nor is a callback that raised; the type and the places are in exc_info."""

    async def fail() -> None:
        raise ValueError(SECRET)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert read(lines)[0]["exception"] == "ValueError"
    assert SECRET not in lines.getvalue()


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


class Unprintable:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


ODD = {
    "surrogates": "\udcff",
    "a large number": 2**70,
    "keys that are no text": {1: 2},
    "a circle": CIRCLE,
    "an object that cannot be written": Unprintable(),
}


@pytest.mark.parametrize("what", ODD)
def test_a_line_is_never_lost(lines: io.StringIO, what: str) -> None:
    """A value that JSON does not have costs its field, not the line."""
    log.warning("the message", extra={"value": ODD[what]})
    (line,) = read(lines)
    assert line["message"] == "the message"


TAKEN: set[str] = {
    *vars(logging.makeLogRecord({})),
    "message",
    "asctime",
    "taskName",
    "time",
    "level",
    "logger",
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
FIELDS = st.dictionaries(
    TEXT.filter(lambda name: bool(name) and name not in TAKEN),
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), TEXT),
    max_size=4,
)


@given(TEXT, FIELDS)
def test_any_message_and_fields_are_one_json_line(message: str, fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord(
        {"msg": message, "levelno": logging.INFO, "levelname": "INFO", **fields}
    )
    written = JsonFormatter().format(record)
    assert "\n" not in written
    assert json.loads(written)["message"] == message


async def test_durations_are_those_of_the_request_and_its_tasks() -> None:
    with durations_of_a_request() as durations:
        with measure("token"):
            await asyncio.sleep(0.01)
        with measure("token"):
            await asyncio.create_task(asyncio.sleep(0.01))

        async def child() -> None:
            add_duration("pacs", 2)

        await asyncio.gather(child(), child())
    assert durations["pacs"] == 4
    assert 0.015 < durations["token"] < 60


async def test_requests_do_not_share_durations() -> None:
    async def request(seconds: float) -> dict[str, float]:
        with durations_of_a_request() as durations:
            await asyncio.sleep(0)
            add_duration("pacs", seconds)
        return durations

    assert await asyncio.gather(*(request(seconds) for seconds in (1, 2, 3))) == [
        {"pacs": 1},
        {"pacs": 2},
        {"pacs": 3},
    ]


def test_a_step_that_fails_is_timed_too() -> None:
    with (
        durations_of_a_request() as durations,
        pytest.raises(ValueError, match="x"),
        measure("patient"),
    ):
        raise ValueError("x")
    assert durations["patient"] >= 0
