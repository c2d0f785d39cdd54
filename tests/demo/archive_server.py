"""The embedded archive on a real socket, for its tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dicomweb_client.web import DICOMwebClient

from sidecar.demo.archive.app import create_archive
from tests.background import Background

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@contextlib.contextmanager
def archive_over(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yields the DICOMweb root's URL."""
    with Background() as background:
        yield f"http://127.0.0.1:{background.serve(create_archive(folder))}/dicom-web"


def instance_url(root: str, client: DICOMwebClient, **filters: str) -> str:
    """The URL of the first instance that a search finds; its attributes are the filters."""
    row = client.search_for_instances(search_filters=filters)[0]
    study, series, instance = (row[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
    return f"{root}/studies/{study}/series/{series}/instances/{instance}"
