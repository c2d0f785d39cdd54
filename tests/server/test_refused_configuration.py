"""Nothing of a configuration that was refused serves, and an end while it is read is no failure."""

import os
import signal
from pathlib import Path

from tests.server.toy import Toy
from tests.waiting import wait_until


def test_workers_of_a_refused_configuration_end(tmp_path: Path) -> None:
    """Also those of them that could serve."""
    toy = Toy(tmp_path)
    toy.write()
    with toy:
        toy.wait_for("serving")
        before = {pid for _, pid in toy.wait_for_workers(2)}
        toy.write(behaviour="half", workers=3)
        toy.signal(signal.SIGHUP)
        line = toy.wait_for("the new configuration cannot be used: the old one goes on")
        assert line["problems"] == ["worker 0 has a problem"]
        wait_until(
            "the end of the others",
            lambda: {child.pid for child in toy.children()},
            lambda pids: pids == before,
        )
        assert {pid for _, pid in toy.answers()} <= before


def test_an_end_while_the_configuration_is_read_is_no_failure(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    os.mkfifo(toy.file)  # Whoever opens it waits.
    with toy:
        wait_until("somebody reads it", toy.children)
        toy.signal(signal.SIGTERM)
        assert toy.end() == 0
    assert not (tmp_path / "problems").exists()
