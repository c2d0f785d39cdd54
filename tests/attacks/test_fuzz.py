"""A thousand targets of ``make fuzz``, and that its oracle can fail."""

import pytest

from tests.attacks.fuzz import check, run
from tests.tables.fuzz import FOREIGN, FOREIGN_SERIES, OWN, SECRET


async def test_nothing_foreign_is_asked_for_or_answered() -> None:
    tried, reached = await run(0, seed=20261124, least=1_000)
    # A fuzzer whose every target is refused at the door proves nothing.
    assert reached > tried / 20


@pytest.mark.parametrize(
    "sent",
    [
        f"/rs/studies/{FOREIGN}",
        f"/rs/studies/{OWN}/series/{FOREIGN_SERIES}",
        f"/rs/studies/{OWN}/../{FOREIGN}",
        "/rs/x",
        "/rs/studies?PatientID=p2",
        "/rs/studies?limit=1",
        "/rs/studies?PatientID=p1&PatientID=p2",
        "/rs/instances?00100020=p1",
        f"/rs/studies/{OWN}%2f",
        "/rs/studies?PatientID=p1&00100020=p2",
    ],
)
def test_the_oracle_sees_it(sent: str) -> None:
    with pytest.raises(AssertionError):
        check("/", [sent], b"")


def test_the_oracle_sees_a_foreign_name() -> None:
    with pytest.raises(AssertionError):
        check("/", [], b"..." + SECRET.encode())
    check(
        "/",
        [
            f"/rs/studies/{OWN}",
            "/rs/studies?PatientID=p1",
            f"/rs/studies?StudyInstanceUID={FOREIGN}",
        ],
        b"ok",
    )
