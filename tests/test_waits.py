"""What bounds the wait for every lock, every shared call and every connection. A new one needs its
line here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.tables.waits import CALLS, CONNECTIONS, LOCKS

PACKAGE = Path(__file__).parent.parent / "sidecar"
DEMO = PACKAGE / "demo"  # An EHR and an archive of one's own, to look at the sidecar.

LOCKING = {
    "Lock",
    "RLock",
    "Semaphore",
    "BoundedSemaphore",
    "Condition",
    "Barrier",
    "FairQueue",
    "flock",
    "lockf",
    "ThreadPoolExecutor",
    "to_thread",
    "run_in_executor",
}
SHARED = {"LoadingCache", "SingleFlight", "DeferredRequests"}
CONNECTING = {
    "open_connection",
    "create_connection",
    "connect",
    "Session",
    "urlopen",
    "ClientSession",
}
SENDING = {"request", "get", "post", "put", "delete", "patch", "ws_connect"}
"""Of a client session."""


def found(names: set[str]) -> Iterator[str]:
    """Where one of these is called, or passed on to be called: the file and the name."""
    for file in PACKAGE.rglob("*.py"):
        if file.is_relative_to(DEMO):
            continue
        source = file.read_text()
        if not any(name in source for name in names):
            continue
        for node in ast.walk(ast.parse(source)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Subscript):
                called = called.value
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            sends = (
                name in SENDING and isinstance(called, ast.Attribute) and _is_session(called.value)
            )
            if name in names or (sends and names is CONNECTING):
                yield f"{file.relative_to(PACKAGE)} {name}"


def _is_session(receiver: ast.expr) -> bool:
    return ast.unparse(receiver).rpartition(".")[2].strip("_") in ("session", "retrievals")


def test_every_lock_has_its_bound() -> None:
    assert sorted(set(found(LOCKING))) == sorted(LOCKS)


def test_every_shared_call_has_its_bound() -> None:
    assert sorted(set(found(SHARED))) == sorted(CALLS)


def test_every_connection_has_its_bound() -> None:
    assert sorted(set(found(CONNECTING))) == sorted(CONNECTIONS)


def test_nothing_is_waited_for_in_a_lock() -> None:
    """The one lock of the event loop: a look at the network, so that others have their turn."""
    module = ast.parse((PACKAGE / "common" / "slices.py").read_text())
    held = [node for node in ast.walk(module) if isinstance(node, ast.AsyncWith)]
    assert [ast.unparse(one.context_expr) for node in held for one in node.items] == ["slices.turn"]
    awaited = [
        ast.unparse(one) for node in held for one in ast.walk(node) if isinstance(one, ast.Await)
    ]
    assert awaited == ["await asyncio.sleep(0)"]
