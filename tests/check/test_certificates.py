"""Checks of certificates."""

import asyncio
from pathlib import Path

from sidecar.conformance.finding import State
from tests.certificates import certificate, server_context
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr


async def test_a_certificate_that_ends_soon(ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path) -> None:
    """One hour, as our own here."""
    files = certificate(tmp_path, "us")
    client = {
        "method": "tls_client_auth",
        "client_id": "us",
        "certificate_file": str(files[0]),
        "private_key_file": str(files[1]),
    }
    finding = (await found(ehr, pacs, tokens={"client": client}))["certificate.client"]
    assert finding.state is State.WARN
    assert "renewed" in str(finding.hint)


async def test_an_archive_whose_certificate_is_not_trusted(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path
) -> None:
    """Something answers there: not "nothing does"."""
    context = server_context(certificate(tmp_path, "server"))
    async with await asyncio.start_server(
        lambda reader, writer: None, "127.0.0.1", 0, ssl=context
    ) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/dicom-web"
        finding = (await found(ehr, pacs, pacs={"url": url}))["pacs.query"]
    assert finding.state is State.FAIL
    assert "pacs.ca_file" in str(finding.hint)
    assert "Nothing answers" not in str(finding.hint)
