"""Reports to the service manager: systemd's ``sd_notify(3)`` protocol."""

import contextlib
import os
import socket
import time


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, if the service manager asked for it (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # The abstract namespace.
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)


def notify_reloading() -> None:
    """Report that a reload has begun. ``READY=1`` ends it."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    notify(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")
