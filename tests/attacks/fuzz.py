"""Made-up paths and queries, from our own words and from tricks. What left for the PACS must lie in
the token's patient.

python -m tests.attacks.fuzz [SECONDS]     (make fuzz); the tests do some seconds of it

The PACS holds studies of two patients and believes any query: it answers what it was asked for and
more. The oracle does not know how the sidecar reads a path; it looks at what arrived: retrievals of
the own study alone, queries for one UID (ownership) or with the own PatientID, and not one byte of
the foreign study in an answer.
"""

import asyncio
import contextlib
import logging
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from hypothesis import strategies as st

from tests.attacks.raw import BEARER
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.tables.fuzz import (
    FOREIGN,
    FOREIGN_INSTANCE,
    FOREIGN_PATIENT,
    FOREIGN_SERIES,
    FORMS,
    NAMES,
    OWN,
    OWN_INSTANCE,
    OWN_SERIES,
    SECRET,
    TRICKS,
    WORDS,
)

MULTIPART = 'multipart/related; type="application/dicom"; boundary=abc'

_RETRIEVAL = re.compile(
    r"/rs/studies/([0-9.]+)(?:/series/([0-9.]+)(?:/instances/([0-9.]+))?)?(?:/[a-z].*)?"
)
_QUERY = re.compile(r"/rs/(?:studies/([0-9.]+)/)?(?:series/([0-9.]+)/)?(studies|series|instances)")


def _row(patient: str, study: str, series: str, instance: str) -> dict[str, object]:
    values = {"00100020": patient, "0020000D": study, "0020000E": series, "00080018": instance}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()} | {
        "00100010": {
            "vr": "PN",
            "Value": [{"Alphabetic": SECRET if patient == FOREIGN_PATIENT else "OWN^NAME"}],
        }
    }


ROWS = [
    _row(PATIENT, OWN, OWN_SERIES, OWN_INSTANCE),
    _row(FOREIGN_PATIENT, FOREIGN, FOREIGN_SERIES, FOREIGN_INSTANCE),
]


def _instance(foreign: bool) -> bytes:
    names = (
        (FOREIGN, FOREIGN_SERIES, FOREIGN_INSTANCE) if foreign else (OWN, OWN_SERIES, OWN_INSTANCE)
    )
    return encoded(
        dataset(
            PatientID=FOREIGN_PATIENT if foreign else PATIENT,
            PatientName=SECRET if foreign else "OWN^NAME",
            StudyInstanceUID=names[0],
            SeriesInstanceUID=names[1],
            SOPInstanceUID=names[2],
        )
    )


async def retrieve(request: web.Request) -> web.Response:
    """Answer a retrieval with what its path names last."""
    path = request.path
    foreign = FOREIGN in request.raw_path
    if path.endswith("/metadata"):
        return web.json_response([ROWS[foreign]], content_type="application/dicom+json")
    if path.endswith(("/rendered", "/thumbnail")):
        content_type, body = "image/png", SECRET.encode() if foreign else b"own"
    elif re.search(r"/(frames|bulkdata|pixeldata)", path):
        content_type, body = "application/octet-stream", SECRET.encode() if foreign else b"own"
    else:
        part = b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + _instance(foreign)
        content_type, body = MULTIPART, part + b"\r\n--abc--\r\n"
    return web.Response(body=body, headers={"Content-Type": content_type})


def archive_of_two() -> RowArchive:
    """Return an archive that answers any query with the rows of both patients."""
    return RowArchive(*ROWS, filters=False, retrieve=retrieve)


VALUES = [
    *WORDS,
    *TRICKS,
    "all",
    "true",
    "-1",
    "99999999",
    "Patient/p2",
    "urn:oid:" + FOREIGN,
    "eHg",
    "p1,p2",
    "p1%5cp2",
]


def make_target(choose: random.Random) -> str:
    """A path near to a real one, changed here and there, and perhaps a query."""
    segments = list(choose.choice(FORMS)[: choose.randrange(1, 12)])
    segments += choose.choices(WORDS, k=choose.choice((0, 0, 1, 2)))
    for _ in range(choose.choice((0, 0, 1, 1, 2, 3))):
        at = choose.randrange(len(segments) + 1)
        trick = choose.choice(TRICKS + WORDS)
        change = choose.randrange(4)
        if change == 0 or at == len(segments):
            segments.insert(at, trick)
        elif change == 1:
            segments[at] += trick
        elif change == 2:
            segments[at] = trick + segments[at]
        else:
            segments[at] = trick
    pairs = [
        f"{choose.choice(NAMES)}={choose.choice(VALUES)}"
        for _ in range(choose.choice((0, 0, 1, 2, 3)))
    ]
    return "/" + "/".join(segments) + ("?" + "&".join(pairs) if pairs else "")


TARGETS = st.randoms(use_true_random=False).map(make_target)


def check(target: str, seen: list[str], answer: bytes) -> None:
    """The oracle. Raises ``AssertionError``."""
    assert SECRET.encode() not in answer, f"{target!r}: a foreign name came back"
    for one in seen:
        parts = urlsplit(one)
        assert re.fullmatch(r"[A-Za-z0-9./,-]*", parts.path), f"{target!r}: sent {one!r}"
        query = _QUERY.fullmatch(parts.path)
        if query is None:
            found = _RETRIEVAL.fullmatch(parts.path)
            assert found is not None, f"{target!r}: sent {one!r}"
            assert found[1] == OWN, f"{target!r}: fetched {one!r}"
            assert found[2] in (None, OWN_SERIES), f"{target!r}: fetched {one!r}"
            assert found[3] in (None, OWN_INSTANCE), f"{target!r}: fetched {one!r}"
            continue
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), f"{target!r}: asked {one!r}"
        values = dict(pairs)
        by_uid = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"} & set(names) or query[
            1
        ]
        assert values.get("PatientID") == PATIENT or ("PatientID" not in values and by_uid), (
            f"{target!r}: asked {one!r}"
        )
        assert not {"00100020", "00100021", "IssuerOfPatientID", "OtherPatientIDs"} & set(names), (
            f"{target!r}: asked {one!r}"
        )


async def ask(port: int, target: str) -> bytes:
    """Send one request; return everything that came back."""
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n{BEARER}\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def victim() -> AsyncIterator[tuple[int, RowArchive]]:
    """A sidecar in front of the archive; yields its port. What it remembers is forgotten soon: each
    target counts.
    """
    archive = archive_of_two()
    async with sidecar_between(
        ScriptedEhr(),
        archive,
        limits={"ownership_cache_seconds": 0.001, "search_cache_seconds": 0.001},
        log={"level": "ERROR"},
    ) as (url, _):
        yield int(url.rpartition(":")[2]), archive


async def run(seconds: float, seed: int, least: int = 0) -> tuple[int, int]:
    """Fuzz for ``seconds``, and until ``least`` targets were tried; return how many targets were
    tried, and how many of them reached the PACS.
    """
    choose, tried, reached = random.Random(seed), 0, 0
    async with victim() as (port, archive):
        until = time.monotonic() + seconds
        while time.monotonic() < until or tried < least:
            target = make_target(choose)
            archive.asked.clear()
            check(target, archive.asked, await ask(port, target))
            tried += 1
            reached += bool(archive.asked)
    return tried, reached


def main() -> None:
    """Fuzz with a new seed, which is printed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}, {seconds:g} s", flush=True)
    logging.disable()  # The archive answers more than it was asked; that is said each time.
    tried, reached = asyncio.run(run(seconds, seed))
    print(
        f"{tried} targets, {reached} of them reached the archive: "
        "nothing foreign was asked for or answered"
    )


if __name__ == "__main__":
    main()
