"""config/proxies and docs/reverse-proxies.md, without the programs: what fits our limits."""

import inspect
import re
from pathlib import Path

import pytest

from sidecar.authorization.limits import WAIT_SECONDS
from sidecar.server.listener import Listener
from sidecar.settings.limits import LimitSettings

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "config" / "proxies").iterdir())
PAGE = (ROOT / "docs" / "reverse-proxies.md").read_text()
SILENCE = {
    "nginx": r"(?:send|proxy_send|proxy_read)_timeout (\d+)s;",
    "haproxy": r"timeout (?:client|server) +(\d+)s",
    "Caddyfile": r"(?:response_header|read|write)_timeout (\d+)s",
    "traefik-routes": r"responseHeaderTimeout: (\d+)s",
}
IDLE = {
    "nginx": r"keepalive 32;\n.*\n +keepalive_timeout (\d+)s;",
    "Caddyfile": r"keepalive (\d+)s",
    "traefik-routes": r"idleConnTimeout: (\d+)s",
}


def found(patterns: dict[str, str]) -> dict[str, list[int]]:
    """What the patterns find in the files whose names begin so."""
    return {
        file.name: [int(value) for value in re.findall(pattern, file.read_text())]
        for name, pattern in patterns.items()
        for file in FILES
        if file.name.startswith(name)
    }


def test_silence_of_ours_is_no_time_out_of_theirs() -> None:
    limits = LimitSettings()
    assert limits.defer_after_seconds is not None
    ours = WAIT_SECONDS + limits.defer_after_seconds + limits.pacs_timeout_seconds
    for name, seconds in found(SILENCE).items():
        assert seconds, name
        assert min(seconds) > 2 * ours, name


def test_they_close_idle_connections_first() -> None:
    ours = inspect.signature(Listener).parameters["idle_seconds"].default
    for name, seconds in found(IDLE).items():
        assert seconds, name
        assert max(seconds) < ours, name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_page_names_each_file(file: Path) -> None:
    """And each file leads to the page, and none to the admin listener."""
    assert f"`{file.name}`" in PAGE
    assert "docs/reverse-proxies.md" in file.read_text()
    assert "9090" not in file.read_text()


@pytest.mark.parametrize(
    ("language", "file"),
    [
        ("nginx", "nginx-path.conf"),
        ("haproxy", "haproxy-path.cfg"),
        ("caddy", "Caddyfile-path"),
        ("traefik", "traefik-routes-path.yaml"),
    ],
)
def test_lines_of_the_page_are_in_the_files(language: str, file: str) -> None:
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    text = (ROOT / "config" / "proxies" / file).read_text()
    lines = [line.strip() for line in block.splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if line not in text] == []
