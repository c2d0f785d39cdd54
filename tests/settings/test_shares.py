"""Each worker has its share of the limits of the host."""

import pytest

from sidecar.settings.document import Settings
from sidecar.settings.shares import SHARED, share_of_worker
from tests.fakes.site import site_settings


@pytest.mark.parametrize(
    ("workers", "limits"),
    [(1, (2_000, 64, 100)), (2, (1_000, 32, 50)), (3, (666, 21, 33)), (64, (31, 1, 1))],
)
def test_shares(workers: int, limits: tuple[int, ...]) -> None:
    settings: Settings = site_settings(1, "http://127.0.0.1:1/rs")
    share = share_of_worker(settings, workers)
    assert limits == tuple(getattr(share.limits, key) for key in SHARED)
    assert share.limits.search_cache_seconds == settings.limits.search_cache_seconds
