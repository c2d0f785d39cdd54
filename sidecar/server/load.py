"""Read the configuration for the supervisor, in a process of its own."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.server.child import Channel
from sidecar.server.configuration import Configuration
from sidecar.server.cpus import granted_cpus
from sidecar.settings.load import ConfigurationError, load_settings
from sidecar.settings.section import Section


def load(files: Sequence[Path], channel: Channel) -> int:
    """Send the configuration that ``files`` and the environment have, or ``problems``."""
    try:
        settings = load_settings(files, os.environ)
    except ConfigurationError as error:
        channel.send(problems=list(error.problems))
    else:
        workers = settings.server.workers
        configuration = Configuration(
            settings,
            workers=granted_cpus() if workers == "auto" else workers,
            files=[str(file) for file in files_of(settings)],
        )
        channel.send(configuration=configuration.encode())
    return 0


def files_of(settings: Section) -> Iterator[Path]:
    """Return every file that the settings name, except those that we write."""
    for name, value in vars(settings).items():
        values = value.values() if isinstance(value, dict) else value
        for part in values if isinstance(value, dict | tuple) else [value]:
            if isinstance(part, Section):
                yield from files_of(part)
            elif isinstance(part, Path) and name not in ("file", "folder"):
                yield part
