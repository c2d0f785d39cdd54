"""The supervisor: workers on shared sockets, reloads, restarts, and the end."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.server.toy import Toy
from tests.waiting import wait_until


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    made = Toy(tmp_path)
    made.write()
    with made:
        made.wait_for("serving")
        yield made


def test_all_workers_answer_and_end_with_it(toy: Toy) -> None:
    workers = toy.wait_for_workers(2)
    assert {index for index, _ in workers} == {0, 1}
    assert {pid for _, pid in workers} == {child.pid for child in toy.children()}
    line = toy.wait_for("serving")
    assert (line["port"], line["admin_port"], line["workers"]) == (toy.port, toy.port + 1, 2)
    toy.signal(signal.SIGTERM)
    assert toy.end() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", toy.port), timeout=60)


def test_a_worker_that_is_killed_is_started_again(toy: Toy) -> None:
    before = toy.wait_for_workers(2)
    index, pid = sorted(before)[0]
    os.kill(pid, signal.SIGKILL)
    line = toy.wait_for("a worker has ended: it is started again")
    assert (line["worker"], line["code"], line["seconds"]) == (index, -9, 0)
    after = toy.wait_for_workers(2)
    assert {index for index, _ in after} == {0, 1}
    assert len(after & before) == 1


def test_a_reload_replaces_all_workers(toy: Toy, tmp_path: Path) -> None:
    before = toy.wait_for_workers(2)
    toy.write(workers=3)
    toy.signal(signal.SIGHUP)
    assert toy.wait_for("reloaded")["workers"] == 3
    after = toy.wait_for_workers(3)
    assert not after & before
    wait_until("it is counted", (tmp_path / "reload-succeeded").exists)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ("{", "it is no JSON"),
        ({"behaviour": "problem"}, "worker 0 has a problem"),
        ({"behaviour": "crash"}, "a worker ended with 3 before it was ready"),
    ],
    ids=str,
)
def test_what_cannot_be_used_leaves_the_old_workers(
    toy: Toy, tmp_path: Path, changes: str | dict[str, str], problem: str
) -> None:
    before = toy.wait_for_workers(2)
    if isinstance(changes, str):
        toy.write(changes)
    else:
        toy.write(**changes, workers=1)
    toy.signal(signal.SIGHUP)
    line = toy.wait_for("the new configuration cannot be used: the old one goes on")
    assert line["problems"] == [problem]
    assert toy.wait_for_workers(2) == before
    wait_until("it is counted", (tmp_path / "reload-failed").exists)
    toy.write()
    toy.signal(signal.SIGHUP)
    toy.wait_for("reloaded")
    assert not toy.wait_for_workers(2) & before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is no JSON"),
        (None, "worker 0 has a problem"),
    ],
)
def test_a_start_that_fails(tmp_path: Path, text: str | None, problem: str) -> None:
    toy = Toy(tmp_path)
    toy.write(text, behaviour="problem", workers=1)
    with toy:
        assert toy.end() == 2
    assert (tmp_path / "problems").read_text() == problem


@pytest.mark.parametrize("name", ["port", "admin_port"])
def test_a_port_that_is_taken(tmp_path: Path, name: str) -> None:
    toy = Toy(tmp_path)
    toy.write()
    port = toy.port + (name == "admin_port")
    with socket.create_server(("127.0.0.1", port)), toy:
        assert toy.end() == 2
    problem = (tmp_path / "problems").read_text()
    assert problem == f"server.{name}: 127.0.0.1:{port}: address already in use"


def test_a_port_cannot_be_changed_by_a_reload(toy: Toy) -> None:
    """It is compared with what listens, not with the file of the reload before."""
    for count, port in enumerate((toy.port + 7, toy.port), 1):
        toy.write(port=port)
        toy.signal(signal.SIGHUP)
        toy.wait_for("reloaded", count)
    (line,) = [line for line in toy.log() if line["message"] == "a change that needs a restart"]
    assert (line["setting"], line["configured"], line["listening"]) == (
        "server.port",
        toy.port + 7,
        toy.port,
    )


def test_workers_end_with_a_supervisor_that_is_killed(toy: Toy) -> None:
    toy.wait_for_workers(2)
    toy.signal(signal.SIGKILL)
    assert toy.end() == -9


def test_reloads_in_a_row_end_with_the_last_file(toy: Toy) -> None:
    for workers in (1, 2, 3, 4):
        toy.write(workers=workers)
        toy.signal(signal.SIGHUP)
    toy.wait_for_workers(4)
    wait_until("the others have ended", toy.children, lambda found: len(found) == 4)


def test_changed_files_are_seen_where_that_is_wanted(toy: Toy) -> None:
    toy.write(reload_seconds=0.01)
    toy.signal(signal.SIGHUP)
    toy.wait_for("reloaded")
    toy.write(reload_seconds=0.01, workers=3)
    toy.wait_for("reloaded", 2)
    toy.wait_for_workers(3)


def test_a_reload_that_finds_no_worker_to_replace_ends(toy: Toy) -> None:
    """All of them have ended, and wait for their next start."""
    toy.write(behaviour="fragile", workers=1)
    toy.signal(signal.SIGHUP)
    toy.wait_for("reloaded")
    toy.wait_for("a worker has ended: it is started again", count=3)
    toy.write(workers=1)
    toy.signal(signal.SIGHUP)
    toy.wait_for("reloaded", count=2)


def test_a_change_while_workers_start_is_not_lost(toy: Toy, tmp_path: Path) -> None:
    """Looks are rare, and this reload has read the file before the change."""
    toy.write(reload_seconds=2)
    toy.signal(signal.SIGHUP)
    toy.wait_for("reloaded")
    toy.write(reload_seconds=2, behaviour="late", workers=1)
    toy.signal(signal.SIGHUP)
    wait_until("a worker starts", (tmp_path / "waiting").exists)
    toy.write(reload_seconds=2, workers=3)
    (tmp_path / "go").touch()
    toy.wait_for_workers(3)


def test_a_reload_while_the_first_workers_start_is_not_lost(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.write(behaviour="late", workers=1)
    with toy:
        wait_until("a worker starts", (tmp_path / "waiting").exists)
        toy.write(workers=3)
        toy.signal(signal.SIGHUP)
        (tmp_path / "go").touch()
        toy.wait_for("serving")
        toy.wait_for("reloaded")
        toy.wait_for_workers(3)


def test_a_replaced_worker_may_go_on(tmp_path: Path) -> None:
    """Only so many of them: beyond, the oldest one ends."""
    toy = Toy(tmp_path, {"RETIRING_WORKERS": 2})
    toy.write(behaviour="hold", workers=1)
    with toy:
        toy.wait_for("serving")
        oldest = toy.wait_for_workers(1)
        for count in (1, 2, 3):
            toy.signal(signal.SIGHUP)
            toy.wait_for("reloaded", count)
        children = wait_until("three are left", toy.children, lambda found: len(found) == 3)
        assert not {pid for _, pid in oldest} & {child.pid for child in children}


def test_no_worker_of_the_last_generation_is_too_many(tmp_path: Path) -> None:
    """A generation may have more workers than may go on of earlier ones."""
    toy = Toy(tmp_path, {"RETIRING_WORKERS": 1})
    toy.write(behaviour="hold", workers=3)
    with toy:
        toy.wait_for("serving")
        replaced = toy.wait_for_workers(3)
        toy.write(behaviour="hold", workers=1)
        toy.signal(signal.SIGHUP)
        toy.wait_for("reloaded")
        assert {pid for _, pid in replaced} < {child.pid for child in toy.children()}
        toy.signal(signal.SIGHUP)
        toy.wait_for("reloaded", count=2)
        wait_until("two of them end", toy.children, lambda found: len(found) == 2)


def test_a_silent_worker_is_killed(tmp_path: Path) -> None:
    toy = Toy(tmp_path, {"SILENT_SECONDS": 3})
    toy.write(workers=1, behaviour="silent")
    with toy:
        toy.wait_for("a worker is silent: it is killed")
        assert toy.wait_for("a worker has ended: it is started again")["code"] == -9


def test_a_worker_that_was_stopped_is_replaced(tmp_path: Path) -> None:
    """It ends no reload: that waits for its end, while the new ones serve."""
    toy = Toy(tmp_path, {"SILENT_SECONDS": 6})
    toy.write()
    with toy:
        toy.wait_for("serving")
        before = toy.wait_for_workers(2)
        (_, stopped), (_, other) = sorted(before)
        os.kill(stopped, signal.SIGSTOP)
        assert toy.wait_for("a worker has ended: it is started again")["code"] == -9
        assert len(toy.wait_for_workers(2) & before) == 1
        os.kill(other, signal.SIGSTOP)
        toy.signal(signal.SIGHUP)
        toy.wait_for("reloaded")
        assert not toy.wait_for_workers(2) & before


def test_a_worker_that_is_never_ready_is_killed(tmp_path: Path) -> None:
    toy = Toy(tmp_path, {"START_SECONDS": 1})
    toy.write(behaviour="slow", workers=1)
    with toy:
        assert toy.end() == 2
    assert (tmp_path / "problems").read_text() == "a worker ended with -9 before it was ready"


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    toy = Toy(tmp_path, {"END_SECONDS": 0.5})
    toy.write(behaviour="stubborn")
    with toy:
        toy.wait_for("serving")
        toy.signal(signal.SIGTERM)
        assert toy.end() == 0


def test_an_interrupt_of_the_group_while_it_starts_is_no_failure(tmp_path: Path) -> None:
    """Ctrl-C ends the children before the supervisor looks."""
    toy = Toy(tmp_path)
    toy.write(behaviour="slow")
    with toy:
        children = wait_until("workers", toy.children, lambda found: len(found) == 2)
        wait_until("their own signals", lambda: all(map(has_default_interrupt, children)))
        toy.signal(signal.SIGSTOP)
        assert toy.process.pid is not None
        os.killpg(toy.process.pid, signal.SIGINT)
        wait_until(
            "their end",
            lambda: {child.status() for child in children},
            lambda states: states == {psutil.STATUS_ZOMBIE},
        )
        toy.signal(signal.SIGCONT)
        assert toy.end() == 0


def has_default_interrupt(process: psutil.Process) -> bool:
    """Return whether it neither catches nor blocks SIGINT."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    bit = 1 << (signal.SIGINT - 1)
    return not any(int(masks[name], 16) & bit for name in ("SigBlk", "SigCgt"))


def test_without_room_for_a_process_what_serves_goes_on(toy: Toy) -> None:
    """No more files, processes or memory: neither a reload nor a restart ends it."""
    before = toy.wait_for_workers(2)
    process = psutil.Process(toy.process.pid)
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), limits[1]))
    toy.signal(signal.SIGHUP)
    line = toy.wait_for("the new configuration cannot be used: the old one goes on")
    problem = "a process cannot be started: Too many open files"
    assert line["problems"] == [problem]
    process.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))
    (_, pid), (other, _) = before
    os.kill(pid, signal.SIGKILL)
    line = toy.wait_for("a worker cannot be started: it is tried again")
    assert line["problem"] == problem
    assert {index for index, _ in toy.wait_for_workers(1)} == {other}
    process.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert len(toy.wait_for_workers(2) & before) == 1


def test_workers_ignore_the_signal_of_a_reload(toy: Toy) -> None:
    """A terminal sends it to the whole group."""
    workers = toy.wait_for_workers(2)
    for _, pid in workers:
        os.kill(pid, signal.SIGHUP)
    assert toy.wait_for_workers(2) == workers
