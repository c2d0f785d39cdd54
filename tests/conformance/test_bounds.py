"""``check --conformance`` ends soon whatever answers, keeps the token to itself, and stumbles over
nothing.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ThreadedResolver, web

from sidecar.conformance.client import Limits, connected
from sidecar.conformance.finding import Finding, State, as_json, has_failed, table
from sidecar.conformance.levels import Violated
from sidecar.conformance.whole_run import ELSE
from sidecar.server.listener import listen
from tests.certificates import certificate, server_context
from tests.conformance.looking import (
    LIMITS,
    bundles,
    checked,
    found,
    looked,
    number,
    on,
    problems,
    with_token,
)
from tests.conformance.small_server import (
    TOKEN,
    TOKENS,
    SmallServer,
    body_of,
    outcome,
    sound,
)
from tests.sidecar_process import free_port
from tests.waiting import forever

# Servers that are none
# -----------------------------------------------------------------------------------------------


async def _answered(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], **limits: Any
) -> list[Finding]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return await found(app, limits=Limits(**{"seconds": 60, "retrieval_seconds": 60, **limits}))


async def test_nothing_listens() -> None:
    findings = await looked(f"http://127.0.0.1:{free_port()}/fhir")
    assert {number(finding) for finding in findings if finding.state is State.FAIL} == {3}
    assert has_failed(findings)
    assert {finding.text for finding in findings if finding.state is State.FAIL} == {
        "no answer: ECONNREFUSED"
    }
    assert_all_say(findings, "no answer: ECONNREFUSED")


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """No advice about --patient or a study that was not found: nobody was asked."""

    async def resolve(*_: object, **__: object) -> list[Any]:
        raise OSError(None, "no such name")

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    assert_all_say(
        await looked("http://imaging.example.org/fhir"),
        "no answer: the name does not resolve (dns)",
    )


async def test_a_server_without_tls() -> None:
    async with listen(SmallServer().app(), "127.0.0.1", 0) as port:
        assert_all_say(
            await looked(f"https://127.0.0.1:{port}/fhir"), "no answer: TLS failed (tls)"
        )


async def test_a_certificate_of_an_unknown_ca(tmp_path: Path) -> None:
    context = server_context(certificate(tmp_path, "server"))
    async with await asyncio.start_server(
        lambda reader, writer: None, "127.0.0.1", 0, ssl=context
    ) as server:
        port = server.sockets[0].getsockname()[1]
        assert_all_say(
            await looked(f"https://localhost:{port}/fhir"),
            "no answer: its certificate is not trusted here (tls_untrusted); "
            "SSL_CERT_FILE names the file of a CA of your own",
        )


def assert_all_say(findings: list[Finding], text: str) -> None:
    """All but those that cannot be seen from outside, whatever the server says."""
    texts = {finding.text for finding in findings if checked(finding) != ELSE}
    assert texts == {text, "not tested, because the server was not reached"}
    hints = {finding.hint for finding in findings if finding.state is State.FAIL}
    assert hints == {"Is the URL of --conformance right, and can it be reached from here?"}


async def test_a_server_that_hangs() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await forever()

    findings = await _answered(hang, seconds=1)
    assert {number(finding) for finding in findings if finding.state is State.FAIL} == {3}
    assert_all_say(findings, "no answer in time")


async def test_a_server_that_answers_once_and_hangs() -> None:
    came: list[str] = []

    async def hang(request: web.Request) -> web.StreamResponse:
        came.append(request.path)
        if len(came) > 1:
            await forever()
        return web.Response()

    findings = await _answered(hang, seconds=1)
    assert "3 requests in a row had no answer" in table(findings)
    assert len(came) == 4


async def test_a_website() -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>hello</html>", content_type="text/html")

    findings = await _answered(page)
    assert {
        "smart-configuration, without a token": "our wish",
        "metadata, without a token": "base FHIR",
        "a search for the patient's studies": "SHALL",
        "FHIR without a token": "SHALL",
    }.items() <= problems(findings).items()


async def test_answers_without_end() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * 2**16)

    assert problems(await _answered(endless, answer_bytes=2**18, retrieval_bytes=2**18))


async def test_a_retrieval_without_end_is_read_up_to_a_limit() -> None:
    async def more(request: web.Request, response: web.Response) -> web.StreamResponse:
        if (
            request.path != "/dicom/studies/1.2.840.9.1"
            or request.method != "GET"
            or response.status != 200
        ):
            return response
        assert isinstance(response.body, bytes)
        endless = web.StreamResponse(headers={"Content-Type": response.headers["Content-Type"]})
        await endless.prepare(request)
        await endless.write(response.body.removesuffix(b"--b--\r\n"))
        while True:
            await endless.write(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + bytes(2**16))

    findings = await found(SmallServer(more).app())
    assert "read no further than 1 MB" in table(findings)


async def test_a_transfer_that_breaks_off() -> None:
    async def broken(request: web.Request, response: web.Response) -> web.StreamResponse:
        if (
            request.path != "/dicom/studies/1.2.840.9.1"
            or response.status != 200
            or request.method != "GET"
        ):
            return response
        partial = web.StreamResponse(headers={"Content-Type": response.headers["Content-Type"]})
        await partial.prepare(request)
        await partial.write(b"--b\r\n")
        assert request.transport is not None
        request.transport.abort()
        return partial

    findings = await found(SmallServer(broken).app())
    assert problems(findings)["a whole study"] == "SHALL"
    assert "the answer broke off" in table(findings)


# Where the token goes
# ------------------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """Another server, and the tokens that it was given."""
    given: list[str] = []

    async def take(request: web.Request) -> web.Response:
        given.append(request.headers.get("Authorization", ""))
        return outcome(404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    async with listen(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", given


async def test_the_token_goes_nowhere_by_a_link(elsewhere: tuple[str, list[str]]) -> None:
    url, given = elsewhere
    change = bundles(
        lambda bundle, _: bundle["link"].append({"relation": "next", "url": f"{url}/fhir/next"})
    )
    findings = await found(SmallServer(change).app(), **TOKENS)
    assert problems(findings)["a search for the patient's studies"] == "SHALL"
    assert "leads to another server" in table(findings)
    assert given == []


async def test_one_host_in_two_spellings_is_one() -> None:
    async with listen(SmallServer().app(), "127.0.0.1", 0) as port:
        assert problems(await looked(f"http://LOCALHOST:{port}/fhir")) == {}


async def test_from_https_the_token_goes_to_no_http() -> None:
    async with connected("https://imaging.example.org/fhir", TOKEN, LIMITS) as client:
        client.trust("https://images.example.org/dicom")
        with pytest.raises(Violated, match="not https"):
            client.trust("http://images.example.org/dicom")


async def test_the_token_goes_nowhere_by_a_redirect(elsewhere: tuple[str, list[str]]) -> None:
    url, given = elsewhere
    redirect = web.HTTPFound(url)
    change = on(
        with_token, lambda request, response: web.Response(status=302, headers=redirect.headers)
    )
    assert (
        problems(await found(SmallServer(change).app(), **TOKENS))[
            "a search for the patient's studies"
        ]
        == "SHALL"
    )
    assert given == []


def _echoed(value: Any) -> Any:
    """The token in place of each string."""
    if isinstance(value, dict):
        return {
            name: one if name == "resourceType" else _echoed(one) for name, one in value.items()
        }
    return (
        [_echoed(one) for one in value]
        if isinstance(value, list)
        else TOKEN
        if isinstance(value, str)
        else value
    )


@pytest.mark.parametrize("how", ["bodies", "types", "headers"])
async def test_a_server_that_answers_with_the_token(how: str) -> None:
    """Not even in small letters, or a piece of it."""

    async def echo(request: web.Request, response: web.Response) -> web.StreamResponse:
        if how == "bodies" and "json" in response.content_type and response.status == 200:
            response.body = json.dumps(_echoed(body_of(response))).encode()
        elif how == "types":
            response.headers["Content-Type"] = "x/" + TOKEN.replace("/", "-").replace("=", "-")
        elif how == "headers":
            response.headers.update(
                dict.fromkeys(("Retry-After", "ETag", "Cache-Control", "WWW-Authenticate"), TOKEN)
            )
        return response

    findings = await found(SmallServer(echo).app(), **TOKENS)
    assert "token.of" not in (table(findings) + as_json(findings)).lower()


# Whatever comes
# ------------------------------------------------------------------------------


def _bent(value: Any, chance: random.Random) -> Any:
    """Here and there another kind of value than FHIR and DICOM JSON have there."""
    if chance.random() < 0.04:
        return chance.choice(
            [None, [], {}, "x", -1, True, [None], [[]], {"a": 1}, "", "urn:oid:", "1.2", 1e99]
        )
    if isinstance(value, dict):
        return {name: _bent(one, chance) for name, one in value.items()}
    return [_bent(one, chance) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "seed",
    [*range(10), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(10, 100))],
)
async def test_whatever_json_comes_is_a_finding(seed: int) -> None:
    chance = random.Random(seed)

    async def bend(request: web.Request, response: web.Response) -> web.StreamResponse:
        if "json" in response.content_type and isinstance(response.body, bytes):
            response.body = json.dumps(_bent(json.loads(response.body), chance)).encode()
        return await sound(request, response)

    findings = await found(SmallServer(bend).app(), **TOKENS)
    assert len(findings) > 80
