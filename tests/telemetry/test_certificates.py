"""When certificates end, as a real TLS connection and a real file say it."""

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from sidecar.telemetry.certificates import Certificates
from sidecar.telemetry.metrics import Metrics
from tests.certificates import certificate
from tests.waiting import WAIT_SECONDS


def end_of(file: Path) -> float:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()


def seen(metrics: Metrics, of: str) -> float | None:
    return metrics.registry.get_sample_value(
        "smart_imaging_certificate_expiry_timestamp_seconds", {"of": of}
    )


async def test_of_peers_and_of_our_own(tmp_path: Path) -> None:
    server, own = certificate(tmp_path, "server"), certificate(tmp_path, "own")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*server)
    metrics = Metrics("0")
    async with await asyncio.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
    ) as one:
        port = one.sockets[0].getsockname()[1]
        looked = Certificates(
            metrics,
            {
                "ehr": (f"https://localhost:{port}/fhir", server[0]),
                "pacs": (f"http://localhost:{port}/rs", None),
                "policy": (f"https://localhost:{port}/", None),
            },
            {"client": own[0]},
        )
        await looked.look()
    assert seen(metrics, "ehr") == end_of(server[0])
    assert seen(metrics, "client") == end_of(own[0])
    assert seen(metrics, "pacs") is None, "it has none"
    assert seen(metrics, "policy") is None, "it is not trusted, which other alerts say"
    await looked.look()  # Nobody is there any more.
    assert seen(metrics, "ehr") == end_of(server[0])


async def test_a_file_that_is_gone_or_none_is_no_end(tmp_path: Path) -> None:
    metrics = Metrics("0")
    (tmp_path / "odd.pem").write_text("odd")
    await Certificates(
        metrics, {}, {"client": tmp_path / "absent.pem", "other": tmp_path / "odd.pem"}
    ).look()
    assert (seen(metrics, "client"), seen(metrics, "other")) == (None, None)


async def test_a_server_that_says_nothing_does_not_hold_us_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.telemetry.certificates._CONNECT_SECONDS", 0.2)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as one:
        port = one.sockets[0].getsockname()[1]
        async with asyncio.timeout(WAIT_SECONDS):
            await Certificates(
                Metrics("0"), {"ehr": (f"https://127.0.0.1:{port}", None)}, {}
            ).look()
        ended.set()


def test_reading_files_is_imported_before_anybody_is_served() -> None:
    """It takes 50 ms, in which the event loop answers nobody. Without files it is not needed."""
    code = """
import sys
from pathlib import Path
from sidecar.telemetry.certificates import Certificates
from sidecar.telemetry.metrics import Metrics
for files in ({}, {"client": Path("own.pem")}):
    Certificates(Metrics("0"), {}, files)
    print("cryptography.x509" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"True"]
