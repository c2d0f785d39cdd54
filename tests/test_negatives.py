"""How long it is remembered that something is absent or refused:
a line for each in docs/limits.md.
"""

import re
from pathlib import Path

from sidecar.common.invalidation import FRESH_SECONDS
from sidecar.settings.limits import LimitSettings
from tests.tables.invalidation import ELSEWHERE, FORGOTTEN, NOT_FORGOTTEN
from tests.tables.negatives import IN, NO_NEGATIVES, SECONDS

TEXT = (Path(__file__).parent.parent / "docs/limits.md").read_text()


def test_each_line_says_how_long_it_is() -> None:
    section = TEXT.partition("### What is remembered to be absent or refused")[2].partition(
        "\n## "
    )[0]
    lines = re.findall(r"^\| ([^|]+) \| (\d+)(?:, `([a-z_.]+)`)? \|(.*)\|$", section, re.MULTILINE)
    written = {what: float(seconds) for what, seconds, _, _ in lines}
    assert len(written) == len(SECONDS)
    for begins, seconds in SECONDS.items():
        assert [said for what, said in written.items() if what.startswith(begins)] == [seconds], (
            begins
        )
    for what, seconds, key, sooner in lines:
        if key:
            value = getattr(LimitSettings(), key.removeprefix("limits."))
            assert float(value) == float(seconds), what
        assert ("no-cache" not in sooner) or f"once in {FRESH_SECONDS:g} s" in sooner, what


def test_a_cache_that_keeps_a_refusal_has_a_line() -> None:
    """Whoever adds a cache says here which line it is, or that it keeps none."""
    kept = ELSEWHERE.union(NOT_FORGOTTEN, *FORGOTTEN.values())
    assert IN.keys() | NO_NEGATIVES == {name for name in kept if not name.endswith("_flight")}
    assert not IN.keys() & NO_NEGATIVES
    assert set(IN.values()) <= SECONDS.keys()
