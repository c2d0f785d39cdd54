"""Capability URLs: what was sealed cannot be made, changed, or used for anything else (SIA-50..52)."""

import base64
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.capability import (
    KEY_BYTES,
    MAXIMUM_LENGTH,
    Capability,
    Key,
    Operation,
    Sealer,
    decide_capability,
    token_hash,
)
from sidecar.access.reasons import STATUS, Reason
from sidecar.access.scopes import Context, Grant
from sidecar.access.token import Token

NOW = 1_700_000_000.0
OURS = "https://imaging.example.org"
ONE, TWO = Key("one", b"1" * KEY_BYTES), Key("two", b"2" * KEY_BYTES)
SEALER = Sealer([ONE], OURS)
EVERYTHING = frozenset(Operation)
TOKEN = Token((Grant(Context.PATIENT, read=True, search=True),), NOW + 60, "p1", "app", "u1", "https://ehr.example.org")
BEARER = "a-recognizable-token"
CAPABILITY = Capability("p1", "1.2.3", EVERYTHING, NOW + 60, TOKEN, token_hash(BEARER), "abc", bound=False)
SEALED = SEALER.seal(CAPABILITY)

GRANTS = st.builds(Grant, st.sampled_from(Context), st.booleans(), st.booleans(), st.none() | st.text(max_size=9))
TEXTS = st.text(max_size=20)
TOKENS = st.builds(
    Token, st.lists(GRANTS, max_size=3).map(tuple), st.floats(0, 1e12), st.none() | TEXTS, st.none() | TEXTS,
    st.none() | TEXTS, st.none() | TEXTS,
)  # fmt: skip
CAPABILITIES = st.builds(
    Capability, TEXTS, TEXTS, st.frozensets(st.sampled_from(Operation)), st.floats(0, 1e12), TOKENS,
    st.binary(min_size=32, max_size=32), TEXTS, st.booleans(), st.none() | TEXTS,
)  # fmt: skip


@given(CAPABILITIES)
def test_what_is_sealed_is_what_comes_out(capability: Capability) -> None:
    assert SEALER.unseal(SEALER.seal(capability)) == capability


def test_it_is_one_segment_of_a_url_and_tells_nothing() -> None:
    assert SEALED.startswith("one.")
    assert SEALED.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert len(SEALED) < 700
    opened = base64.urlsafe_b64decode(SEALED.partition(".")[2] + "==")
    for secret in (b"p1", b"1.2.3", b"app", BEARER.encode()):
        assert secret not in opened
    assert SEALER.seal(CAPABILITY) != SEALED  # Nobody can tell that two are alike.


@given(st.integers(0, len(SEALED) - 1), st.sampled_from("ABab01-_.~=+/ \x00é"))
def test_no_character_can_be_changed(position: int, character: str) -> None:
    changed = SEALED[:position] + character + SEALED[position + 1 :]
    assert SEALER.unseal(changed) == (CAPABILITY if changed == SEALED else None)


@given(st.integers(0, len(SEALED) - 1))
def test_nothing_can_be_cut_off(length: int) -> None:
    assert SEALER.unseal(SEALED[:length]) is None
    if length:
        assert SEALER.unseal(SEALED[length:]) is None


@pytest.mark.parametrize(
    "text",
    ["", ".", "one", "one.", "one..", ".abc", "one.AAAA", "one." + "A" * 40, "one." + "A" * MAXIMUM_LENGTH,
     SEALED + "=", SEALED + "==", SEALED + "A", SEALED + ".", SEALED + "\n", " " + SEALED, "ONE" + SEALED[3:],
     "two" + SEALED[3:], SEALED[4:], "." + SEALED[4:], SEALED.replace(".", ".."),
     SEALED.replace("-", "+").replace("_", "/") + "="],
)  # fmt: skip
def test_what_is_none_of_ours(text: str) -> None:
    assert SEALER.unseal(text) is None


@given(st.text(max_size=100))
def test_any_text_is_none_of_ours(text: str) -> None:
    assert SEALER.unseal(text) is None
    assert SEALER.unseal("one." + text) is None


def test_base64_has_one_spelling() -> None:
    """The last character may have bits that a decoder drops: three more spellings, or fifteen, of the same bytes."""
    head, last = SEALED[:-1], SEALED[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [one for one in alphabet if SEALER.unseal(head + one) is not None] == [last]


def test_keys_change() -> None:
    """The new key seals, the old one still opens; when it is gone, what it sealed is nothing."""
    both = Sealer([TWO, ONE], OURS)
    assert both.seal(CAPABILITY).startswith("two.")
    assert both.unseal(SEALED) == CAPABILITY
    assert both.unseal(both.seal(CAPABILITY)) == CAPABILITY
    assert Sealer([TWO], OURS).unseal(SEALED) is None
    assert SEALER.unseal(both.seal(CAPABILITY)) is None


@pytest.mark.parametrize(
    "other",
    [
        Sealer([Key("one", b"x" * KEY_BYTES)], OURS),
        Sealer([ONE], "https://test.example.org"),
        Sealer([Key("two", ONE.secret)], OURS),
    ],
)
def test_another_key_or_another_site(other: Sealer) -> None:
    assert other.unseal(SEALED) is None
    assert SEALER.unseal(other.seal(CAPABILITY)) is None
    swapped = "one." + other.seal(CAPABILITY).partition(".")[2]
    assert SEALER.unseal(swapped) is None


@pytest.mark.parametrize(
    ("key_id", "secret"), [("", b"1" * 32), ("a.b", b"1" * 32), ("a" * 17, b""), ("one", b"1" * 31)]
)
def test_keys_that_are_none(key_id: str, secret: bytes) -> None:
    with pytest.raises(ValueError, match="a key is"):
        Key(key_id, secret)


def test_keys_must_be_told_apart() -> None:
    for keys in ([], [ONE, Key("one", TWO.secret)]):
        with pytest.raises(ValueError, match="different ids"):
            Sealer(keys, OURS)


RETRIEVE, QUERY = Operation.RETRIEVE, Operation.QUERY
SHOWN, OTHER = token_hash(BEARER), token_hash("another")
BOUND = replace(CAPABILITY, bound=True)
CAPABILITY_DENIALS: list[tuple[Capability, str | None, Operation, bytes | None, bool, float, Reason]] = [
    (CAPABILITY, "1.2.3", RETRIEVE, None, True, NOW + 60, Reason.EXPIRED_CAPABILITY),
    (CAPABILITY, "1.2.3", RETRIEVE, SHOWN, True, NOW + 31_536_000, Reason.EXPIRED_CAPABILITY),
    (CAPABILITY, "1.2.3", RETRIEVE, None, True, math.nan, Reason.EXPIRED_CAPABILITY),
    (replace(CAPABILITY, expires_at=math.nan), "1.2.3", RETRIEVE, None, True, NOW, Reason.EXPIRED_CAPABILITY),
    (BOUND, "1.2.3", RETRIEVE, None, True, NOW, Reason.MISSING_TOKEN),
    (BOUND, "1.2.3", RETRIEVE, OTHER, True, NOW, Reason.OTHER_TOKEN),
    (BOUND, "1.2.3", RETRIEVE, b"", True, NOW, Reason.OTHER_TOKEN),
    (CAPABILITY, "1.2.3", RETRIEVE, None, False, NOW, Reason.MISSING_TOKEN),  # Issued before the site wanted tokens.
    (CAPABILITY, "1.2.4", RETRIEVE, None, True, NOW, Reason.ABSENT),
    (BOUND, "1.2.4", RETRIEVE, SHOWN, True, NOW, Reason.ABSENT),
    (CAPABILITY, "1.2.3.1", QUERY, None, True, NOW, Reason.ABSENT),
    (replace(CAPABILITY, operations=frozenset({RETRIEVE})), "1.2.3", QUERY, None, True, NOW, Reason.NOT_IN_CAPABILITY),
    (replace(CAPABILITY, operations=frozenset({QUERY})), "1.2.3", RETRIEVE, None, True, NOW, Reason.NOT_IN_CAPABILITY),
    (replace(CAPABILITY, operations=frozenset()), None, QUERY, None, True, NOW, Reason.NOT_IN_CAPABILITY),
]


@pytest.mark.parametrize(("capability", "study", "operation", "shown", "bearer", "now", "reason"), CAPABILITY_DENIALS)
def test_what_it_does_not_cover(
    capability: Capability,
    study: str | None,
    operation: Operation,
    shown: bytes | None,
    bearer: bool,
    now: float,
    reason: Reason,
) -> None:
    """Another study, another operation, a year later, another token."""
    found = decide_capability(capability, study, operation, shown=shown, bearer=bearer, now=now)
    assert found is reason
    assert STATUS[found] in (401, 403, 404)


@given(st.sampled_from([CAPABILITY, BOUND]), st.sampled_from([None, "1.2.3", "1.2.4"]), st.sampled_from(Operation),
       st.sampled_from([None, SHOWN, OTHER]), st.booleans(), st.floats(NOW - 100, NOW + 200))  # fmt: skip
def test_it_covers_this_alone(
    capability: Capability, study: str | None, operation: Operation, shown: bytes | None, bearer: bool, now: float
) -> None:
    found = decide_capability(capability, study, operation, shown=shown, bearer=bearer, now=now)
    covered = now < NOW + 60 and study != "1.2.4" and (shown == SHOWN or (bearer and not capability.bound))
    assert (found is None) == covered
