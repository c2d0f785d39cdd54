"""A page of a query, bounded before it is read; more of it in ``test_unusable_results.py``."""

import orjson
import pytest

from sidecar.common.fetch import FetchFailed
from sidecar.pacs.query_rows import Budget, RowReader

ROW = {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}


async def read(budget: Budget, rows: int, *, whole: bool = True) -> RowReader:
    page = RowReader("studies", budget)
    written = orjson.dumps([ROW] * rows)
    await page.feed(written if whole else written[:-20])
    if whole:
        await page.end()
    return page


@pytest.mark.parametrize("rows", [3, 3_000])
async def test_what_broke_off_is_not_counted(rows: int) -> None:
    """It is asked for again: a list within the limit must not become one over it."""
    budget = Budget(rows)
    await read(budget, rows, whole=False)
    assert (await read(budget, rows)).left.rows == 0


@pytest.mark.parametrize("rows", [3, 3_000])
async def test_the_pages_of_a_search_are_counted_together(rows: int) -> None:
    first = await read(Budget(2 * rows - 1), rows)
    with pytest.raises(FetchFailed, match="query_too_many_results"):
        await read(first.left, rows)
