"""Tell which client is behind trusted reverse proxies (RFC 7239, X-Forwarded-For).

The address is for the audit trail. No link and no decision is made of it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import hdrs
from multidict import MultiMapping

Address = IPv4Address | IPv6Address

MOST_HOPS = 16
"""Limit of the addresses that are looked at."""
_X_FORWARDED_FOR = "X-Forwarded-For"
_TOKEN = r"[!#-'*+.0-9A-Z^-z|~-]+"
_PAIR = re.compile(rf'({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*+")', re.ASCII)
"""A forwarded-pair (RFC 7239 4)."""
_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)){_PORT}|([0-9A-Fa-f:.]+)", re.ASCII)
"""An IP address, which may have a port (RFC 7239 6). X-Forwarded-For has IPv6 without brackets."""


class ForwardedClients:
    """Look through the proxies in the ``trusted`` networks, such as ``10.0.0.0/8``."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = tuple(map(ip_network, trusted))

    def address(self, peer: str | None, headers: MultiMapping[str]) -> str | None:
        """Return the client's address: ``peer``, unless that is a trusted proxy.

        Then it is the right-most address that is no trusted proxy's. A client can write whatever
        is left of it. It is ``peer``, too, where what a proxy wrote cannot be read, and where both
        headers are there and differ: a proxy that writes one passes the other on from the client.
        """
        if peer is None or not self._trusts(_address(peer)):
            return peer
        found = {
            self._client(nodes(headers.getall(name)))
            for name, nodes in _HEADERS.items()
            if name in headers
        }
        client = found.pop() if len(found) == 1 else None
        return peer if client is None else str(client)

    def _client(self, nodes: Iterator[str]) -> Address | None:
        """Return the first address of ``nodes`` that is not trusted, or the last of all.

        Return ``None`` where one before it is no address, or there are more than ``MOST_HOPS``.
        """
        client = None
        for hops, node in enumerate(nodes):
            client = None if hops == MOST_HOPS else _address_of(node)
            if client is None or not self._trusts(client):
                break
        return client

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _x_forwarded_for(lines: Sequence[str]) -> Iterator[str]:
    """Yield the addresses of X-Forwarded-For from right to left."""
    for line in reversed(lines):
        for node in reversed(line.rsplit(",", MOST_HOPS)):
            yield node.strip(" \t")


def _forwarded(lines: Sequence[str]) -> Iterator[str]:
    """Yield the ``for`` of each element of Forwarded from right to left.

    It is empty where an element is malformed, or has none or several.
    """
    for line in reversed(lines):
        for element in _split(line, ","):
            pairs = [_PAIR.fullmatch(pair) for pair in _split(element, ";")]
            nodes = [pair[2] for pair in pairs if pair and pair[1].lower() == "for"]
            yield nodes[0].strip('"') if all(pairs) and len(nodes) == 1 else ""


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield what stands between unquoted separators, from right to left.

    From the left, a quotation mark that a client leaves open would swallow what a proxy adds.
    """
    end, is_quoted = len(text), False
    for at in range(len(text) - 1, -1, -1):
        if text[at] == '"':
            is_quoted = not is_quoted or _is_escaped(text, at)
        elif text[at] == separator and not is_quoted:
            yield text[at + 1 : end].strip(" \t")
            end = at
    yield text[:end].strip(" \t")


def _is_escaped(text: str, at: int) -> bool:
    begin = at
    while begin and text[begin - 1] == "\\":
        begin -= 1
    return (at - begin) % 2 == 1


_HEADERS: Mapping[str, Callable[[Sequence[str]], Iterator[str]]] = {
    hdrs.FORWARDED: _forwarded,
    _X_FORWARDED_FOR: _x_forwarded_for,
}


def _address_of(node: str) -> Address | None:
    """Return the address of a node; ``None`` for ``unknown``, for a name and for junk."""
    match = _NODE.fullmatch(node)
    return None if match is None else _address(match[1] or match[2] or match[3])


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A listener for IPv6 names peers of IPv4 like that.
    return getattr(address, "ipv4_mapped", None) or address
