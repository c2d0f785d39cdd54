"""What holds for all tests: the longest stall is reported; a file stays on one worker."""

import gc
import os
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.event_loops import run
from tests.stalls import pytest_terminal_summary

__all__ = ["pytest_terminal_summary", "run"]

_TOGETHER = "tests/journey/"
_REAL = {
    "orthanc",
    "browser",
    "prometheus",
    "postgresql",
    "redis",
    "authorization_server",
    "hapi",
    "hydra",
    "javascript",
    "opa",
    "kubernetes",
    "haproxy",
    "nginx",
    "caddy",
    "traefik",
    "tiny_pacs",
}
"""Markers of tests that need a real part."""


# How fast an example runs says nothing here; a busy machine must not fail a test.
hypothesis.settings.register_profile("exhaustive", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=30)


def pytest_configure(config: pytest.Config) -> None:
    """`make test` leaves out what is exhaustive, and tries fewer examples of each property.

    Of half a million objects that are made while tests are collected nearly all stay, and the
    garbage collector would look through them again and again.
    """
    gc.disable()
    is_quick = "not exhaustive" in config.getoption("markexpr")
    hypothesis.settings.load_profile("quick" if is_quick else "exhaustive")


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Return the folder of what people look at after a run: $ARTEFACTS, or a temporary one."""
    folder = Path(os.environ.get("ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A file's tests go to one worker, and so do all of the journey, whose archives are started
    once for all of it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _TOGETHER if file.startswith(_TOGETHER) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return two workers more than there are cores: tests wait for their servers a third of their
    time.
    """
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesTogether | None:
    """Take the place of xdist's own where files are asked for."""
    return FilesTogether(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)  # Before what is deselected by its markers.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that at the end no worker waits for the other; mark what needs a
    real part.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(_TOGETHER))
    for item in items:
        if any(marker.name in _REAL for marker in item.iter_markers()):
            item.add_marker("real")


def pytest_collection_finish() -> None:
    """Keep what was collected from the garbage collector, as a server keeps what it imported: half
    a million objects, which each full collection would look through.

    What is garbage already is collected first, so that what it warns of is not lost.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
