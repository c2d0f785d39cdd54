"""A real HAProxy or nginx in front of a server of a test's own: one process that shares its
upstream connections.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.installed import installed
from tests.real.processes import end
from tests.sidecar_process import free_port
from tests.waiting import wait_until

_HAPROXY = """
global
    nbthread 1
defaults
    mode http
    http-reuse always
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen sidecar
    bind 127.0.0.1:{port} {options}
    http-request del-header Forwarded
    option forwardfor
    server sidecar 127.0.0.1:{upstream}
"""
_NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream sidecar {{ server 127.0.0.1:{upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} {options};
        location / {{
            proxy_pass http://sidecar;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Forwarded "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def haproxy(upstream: int, options: str = "") -> Iterator[int]:
    """Run HAProxy in front of a port; yields its own. ``options`` follow its address.
    Any client may get any upstream connection.
    """
    with _running(
        "haproxy",
        _HAPROXY,
        upstream,
        lambda binary, file: [binary, "-db", "-f", str(file)],
        options,
    ) as port:
        yield port


@contextlib.contextmanager
def nginx(upstream: int, options: str = "") -> Iterator[int]:
    """Run nginx in front of a port; yields its own. ``options`` follow its address.
    Upstream connections are kept, request bodies passed on at once.
    """
    with _running(
        "nginx",
        _NGINX,
        upstream,
        lambda binary, file: [binary, "-p", str(file.parent), "-c", file.name],
        options,
    ) as port:
        yield port


@contextlib.contextmanager
def _running(
    name: str,
    configuration: str,
    upstream: int,
    command: Callable[[str, Path], list[str]],
    options: str,
) -> Iterator[int]:
    binary = program(name)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        directory, port = Path(scratch), free_port()
        directory.chmod(0o755)  # Started as root, nginx works as somebody else.
        file = directory / f"{name}.conf"
        values = {"port": port, "upstream": upstream, "directory": directory, "options": options}
        file.write_text(configuration.format(**values))
        with listening(command(binary, file), port, directory / "log"):
            yield port


def program(name: str) -> str:
    """The path of HAProxy or nginx."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    hint = f"no {name}: apt-get install {'nginx-light' if name == 'nginx' else name}"
    return installed(shutil.which(name, path=search), hint)


@contextlib.contextmanager
def listening(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a proxy that listens on ``port``, and writes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(
            f"{command[0]} listens",
            lambda: _listens(port) or process.poll() is not None,
            explain=log.read_text,
        )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        end(process)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60):
        return True
    return False
