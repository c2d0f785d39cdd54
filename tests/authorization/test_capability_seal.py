"""Capability URLs cannot be made, changed, or used for anything else (SIA-50..52)."""

import base64
import string
from dataclasses import replace
from itertools import count, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.permits import Capability, Operation, token_hash
from sidecar.authorization.capability_urls import KEY_BYTES, MAXIMUM_LENGTH, Sealer, SealingKey
from tests.tables.capability_denials import (
    BEARER,
    CAPABILITY,
    EVERYTHING,
    NOW,
)

OURS = "https://imaging.example.org"
ONE, TWO = SealingKey("one", b"1" * KEY_BYTES), SealingKey("two", b"2" * KEY_BYTES)
SEALER = Sealer([ONE], OURS)
SEALED = SEALER.seal(CAPABILITY)
CHARACTERS = string.ascii_letters + string.digits + "-_.~=+/ \x00é"

TEXTS = st.text(max_size=20)
CAPABILITIES = st.builds(
    Capability,
    TEXTS,
    TEXTS,
    st.frozensets(st.sampled_from(Operation)),
    st.floats(0, 1e12),
    st.binary(min_size=32, max_size=32),
)


@given(CAPABILITIES)
def test_what_is_sealed_is_what_comes_out(capability: Capability) -> None:
    assert SEALER.unseal(SEALER.seal(capability)) == capability


def test_it_is_one_segment_of_a_url_and_tells_nothing() -> None:
    assert SEALED.startswith("one.")
    assert SEALED.replace("-", "").replace("_", "").replace(".", "").isalnum()
    longest = Capability("p" * 64, "1" * 128, EVERYTHING, NOW + 60.123456, token_hash(BEARER))
    assert len(SEALER.seal(longest)) < MAXIMUM_LENGTH / 2
    opened = base64.urlsafe_b64decode(SEALED.partition(".")[2] + "==")
    for secret in (b"p1", b"1.2.3", BEARER.encode()):
        assert secret not in opened
    assert SEALER.seal(CAPABILITY) != SEALED  # Nobody can tell that two are alike.


@pytest.mark.parametrize("patient", ["p1", "p12", "p123"])
def test_no_character_can_be_changed(patient: str) -> None:
    """Of any length: the last character of some has bits that base64 does not read."""
    capability = replace(CAPABILITY, patient=patient)
    sealed = SEALER.seal(capability)
    for position, character in product(range(len(sealed)), CHARACTERS):
        changed = sealed[:position] + character + sealed[position + 1 :]
        assert SEALER.unseal(changed) == (capability if changed == sealed else None)


@given(st.integers(0, len(SEALED) - 1))
def test_nothing_can_be_cut_off(length: int) -> None:
    assert SEALER.unseal(SEALED[:length]) is None
    if length:
        assert SEALER.unseal(SEALED[length:]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "one",
        "one.",
        "one..",
        ".abc",
        "one.AAAA",
        "one." + "A" * 40,
        "one." + "A" * MAXIMUM_LENGTH,
        SEALED + "=",
        SEALED + "==",
        SEALED + "A",
        SEALED + ".",
        SEALED + "\n",
        " " + SEALED,
        "ONE" + SEALED[3:],
        "two" + SEALED[3:],
        SEALED[4:],
        "." + SEALED[4:],
        SEALED.replace(".", ".."),
        SEALED.replace("-", "+").replace("_", "/") + "=",
    ],
)
def test_what_is_none_of_ours(text: str) -> None:
    assert SEALER.unseal(text) is None


@given(st.text(max_size=100))
def test_any_text_is_none_of_ours(text: str) -> None:
    assert SEALER.unseal(text) is None
    assert SEALER.unseal("one." + text) is None


def test_base64_has_one_spelling() -> None:
    """The last character may have bits that a decoder drops: three more spellings, or fifteen, of
    the same bytes.
    """
    head, last = SEALED[:-1], SEALED[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [one for one in alphabet if SEALER.unseal(head + one) is not None] == [last]


def test_an_address_may_end_in_any_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three lengths, one fills its last letter."""
    nonces = count()
    monkeypatch.setattr("os.urandom", lambda length: next(nonces).to_bytes(length))
    last: set[str] = set()
    for patient in ("p", "pp", "ppp"):
        capability = Capability(patient, "1.2", EVERYTHING, NOW, token_hash(BEARER))
        for _ in range(400):
            sealed = SEALER.seal(capability)
            last.add(sealed[-1])
            assert SEALER.unseal(sealed) == capability
    assert len(last) == 64


def test_a_longer_address_than_any_of_ours_is_not_opened() -> None:
    """Its length is bounded before anything is worked out."""
    lengths: set[int] = set()
    for characters in range(MAXIMUM_LENGTH):
        capability = Capability("p" * characters, "1.2", EVERYTHING, NOW, token_hash(BEARER))
        sealed = SEALER.seal(capability)
        if len(sealed) < MAXIMUM_LENGTH - 2:
            continue
        assert SEALER.unseal(sealed) == (capability if len(sealed) <= MAXIMUM_LENGTH else None)
        lengths.add(len(sealed))
        if len(sealed) > MAXIMUM_LENGTH:
            break
    assert MAXIMUM_LENGTH in lengths
    assert max(lengths) > MAXIMUM_LENGTH


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
        Sealer([SealingKey("one", b"x" * KEY_BYTES)], OURS),
        Sealer([ONE], "https://test.example.org"),
        Sealer([SealingKey("two", ONE.secret)], OURS),
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
    with pytest.raises(ValueError, match=r"^a key is an id of letters and digits, and 32 bytes$"):
        SealingKey(key_id, secret)


def test_keys_must_be_told_apart() -> None:
    for keys in ([], [ONE, SealingKey("one", TWO.secret)]):
        with pytest.raises(ValueError, match=r"^keys need different ids, and there must be one$"):
            Sealer(keys, OURS)
