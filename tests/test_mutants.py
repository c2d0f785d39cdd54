"""The table of mutants that survive has none that is gone."""

import pytest

from tests import mutants

TABLE = {"access.decision.f": {"1 -> 2": "Why."}, "tokens.cache.TokenCache.g": {"a -> b": "Why."}}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "load_table", lambda: TABLE)


@pytest.mark.parametrize(
    ("rooms", "missing"),
    [
        (["access"], set()),
        (["acc"], set()),
        (["tokens"], {("tokens.cache.TokenCache.g", "a -> b")}),
        (["access", "tokens/cache"], {("tokens.cache.TokenCache.g", "a -> b")}),
    ],
)
def test_what_is_explained_is_there(rooms: list[str], missing: set[tuple[str, str]]) -> None:
    """Also where its function, or its whole module, has another name now."""
    existing = [("access.decision.f", "1 -> 2"), ("tokens.cache.TokenCache.h", "a -> b")]
    assert mutants.gone(existing, rooms) == missing


def test_another_change_of_the_same_function_does_not_count() -> None:
    assert mutants.gone([("access.decision.f", "1 -> 3")], ["access"]) == {
        ("access.decision.f", "1 -> 2")
    }
