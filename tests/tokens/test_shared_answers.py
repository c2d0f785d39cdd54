"""Sealed answers: what was sealed comes back to the bit, and nothing else ever opens."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import INVALID_TOKEN
from sidecar.access.scopes import Grant, ScopeContext
from sidecar.tokens import shared_answers
from sidecar.tokens.shared_answers import AnswerSeal, SharedAnswer

KEY, SCOPE = b"k" * 64, b"a configuration"
SECONDS = st.floats(0, 1e11, allow_nan=False)
NAMES = st.none() | st.text(max_size=20)
GRANTS = st.builds(Grant, st.sampled_from(ScopeContext), st.booleans(), st.booleans(), NAMES)
TOKENS = st.builds(
    Token,
    st.lists(GRANTS, max_size=4).map(tuple),
    SECONDS,
    patient=NAMES,
    client_id=NAMES,
    subject=NAMES,
    issuer=NAMES,
)
REASONS = st.none() | st.sampled_from(sorted(INVALID_TOKEN))
ANSWERS = st.builds(SharedAnswer, TOKENS, st.none(), SECONDS) | st.builds(
    SharedAnswer, st.none(), REASONS, SECONDS
)


def _sealed(answer: SharedAnswer, token: str = "a token") -> tuple[AnswerSeal, str, bytes]:
    seal = AnswerSeal(KEY, SCOPE)
    name = seal.name(token)
    return seal, name, seal.seal(name, answer)


@given(answer=ANSWERS, token=st.text())
def test_what_was_sealed_comes_back(answer: SharedAnswer, token: str) -> None:
    """By another process with the same key and configuration, too."""
    _, name, sealed = _sealed(answer, token)
    other = AnswerSeal(KEY, SCOPE)
    assert other.name(token) == name
    assert other.unseal(name, sealed) == answer


def test_all_facts_are_sealed() -> None:
    """A fact that is added to a token, a grant or an answer has to be written, too."""
    token = Token(
        (Grant(ScopeContext.USER, read=True, search=False, constraint="modality=CT"),),
        1.5,
        patient="p",
        client_id="c",
        subject="s",
        issuer="i",
    )
    facts: list[Token | Grant] = [token, *token.grants]
    for fact in facts:
        assert not [
            field.name
            for field in dataclasses.fields(fact)
            if getattr(fact, field.name) == field.default
        ]
    seal, name, sealed = _sealed(SharedAnswer(token, None, 2.5))
    assert seal.unseal(name, sealed) == SharedAnswer(token, None, 2.5)


@given(answer=ANSWERS, data=st.data())
def test_a_changed_entry_does_not_open(answer: SharedAnswer, data: st.DataObject) -> None:
    seal, name, sealed = _sealed(answer)
    at = data.draw(st.integers(0, len(sealed) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(sealed)
    changed[at] ^= 1 << bit
    assert seal.unseal(name, bytes(changed)) is None


@given(answer=ANSWERS, data=st.data())
def test_a_part_of_an_entry_or_more_than_it_does_not_open(
    answer: SharedAnswer, data: st.DataObject
) -> None:
    seal, name, sealed = _sealed(answer)
    assert seal.unseal(name, sealed[: data.draw(st.integers(0, len(sealed) - 1))]) is None
    assert seal.unseal(name, sealed + data.draw(st.binary(min_size=1, max_size=9))) is None


@given(garbage=st.binary(max_size=200))
def test_garbage_does_not_open(garbage: bytes) -> None:
    seal = AnswerSeal(KEY, SCOPE)
    assert seal.unseal(seal.name("a token"), garbage) is None


@given(answer=ANSWERS, one=st.text(), another=st.text())
def test_an_entry_of_another_token_does_not_open(
    answer: SharedAnswer, one: str, another: str
) -> None:
    assume(one != another)
    seal, name, sealed = _sealed(answer, one)
    assert seal.name(another) != name
    assert seal.unseal(seal.name(another), sealed) is None


@pytest.mark.parametrize(
    "other",
    [AnswerSeal(b"K" * 64, SCOPE), AnswerSeal(KEY, b"another configuration")],
    ids=["key", "scope"],
)
@given(answer=ANSWERS)
def test_another_key_or_configuration_shares_nothing(
    other: AnswerSeal, answer: SharedAnswer
) -> None:
    _, name, sealed = _sealed(answer)
    assert other.name("a token") != name
    assert other.unseal(name, sealed) is None


def test_an_entry_of_another_format_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, sealed = _sealed(SharedAnswer(None, None, 1))
    monkeypatch.setattr(shared_answers, "_FORMAT", b"smart-imaging-sidecar token answer 0")
    other = AnswerSeal(KEY, SCOPE)
    assert other.name("a token") != name
    assert other.unseal(name, sealed) is None


def test_name_and_associated_data_alone_keep_an_entry_in_its_place() -> None:
    """Each of both: the key that is made of the name, and what the seal is bound to."""
    seal, name, sealed = _sealed(SharedAnswer(None, None, 1))
    other: Any = AnswerSeal(KEY, SCOPE)
    other._bound_to = seal._bound_to + b"!"
    assert other.unseal(name, sealed) is None
    other = AnswerSeal(KEY, SCOPE)
    other._keys = b"!" * 32
    assert other.unseal(name, sealed) is None


@given(token=TOKENS)
def test_an_entry_shows_nothing_of_what_is_in_it(token: Token) -> None:
    """Neither token nor patient, and the same answer is never sealed alike twice."""
    answer = SharedAnswer(token, None, 1)
    seal, name, sealed = _sealed(answer, "a-recognizable-token")
    assert seal.seal(name, answer) != sealed
    shown = (name.encode() + sealed).lower()
    assert b"recognizable" not in shown
    for value in (token.patient, token.subject, token.client_id):
        if value is not None and len(value) > 4:
            assert json.dumps(value).encode()[1:-1].lower() not in shown
