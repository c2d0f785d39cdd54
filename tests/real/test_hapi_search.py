"""Our searches find what HAPI FHIR finds, which has the same resources (SIA-20, 21, 24)."""

from collections.abc import Iterator

import pytest

from tests.real.hapi.oracle import Both, both_searched
from tests.real.hapi.server import Hapi
from tests.tables.hapi_queries import DIFFERENCES, QUERIES

pytestmark = pytest.mark.hapi


@pytest.fixture(scope="module")
def both(hapi: Hapi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """We and HAPI, with the same studies."""
    with both_searched(tmp_path_factory.mktemp("both"), hapi) as made:
        yield made


@pytest.mark.parametrize("query", QUERIES)
def test_we_find_what_hapi_finds(both: Both, query: str) -> None:
    """What differs is in the table, with its reason."""
    expected, _ = DIFFERENCES.get(query, (None, ""))
    assert both.difference(query) == expected


def test_each_difference_is_of_a_query() -> None:
    assert DIFFERENCES.keys() <= set(QUERIES)
    assert len(QUERIES) == len(set(QUERIES)) > 200
