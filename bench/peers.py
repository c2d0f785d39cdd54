"""The peers: the archive itself, other proxies in front of it, and ours."""

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from subprocess import DEVNULL
from typing import IO, Any
from urllib.parse import urlsplit

import yaml

from bench.archive import NGINX, find_nginx, nginx
from bench.processes import (
    NO_PROCESS,
    leave_core_under_test,
    on_core_under_test,
    wait_for_answer,
)
from tests.background import Background
from tests.certificates import certificate, server_context
from tests.command import environment
from tests.fakes.ehr import ScriptedEhr, active
from tests.real.orthanc import NOT_INSTALLED, find_orthanc
from tests.sidecar_process import free_port

DIRECT, TUNED, OPENIDC, BARE = "direct", "nginx, tuned", "mod_auth_openidc", "bare aiohttp"
OURS, NO_AUDIT, ORTHANC = "ours", "ours, no audit", "Orthanc's QIDO"
APACHE = "apt-get install apache2 libapache2-mod-auth-openidc"
_MODULES = Path("/usr/lib/apache2/modules")

# nginx's defaults (8 buffers of 4 KB, a file for the rest, a connection a request) cost twice as
# much and would flatter the others. With sixteen buffers of 64 KB a study costs a tenth less CPU,
# and a slow client a megabyte.
_TUNED = """
  upstream archive {{ server {archive}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 4 64k;
    proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass http://archive; }}
  }}
"""
_OPENIDC = """
ServerRoot {folder}
ServerName bench
PidFile {folder}/pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
Listen 127.0.0.1:{port}
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule auth_openidc_module {modules}/mod_auth_openidc.so
StartServers 1
ServerLimit 1
ThreadLimit 256
ThreadsPerChild 256
MinSpareThreads 1
MaxSpareThreads 256
MaxRequestWorkers 256
MaxKeepAliveRequests 0
KeepAliveTimeout 60
OIDCCryptoPassphrase bench
OIDCOAuthSSLValidateServer Off
OIDCOAuthIntrospectionEndpoint {ehr}/introspect
OIDCOAuthClientID bench
OIDCOAuthClientSecret bench
OIDCOAuthTokenExpiryClaim exp absolute
OIDCOAuthRemoteUserClaim patient
ProxyIOBufferSize 65536
<Location />
  AuthType oauth20
  Require claim patient:p1
  ProxyPass {archive}/ enablereuse=on
</Location>
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to be measured: ``url`` stands for the archive's DICOMweb root."""

    name: str
    url: str
    process: int

    def fhir(self) -> "Peer":
        """Return ours with its FHIR base in place of the DICOMweb root."""
        return replace(self, url=self.url.removesuffix("/wado-rs") + "/fhir")


class Site:
    """Starts peers in front of one archive, with an EHR; ends them all at its end.

    A token is of the patient whose id stands before its first full stop.
    """

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, archive_url: str, *, is_pinned: bool
    ) -> None:
        self._stack = stack
        self._where = on_core_under_test if is_pinned else contextlib.nullcontext
        self.folder = folder
        self._archive = archive_url
        ehr = ScriptedEhr(answer=lambda token: active(token.partition(".")[0]))
        background = stack.enter_context(Background())
        self._ehr = f"http://127.0.0.1:{background.serve(ehr.app())}"
        # mod_auth_openidc wants TLS.
        tls = server_context(certificate(folder, "ehr"))
        self._tls_ehr = f"https://127.0.0.1:{background.serve(ehr.app(), tls=tls)}"

    def _new_folder(self, name: str) -> Path:
        folder = self.folder / f"{len(list(self.folder.iterdir()))}-{name}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def direct(self) -> Peer:
        """Return the archive itself, whose CPU is not measured."""
        return Peer(DIRECT, self._archive, NO_PROCESS)

    def tuned(self) -> Peer:
        """Start nginx as a proxy with large buffers and connections that stay."""
        port = free_port()
        servers = _TUNED.format(port=port, archive=urlsplit(self._archive).netloc)
        with self._where():
            process = self._stack.enter_context(nginx(self._new_folder("nginx"), servers, port))
        return Peer(TUNED, f"http://127.0.0.1:{port}{urlsplit(self._archive).path}", process)

    def openidc(self) -> Peer:
        """Start Apache with mod_auth_openidc, which introspects each token once."""
        port, folder = free_port(), self._new_folder("apache")
        origin = f"http://{urlsplit(self._archive).netloc}"
        (folder / "httpd.conf").write_text(
            _OPENIDC.format(
                folder=folder, port=port, modules=_MODULES, ehr=self._tls_ehr, archive=origin
            )
        )
        command = ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(folder / "httpd.conf")]
        process = self._start(command, port)
        return Peer(OPENIDC, f"http://127.0.0.1:{port}{urlsplit(self._archive).path}", process)

    def bare(self) -> Peer:
        """Start the smallest aiohttp proxy."""
        port = free_port()
        origin = f"http://{urlsplit(self._archive).netloc}"
        process = self._start([sys.executable, "-m", "bench.bare_proxy", str(port), origin], port)
        return Peer(BARE, f"http://127.0.0.1:{port}{urlsplit(self._archive).path}", process)

    def ours(self, name: str = OURS, *, audit: bool = True, **sections: Mapping[str, Any]) -> Peer:
        """Start ``serve`` with introspection, verification and, if wanted, an audit trail.

        Limits are so high that they do not cut. ``sections`` add to the configuration.
        """
        folder = self._new_folder("sidecar")
        trail = {"sink": "file", "file": str(folder / "audit.jsonl")} if audit else {}
        configuration: dict[str, Any] = {
            "server": {
                "host": "127.0.0.1",
                "port": free_port(),
                "admin_host": "127.0.0.1",
                "admin_port": free_port(),
                "public_url": "http://bench",
                "drain_seconds": 1,
            },
            "ehr": {"fhir_url": self._ehr + "/fhir"},
            "tokens": {"client": {"method": "none"}, "cache": {"ttl_seconds": 300}},
            "pacs": {"url": self._archive},
            "audit": trail,
            "limits": {
                "search_cache_seconds": 3_600,
                "retrievals": 10_000,
                "pacs_connections": 10_000,
                "pacs_timeout_seconds": 300,
                "defer_after_seconds": None,
            },
        }
        for section, keys in sections.items():
            configuration[section] = configuration.get(section, {}) | keys
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
        port = configuration["server"]["port"]
        command = [sys.executable, "-m", "sidecar", "serve", "--config"]
        with (folder / "serve.log").open("wb") as log:
            process = self._start([*command, str(folder / "config.yaml")], port, log)
        return Peer(name, f"http://127.0.0.1:{port}/wado-rs", process)

    def proxies(self) -> list[Peer]:
        """Start all that can be started here: the archive itself first, ours last."""
        peers = [self.direct(), self.tuned()]
        if OPENIDC not in missing():
            peers.append(self.openidc())
        return [*peers, self.bare(), self.ours()]

    def _start(self, command: list[str], port: int, log: IO[bytes] | int = DEVNULL) -> int:
        """Start a process, and wait until it answers. Return its id."""
        with self._where():
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
        self._stack.callback(_end, process)
        wait_for_answer(port)
        return process.pid


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def site(archive_url: str, *, is_pinned: bool = True) -> Iterator[Site]:
    """Yield a site in front of the archive; its peers end with it.

    ``is_pinned``: they run on the first core alone.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)
        yield Site(stack, folder, archive_url, is_pinned=is_pinned)


def missing() -> dict[str, str]:
    """Return what is not installed here, each with the line that installs it."""
    openidc = Path("/usr/sbin/apache2").exists() and (_MODULES / "mod_auth_openidc.so").exists()
    found = {
        "nginx": (find_nginx(), NGINX),
        "wrk": (which("wrk"), "apt-get install wrk"),
        "curl": (which("curl"), "apt-get install curl"),
        OPENIDC: (openidc, APACHE),
        ORTHANC: (find_orthanc(), NOT_INSTALLED.partition(": ")[2]),
    }
    return {name: line for name, (there, line) in found.items() if not there}


def prepare() -> None:
    """Name what is missing, and give this process the cores that are not the one under test.

    Raises SystemExit where nothing can be measured.
    """
    for name, line in missing().items():
        print(f"{name} is not installed: {line}", file=sys.stderr)
    if missing().keys() & {"nginx", "wrk", "curl"}:
        raise SystemExit(2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # Of what is started, too.
    leave_core_under_test()
