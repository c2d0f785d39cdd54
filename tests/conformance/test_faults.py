"""``check --conformance`` names each fault of a broken server by its requirement, and no other; it
ends soon.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from sidecar import __version__
from sidecar.conformance.finding import State, table
from sidecar.conformance.levels import SHALL, WISH, Guide, Violated
from sidecar.conformance.report import html
from sidecar.conformance.response import Response
from sidecar.conformance.run import ServerUnderTest, conformance
from sidecar.conformance.whole_run import _is_outcome
from sidecar.server.listener import listen
from tests.common.peer import NO_HEADERS
from tests.conformance.looking import (
    LIMITS,
    checked,
    found,
    looked,
    number,
    on,
    problems,
)
from tests.conformance.right_servers import CapabilityServer
from tests.conformance.small_server import (
    STUDIES,
    TOKEN,
    TOKENS,
    SmallServer,
    instance,
    multipart,
)
from tests.tables.conformance_faults import CORS, FAULTS, FURTHER_FAULTS


async def test_a_sound_server_has_no_problem() -> None:
    server = SmallServer()
    findings = await found(server.app())
    assert problems(findings) == {}, table(findings)
    assert sum(finding.state is State.OK for finding in findings) > 50
    # Writes are tried with nothing that could be written, and nothing that is there.
    writes = [path for method, path, _ in server.seen if method in ("PUT", "PATCH", "DELETE")]
    assert len(writes) == 4
    assert not any(uid in path for path in writes for uid in STUDIES)


async def test_without_a_token_what_is_open_is_looked_at() -> None:
    server = SmallServer()
    findings = await found(server.app(), None)
    assert problems(findings) == {}
    assert {number(finding) for finding in findings if finding.state is State.OK} == {
        1,
        2,
        3,
        10,
        20,
        45,
    }
    assert all(given is None or TOKEN not in given for _, _, given in server.seen)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_named_by_its_requirement(fault: str) -> None:
    change, expected = FAULTS[fault]
    findings = await found(SmallServer(change).app())
    assert problems(findings) == expected, table(findings)


@pytest.mark.parametrize("fault", FURTHER_FAULTS)
async def test_a_fault_that_further_tokens_show(fault: str) -> None:
    change, expected = FURTHER_FAULTS[fault]
    findings = await found(SmallServer(change).app(), **TOKENS)
    assert problems(findings) == expected, table(findings)


async def test_the_page_of_a_server_with_faults(artefacts: Path) -> None:
    """Each broken SHALL stands in the page that its operators get."""
    change, expected = FURTHER_FAULTS[fault := next(iter(FURTHER_FAULTS))]
    findings = await found(SmallServer(change).app(), **TOKENS)
    base, now = "https://imaging.example.org/fhir", datetime.now(UTC)
    page = html(base, Guide.SEPTEMBER, findings, now, f"smart-imaging-sidecar {__version__}")
    (artefacts / "conformance-server-with-a-fault.html").write_text(page)
    assert expected, fault
    assert all(check in page for check in expected)


async def test_a_capability_that_opens_more() -> None:
    """The patient's other study by one study's address: SIA-51, and its series under this one."""

    class Wide(CapabilityServer):
        def _retrieved(self, request: web.Request, authorization: str) -> web.Response:
            name, _, rest = request.path.removeprefix("/once/").partition("/studies/")
            if name in self.issued:
                self.issued[name] = rest.partition("/")[0], self.issued[name][1]
            if "/series/1.2.840.9.2.1" in rest:
                return multipart(instance("1.2.840.9.2", 1))
            return super()._retrieved(request, authorization)

    found_problems = problems(await found(Wide().app(), **TOKENS))
    assert found_problems.pop("odd spellings of paths") == WISH
    assert found_problems == {
        "a changed capability URL": SHALL,
        "another study's series in this study": SHALL,
    }


async def test_a_base_among_the_ehrs_associated_endpoints() -> None:
    """SIA-1: the finding names associated_endpoints, by a whole sentence."""

    def configuration(request: web.Request, response: web.Response) -> web.Response:
        endpoint = {
            "url": str(request.url.origin()) + "/fhir",
            "capabilities": ["smart-imaging-access"],
        }
        return web.json_response({"capabilities": [], "associated_endpoints": [endpoint]})

    change = on(lambda request: "well-known" in request.path, configuration)
    (leads,) = [f for f in await found(SmallServer(change).app()) if number(f) == 1]
    assert leads.state is State.OK
    assert leads.text == (
        "this base's smart-configuration has this base among its associated_endpoints"
    )


async def test_cors_for_an_apps_own_pages_alone() -> None:
    async def registered(request: web.Request, response: web.Response) -> web.StreamResponse:
        if "Origin" in request.headers and request.path.startswith(
            ("/fhir/ImagingStudy", "/dicom")
        ):
            response.headers["Access-Control-Allow-Origin"] = "https://registered.example.org"
        return response

    async with listen(SmallServer(registered).app(), "127.0.0.1", 0) as port:
        base = f"http://127.0.0.1:{port}/fhir"
        server = ServerUnderTest(base, TOKEN, origin="https://registered.example.org")
        own = await conformance(server, limits=LIMITS)
        assert problems(own) == {}
        assert problems(await looked(base)) == {name: CORS[name] for name in list(CORS)[1:]}


async def test_a_junk_token_that_opens_everything() -> None:
    server = SmallServer()
    app = web.Application()

    async def trusting(request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            request = request.clone(headers={**request.headers, "Authorization": f"Bearer {TOKEN}"})
        return await server._answer(request)

    app.router.add_route("*", "/{path:.*}", trusting)
    assert problems(await found(app)) == {
        "FHIR with a made-up token": "SHALL",
        "images without a token, or with a made-up one": "SHALL",
    }


async def test_a_token_that_is_not_active_and_a_base_that_is_none() -> None:
    """What is wrong then is rather the command line than the server: that is asked first."""
    (search,) = [
        finding
        for finding in await found(SmallServer().app(), "expired-" * 4)
        if checked(finding) == "a search for the patient's studies"
    ]
    assert search.text.startswith("401")
    assert search.hint is not None
    assert search.hint.startswith("The token is not active here (any more), or not for this server")
    absent = on(
        lambda request: request.path.endswith(("metadata", "smart-configuration")),
        lambda request, response: web.Response(status=404),
    )
    (document,) = [
        finding
        for finding in await found(SmallServer(absent).app())
        if number(finding) == 3 and finding.text.startswith("404")
    ]
    assert (document.hint or "").startswith("Is the URL of --conformance the FHIR base")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_json_is_utf_8_without_a_byte_order_mark(encoding: str) -> None:
    """RFC 8259 8.1: what only some clients can read is no JSON."""
    body = '{"resourceType": "OperationOutcome"}'
    assert Response(200, NO_HEADERS, body.encode()).json() == {"resourceType": "OperationOutcome"}
    assert _is_outcome(body.encode())
    with pytest.raises(Violated):
        Response(200, NO_HEADERS, body.encode(encoding)).json()
    assert not _is_outcome(body.encode(encoding))
