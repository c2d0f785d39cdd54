"""Each worker has its share of the limits of the host."""

import pytest

from sidecar.settings.document import Settings
from sidecar.settings.shares import share_of_worker
from tests.fakes.site import site_settings


@pytest.mark.parametrize(
    ("workers", "limits"),
    [
        (1, (2_000, 64, 16, 100)),
        (2, (1_000, 32, 8, 50)),
        (3, (666, 21, 5, 33)),
        (64, (31, 1, 1, 1)),
    ],
)
def test_shares(workers: int, limits: tuple[int, ...]) -> None:
    share: Settings = share_of_worker(site_settings(1, "http://127.0.0.1:1/rs"), workers)
    server = share.server
    assert limits == (
        server.max_connections,
        server.max_streams,
        server.max_streams_per_client,
        share.pacs.max_connections,
    )
