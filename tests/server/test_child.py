"""The channel between the supervisor and a child."""

import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.server.child import Channel

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(messages=st.lists(st.dictionaries(st.text(), JSON), max_size=5))
def test_messages_arrive_as_they_were_sent(messages: list[dict[str, Any]]) -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    for message in messages:
        sender.send(**message)
    assert receiver.receive() == (messages, False)
    sender.close()
    assert receiver.receive() == ([], True)
    receiver.close()


@given(cut=st.integers(0, 36))
def test_a_message_that_comes_in_pieces(cut: int) -> None:
    ours, theirs = socket.socketpair()
    receiver = Channel(theirs)
    lines = b"".join(json.dumps({name: True}).encode() + b"\n" for name in ("ready", "heartbeat"))
    with ours:
        ours.sendall(lines[:cut])
        first, _ = receiver.receive()
        ours.sendall(lines[cut:])
        second, _ = receiver.receive()
    assert [*first, *second] == [{"ready": True}, {"heartbeat": True}]
    receiver.close()


def test_nobody_waits_for_ever_for_one_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.server.child._SEND_SECONDS", 1)
    ours, theirs = socket.socketpair()
    sender = Channel(ours)
    for _ in range(10_000):
        sender.send(text="x" * 1_000)
    theirs.close()
    sender.close()
