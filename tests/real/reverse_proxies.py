"""Runs the configurations of config/proxies: the files as they are, but for ports and places."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import requests

from tests.certificates import certificate
from tests.installed import installed
from tests.real.proxies import listening, program
from tests.sidecar_process import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "proxies"
PATH = "/imaging"
Way = Literal["own host", "passed on", "stripped"]
"""Where the sidecar is: at the root of a host, or below a path that the proxy keeps or strips."""
WAYS: tuple[Way, ...] = ("own host", "passed on", "stripped")


@dataclass(frozen=True)
class Program:
    """A reverse proxy.

    ``files``: of config/proxies, by the names that they have where it runs; the first one is
    given to it. ``below``: those that differ below a path. ``places``: what is written elsewhere in
    a test. ``strips``: the change by which it strips the path. ``built``: where make puts it.
    ``normalizes``: whether it decodes what needs no escape, writes escapes in capitals (RFC 3986
    6.2.2), and asks us for gzip itself.
    """

    name: str
    command: tuple[str, ...]
    files: Mapping[str, str]
    below: Mapping[str, str]
    places: Mapping[str, str]
    strips: tuple[str, str]
    built: str = ""
    normalizes: bool = False

    def binary(self) -> str:
        """The path of the program."""
        if not self.built:
            return program(self.name)
        file = ROOT / self.built
        return installed(str(file) if file.is_file() else None, f"no {file}: make {self.name}")


PROGRAMS = [
    Program(
        "nginx",
        ("{binary}", "-p", "{folder}", "-c", "nginx.conf", "-g", "daemon off;"),
        {"nginx.conf": "nginx.conf"},
        {"nginx.conf": "nginx-path.conf"},
        {
            "/run/nginx.pid": "{folder}/nginx.pid",
            "/var/log/nginx/error.log": "{folder}/error.log",
            "listen 443": "listen 127.0.0.1:{port}",
            "/etc/nginx/": "{folder}/",
            # Places that the package of the distribution has built in, and that root alone may use.
            "    access_log off;": "    access_log off; client_body_temp_path {folder}/body;"
            " proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;"
            " uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;",
        },
        ("proxy_pass http://sidecar;\n", "proxy_pass http://sidecar$below;\n"),
    ),
    Program(
        "haproxy",
        ("{binary}", "-db", "-f", "{folder}/haproxy.cfg"),
        {"haproxy.cfg": "haproxy.cfg"},
        {"haproxy.cfg": "haproxy-path.cfg"},
        {"bind :443": "bind 127.0.0.1:{port}", "/etc/haproxy/": "{folder}/"},
        ("# http-request replace-path", "http-request replace-path"),
    ),
    Program(
        "caddy",
        (
            *("env", "HOME={folder}", "{binary}", "run"),
            *("--adapter", "caddyfile", "--config", "{folder}/Caddyfile"),
        ),
        {"Caddyfile": "Caddyfile"},
        {"Caddyfile": "Caddyfile-path"},
        {
            "hospital.example.org {": "hospital.example.org:{port} {",
            "/etc/caddy/": "{folder}/",
            # Port 80 is not ours here.
            "\tadmin off\n": "\tadmin off\n\tauto_https disable_redirects\n",
        },
        ("# uri path_regexp", "uri path_regexp"),
        "build/caddy/bin/caddy",
    ),
    Program(
        "traefik",
        ("{binary}", "--configFile={folder}/traefik.yaml"),
        {"traefik.yaml": "traefik.yaml", "routes.yaml": "traefik-routes.yaml"},
        {"routes.yaml": "traefik-routes-path.yaml"},
        {'":443"': '"127.0.0.1:{port}"', "/etc/traefik/": "{folder}/"},
        ("middlewares: [headers]\n", "middlewares: [headers, strip]\n"),
        "build/bin/traefik",
        normalizes=True,
    ),
]


@dataclass(frozen=True)
class ReverseProxy:
    """A running proxy on ``port``, whose one upstream is ``upstream``; ``ca`` is its certificate.

    ``folder`` has its log, and whatever else it writes.
    """

    program: Program
    way: Way
    port: int
    upstream: int
    ca: Path
    folder: Path
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", "" if self.way == "own host" else PATH)

    @property
    def url(self) -> str:
        """What apps know as our public URL."""
        return f"https://localhost:{self.port}{self.path}"

    def finds_nobody(self) -> bool:
        """Whether it looks for a sidecar, and none is there."""
        answer = requests.get(self.url + "/fhir/metadata", verify=str(self.ca), timeout=60)
        return answer.status_code in (502, 503, 504)

    def written(self) -> str:
        """Everything that it has written about its requests."""
        return "".join(file.read_text() for file in self.folder.iterdir() if file.suffix == ".log")


@contextlib.contextmanager
def reverse_proxy(
    made_by: Program, way: Way, further: Mapping[str, str] | None = None
) -> Iterator[ReverseProxy]:
    """Run one, with ``further`` changes, in front of a port on which nothing listens yet."""
    binary = made_by.binary()
    with tempfile.TemporaryDirectory(prefix=f"{made_by.name}-") as scratch:
        folder, port, upstream = Path(scratch), free_port(), free_port()
        folder.chmod(0o755)  # Started as root, nginx works as somebody else.
        names = {"folder": str(folder), "port": str(port), "binary": binary}
        ca, key = certificate(folder, "proxy")
        for host in ("imaging", "hospital"):
            both = ca.read_text() + key.read_text() if made_by.name == "haproxy" else ca.read_text()
            (folder / f"{host}.pem").write_text(both)
            (folder / f"{host}-key.pem").write_text(key.read_text())
        text = {
            name: (FOLDER / file).read_text()
            for name, file in (
                {**made_by.files, **(made_by.below if way != "own host" else {})}
            ).items()
        }
        changes = {old: _filled(new, names) for old, new in made_by.places.items()}
        changes |= {"127.0.0.1:8080": f"127.0.0.1:{upstream}", **(further or {})}
        if way == "stripped":
            changes = dict([made_by.strips]) | changes
        text = _changed(text, changes)
        for name, content in text.items():
            named = content.replace("imaging.hospital.example.org", "localhost")
            (folder / name).write_text(named.replace("hospital.example.org", "localhost"))
        command = [_filled(one, names) for one in made_by.command]
        with listening(command, port, folder / "output.log"):
            proxy = ReverseProxy(made_by, way, port, upstream, ca, folder)
            wait_until(
                "its routes are there", proxy.finds_nobody, not_yet=(requests.ConnectionError,)
            )
            yield proxy


def _filled(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _changed(files: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return the files with every change, each of which must be possible."""
    text = dict(files)
    for old, new in changes.items():
        assert any(old in one for one in text.values()), f"nothing says {old!r}"
        text = {name: one.replace(old, new) for name, one in text.items()}
    return text
