"""Attacks as bytes on a socket, and what must happen."""
