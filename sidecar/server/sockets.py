"""The listening sockets, which the supervisor opens and all workers accept connections on.

There is one for all workers, not one for each (SO_REUSEPORT): a worker that is busy or has died
leaves its share to the others, and a connection that waits is not lost with a worker.
"""

import contextlib
import errno
import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import Self

from sidecar.settings.server import Server

log = logging.getLogger(__name__)

BACKLOG = 1_024
"""Connections that wait to be accepted. The kernel may allow fewer (net.core.somaxconn)."""
TAKEN_SECONDS = 3
"""Seconds that a port may be taken: workers hold it a moment longer than a killed supervisor."""
_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets of the two listeners, and the settings that they were opened for."""

    public: list[socket.socket]
    admin: list[socket.socket]
    opened_for: Server

    @classmethod
    def open(cls, server: Server) -> Self:
        """Listen. Raises ``OSError`` with key and address in ``filename``."""
        with contextlib.ExitStack() as stack:
            public = _listen_soon(server.host, server.port, "server.port")
            for opened in public:
                stack.callback(opened.close)
            admin = _listen_soon(server.admin_host, server.admin_port, "server.admin_port")
            stack.pop_all()
        return cls(public, admin, server)

    def ports(self) -> dict[str, int]:
        """Return the ports, by the names that the log has for them."""
        return {
            "port": self.public[0].getsockname()[1],
            "admin_port": self.admin[0].getsockname()[1],
        }

    def warn_of_changes(self, server: Server) -> None:
        """Log what a reload cannot change."""
        for name in ("host", "port", "admin_host", "admin_port"):
            now, wanted = getattr(self.opened_for, name), getattr(server, name)
            if wanted != now:
                log.warning(
                    "a change that needs a restart",
                    extra={"setting": f"server.{name}", "configured": wanted, "listening": now},
                )

    def close(self) -> None:
        """Close them in this process."""
        for opened in (*self.public, *self.admin):
            opened.close()


def _listen_soon(host: str, port: int, name: str) -> list[socket.socket]:
    until = time.monotonic() + TAKEN_SECONDS
    while True:
        try:
            return listen_on(host, port, name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)


def listen_on(host: str, port: int, name: str) -> list[socket.socket]:
    """Return a listening socket for each address of ``host``. Port 0 is any that is free.

    Raises ``OSError`` with ``name`` and the address in ``filename`` when the port cannot be had.
    """
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        try:
            for family, kind, protocol, _, address in dict.fromkeys(
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            ):
                opened = stack.enter_context(socket.socket(family, kind, protocol))
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:  # Otherwise it would take the IPv4 port, too.
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                opened.bind(address)
                opened.listen(BACKLOG)
                opened.setblocking(False)
                sockets.append(opened)
        except OSError as error:
            known = error.errno if isinstance(error.errno, int) and error.errno > 0 else None
            why = os.strerror(known).lower() if known else error.strerror
            raise OSError(error.errno, why, f"{name}: {host}:{port}") from None
        stack.pop_all()
    return sockets
