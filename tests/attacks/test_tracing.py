"""Nothing that names anybody is in the spans, whatever a request or a peer says: every byte sent is
looked at.
"""

import asyncio
import contextlib
import random
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.attacks.fuzz import archive_of_two, make_target
from tests.attacks.raw import request, send
from tests.attacks.row import FOREIGN, OWN
from tests.capability_keys import CAPABILITY_KEY, token_bound
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD, MULTIPART, answer
from tests.fakes.site import sidecar_between
from tests.tables.attacks import rows
from tests.tables.capability_attacks import PUBLIC_URL
from tests.tables.fuzz import FOREIGN as FUZZED_FOREIGN
from tests.tables.fuzz import FOREIGN_INSTANCE, SECRET
from tests.telemetry.collector import Collector, attributes

STEPS = frozenset(
    {
        "read",
        "token",
        "queue",
        "decide patient",
        "patient",
        "description",
        "ownership",
        "decide study",
        "fetch",
        "transfer",
        "record",
        "ehr discovery",
        "ehr introspection",
        "pacs query",
        "issuers",
    }
)
PACS_STEP = re.compile(r"pacs [a-z]+")
ROUTES = frozenset(
    {
        "/fhir/metadata",
        "/fhir/.well-known/smart-configuration",
        "/fhir/$versions",
        "/fhir/ImagingStudy",
        "/fhir/StructureDefinition/number-of-frames",
        "/fhir/ImagingStudy/_search",
        "/fhir/ImagingStudy/{id}",
        "/fhir/Endpoint/{id}",
        "/fhir/Patient/{patient}/ImagingStudy",
        "/fhir/Patient/{patient}/ImagingStudy/_search",
        "/fhir/Patient/{patient}/$wado-rs/{tail}",
        "/wado-rs/{tail}",
        "/wado-uri",
        "/capability/{sealed}/{tail}",
        "/",
        "/{tail}",
    }
)
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "_OTHER"}
)
TEXTS = {
    "http.request.method": re.compile("|".join(METHODS)),
    "http.route": re.compile("|".join(re.escape(one) for one in ROUTES)),
    "smart_imaging.request_id": re.compile(r"[0-9a-f]{16}"),
    "smart_imaging.reason": re.compile(r"[a-z_]+( \([A-Za-z_ ]+[0-9]{0,3}\))?"),
    "smart_imaging.outcome": re.compile(r"[a-z_]+"),
    "smart_imaging.kind": re.compile(r"[a-z]+"),
    "peer.service": re.compile(r"ehr|pacs"),
    "error.type": re.compile(r"[A-Za-z]+|5[0-9]{2}"),
}
NUMBERS = frozenset({"http.response.status_code", "http.response.size"})


def check(span: Span) -> None:
    """It says what is on the lists above, and nothing else."""
    method, _, route = span.name.partition(" ")
    is_request = method in (METHODS | {"HTTP"}) and route in (ROUTES | {""})
    assert is_request or span.name in STEPS or PACS_STEP.fullmatch(span.name), span.name
    for name, value in attributes(span).items():
        if name in NUMBERS:
            assert isinstance(value, int), name
        else:
            assert TEXTS[name].fullmatch(str(value)), (name, value)
    assert not span.events
    assert not span.links
    assert not span.trace_state
    assert not span.status.message


def check_bytes(collector: Collector, *secrets: str) -> None:
    told = b"".join(collector.raw)
    for secret in (TOKEN, *secrets):
        assert secret.encode() not in told, secret


async def test_every_row_of_the_table(tmp_path: Path) -> None:
    async with Collector().serve() as collector:
        async with sidecar_between(
            ScriptedEhr(),
            ScriptedPacs(GOOD["until-close"]),
            server={"wado_uri": True, "public_url": PUBLIC_URL},
            capabilities=token_bound(tmp_path),
            tracing={"endpoint": collector.endpoint},
        ) as (url, _):
            port = int(url.rpartition(":")[2])
            turn = asyncio.Semaphore(8)

            async def attack(data: bytes) -> None:
                async with turn:
                    with contextlib.suppress(TimeoutError):
                        await send(port, data)

            await asyncio.gather(*(attack(one.data) for one in rows()))
        assert len(collector.spans()) > 300
        for one in collector.spans():
            check(one)
        check_bytes(
            collector, STUDY, FOREIGN, "evil", "injected", "127.0.0.1", CAPABILITY_KEY.key_id
        )


async def test_made_up_targets() -> None:
    """Some seconds of them; the seed is the second at which it began."""
    choose = random.Random(seed := int(time.time()))
    async with Collector().serve() as collector:
        async with sidecar_between(
            ScriptedEhr(), archive_of_two(), tracing={"endpoint": collector.endpoint}
        ) as (url, _):
            port, end = int(url.rpartition(":")[2]), time.monotonic() + 3
            tried = 0
            while time.monotonic() < end or tried < 100:
                tried += 1
                with contextlib.suppress(TimeoutError):
                    await send(port, request(make_target(choose).replace(" ", "%20")))
        assert len(collector.spans()) > 50, seed
        for one in collector.spans():
            check(one)
        check_bytes(
            collector, STUDY, FUZZED_FOREIGN, FOREIGN_INSTANCE, SECRET, "OWN^NAME", "127.0.0.1"
        )


MARK = "marked"
CLAIMS = {
    "active": True,
    "scope": "patient/ImagingStudy.rs",
    "exp": 9_999_999_999,
    "client_id": f"{MARK}-app",
    "sub": f"{MARK}-user",
    "username": f"{MARK}-name",
    "patient": f"{MARK}-patient",
    "iss": f"https://{MARK}.example.org",
}
BODY = (
    b"--abc\r\nContent-Type: application/dicom\r\n\r\n"
    + encoded(
        dataset(PatientID=f"{MARK}-patient", PatientName=f"{MARK}^NAME", StudyInstanceUID=STUDY)
    )
    + b"\r\n--abc--\r\n"
)
PEERS: dict[str, tuple[dict[str, Any], Any]] = {
    "all is well": ({}, answer(MULTIPART + b"Connection: close\r\n", BODY)),
    "the PACS quotes": (
        {},
        answer(f"Content-Type: text/{MARK}\r\nX-Patient: {MARK}\r\n".encode(), MARK.encode()),
    ),
    "the PACS breaks off": ({}, answer(MULTIPART + b"Content-Length: 99999\r\n", BODY, abort=True)),
    "the EHR quotes": ({"answer": f"not JSON {MARK}", "status": 500}, GOOD["chunked"]),
    "an odd introspection": ({"answer": CLAIMS | {"exp": MARK, "scope": [MARK]}}, GOOD["chunked"]),
}
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": f"{MARK}=1,a={MARK}",
    "baggage": f"patient={MARK}",
    "User-Agent": MARK,
    "X-Request-Id": MARK,
    "X-Forwarded-For": MARK,
    "Referer": f"https://{MARK}.example.org/",
}
TARGETS = [
    OWN,
    f"/wado-rs/studies/{STUDY}",
    f"/wado-rs/studies?PatientName={MARK}",
    f"/fhir/Patient/{MARK}-patient/ImagingStudy",
    f"/fhir/ImagingStudy?patient={MARK}-patient&identifier={MARK}",
    f"/fhir/ImagingStudy/{STUDY}",
    f"/fhir/Patient/{MARK}-patient/$wado-rs/studies/{STUDY}/metadata",
    f"/fhir/Endpoint/{MARK}",
    f"/{MARK}",
    f"/fhir/Patient/{MARK}-other/$wado-rs/studies",
]


@pytest.mark.parametrize("peers", PEERS)
async def test_what_peers_and_clients_say_is_not_told(peers: str) -> None:
    """Tokens, ids, names, UIDs, apps: in the URL, in headers, in what the EHR and the archive
    answer.
    """
    fields, retrieval = PEERS[peers]
    ehr, pacs = (
        ScriptedEhr(**({"answer": CLAIMS} | fields)),
        ScriptedPacs(retrieval, patient_id=f"{MARK}-patient"),
    )
    async with Collector().serve() as collector:
        async with (
            sidecar_between(ehr, pacs, tracing={"endpoint": collector.endpoint}) as (url, _),
            aiohttp.ClientSession(headers=HEADERS) as client,
        ):
            for method in ("GET", "HEAD", MARK.upper()):
                for target in TARGETS:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with client.request(method, url + target) as got:
                            await got.read()
        assert len(collector.spans()) > 50
        for one in collector.spans():
            check(one)
        check_bytes(collector, MARK, MARK.upper(), STUDY, "127.0.0.1")
