"""Fixtures of this folder."""

import aiohttp
import pytest
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy

from tests.common.peer import peer, session

__all__ = ["parser", "peer", "session"]


@pytest.fixture(params=[HttpResponseParser, HttpResponseParserPy], ids=["compiled", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of aiohttp's parsers of answers."""
    monkeypatch.setattr(aiohttp.client_proto, "HttpResponseParser", request.param)
