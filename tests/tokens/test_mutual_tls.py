"""``tls_client_auth`` on a real TLS connection (RFC 8705 2.1): the certificate of the settings is
what we show.
"""

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from sidecar.bootstrap.context import open_session
from sidecar.common.errors import Unavailable
from sidecar.ehr.client_authentication import FormAuthentication
from sidecar.settings.upstream_auth import TlsClient
from tests.certificates import certificate
from tests.tokens.introspecting import ACTIVE, introspection


async def test_the_certificate_is_shown(tmp_path: Path) -> None:
    server, us, other = (certificate(tmp_path, name) for name in ("server", "us", "other"))
    shown = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(
            pair[0] for pair in writer.get_extra_info("ssl_object").getpeercert()["subject"]
        )
        shown.append(subject["commonName"])
        await reader.readuntil(b"client_id=us")
        body = json.dumps(ACTIVE).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(us[0]))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*server)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as listening:
        url = f"https://localhost:{listening.sockets[0].getsockname()[1]}/introspect"

        def client(files: tuple[Path, Path]) -> TlsClient:
            return TlsClient(
                method="tls_client_auth",
                client_id="us",
                certificate_file=files[0],
                private_key_file=files[1],
            )

        async with open_session(server[0], connections=2, client=client(us)) as session:
            assert await introspection(
                url, session, authentication=FormAuthentication("us")
            ).introspect("a-token")
        assert shown == ["us"]
        for wrong in (client(other), None):
            async with open_session(server[0], connections=2, client=wrong) as session:
                with pytest.raises(Unavailable):
                    await introspection(
                        url, session, authentication=FormAuthentication("us")
                    ).introspect("a-token")
    assert shown == ["us"]


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    us, other = certificate(tmp_path, "us"), certificate(tmp_path, "other")
    with pytest.raises(ValueError, match="private_key_file is not the key of certificate_file"):
        TlsClient(
            method="tls_client_auth",
            client_id="us",
            certificate_file=us[0],
            private_key_file=other[1],
        )
