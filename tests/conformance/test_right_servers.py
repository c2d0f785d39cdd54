"""``check --conformance`` finds nothing wrong with right servers of three shapes, with all tokens
that it may have.
"""

from typing import Any

import pytest

from sidecar.conformance.finding import State, has_failed, table
from sidecar.conformance.levels import BASE, SHALL, WISH, Guide
from tests.conformance.looking import checked, found, problems
from tests.conformance.right_servers import BearerServer, CapabilityServer, SeparateServer
from tests.conformance.small_server import BACKEND_TOKEN, PATIENT, TOKENS, SmallServer
from tests.tables.conformance_faults import CORS, FAULTS, without

_NO_CORS = without("Access-Control-Allow-Origin")
RIGHT: dict[str, tuple[Any, dict[str, str], set[str]]] = {
    "one base with reads and QIDO-RS": (
        SmallServer,
        {},
        {
            "an expired token",
            "the other token's patient",
            "the other token's patient's images",
            "images with the other patient's token",
            "system scopes that are not offered",
            "the way back after a refusal",
        },
    ),
    "search and whole studies alone, beside an EHR": (
        lambda: SeparateServer(_NO_CORS),
        {
            **CORS,
            "Accept and Content-Type": WISH,
            "Accept: nonsense": WISH,
            "pages": BASE,
            "odd spellings of paths": WISH,
        },
        {
            "the EHR's smart-configuration leads here",
            "capabilities in the smart-configuration",
            "a whole study",
            "the other token's patient's images",
            "the way back after a refusal",
        },
    ),
    "an address for each answer, slow": (
        CapabilityServer,
        {"odd spellings of paths": WISH},
        {
            "Endpoints of one answer are on its pages",
            "a capability URL without its token",
            "a changed capability URL",
            "referrers and caches of such addresses",
            "images with the other patient's token",
            "a Backend Services client",
            "503 while a search takes longer",
            "503 while images are staged",
            "the way back after a refusal",
        },
    ),
}
"""Server, remarks that are no problem, and checks that are made of it among others."""


@pytest.mark.parametrize("shape", RIGHT)
async def test_no_false_alarm(shape: str) -> None:
    server, remarks, tested = RIGHT[shape]
    findings = await found(server().app(), **TOKENS)
    assert problems(findings) == remarks, table(findings)
    made = {checked(finding) for finding in findings if finding.state is State.OK}
    assert tested <= made, table(findings)


async def test_what_a_token_does_not_tell_is_no_fault() -> None:
    """A server need not search without a patient: nothing is held against it then."""
    findings = await found(SeparateServer().app())
    assert not has_failed(findings), table(findings)
    (search,) = [
        finding for finding in findings if checked(finding) == "a search for the patient's studies"
    ]
    assert search.text == "not tested, because the token's patient is not known (--patient): 400"


async def test_the_older_guide() -> None:
    """2026-08: the extension is demanded, and a bearer capability opens a study by itself."""
    server = BearerServer()
    findings = await found(server.app(), guide=Guide.AUGUST, **TOKENS)
    assert problems(findings) == {"odd spellings of paths": WISH}, table(findings)
    assert "the extension requires-access-token" in map(checked, findings)
    assert server.tokens_for_images == []
    assert (
        problems(await found(BearerServer().app(), **TOKENS))[
            "images without a token, or with a made-up one"
        ]
        == SHALL
    )


async def test_the_extension_is_demanded_by_the_older_guide_alone() -> None:
    change, _ = FAULTS["an Endpoint without the extension"]
    for guide, expected in (
        (Guide.AUGUST, {"the extension requires-access-token": SHALL}),
        (Guide.SEPTEMBER, {}),
    ):
        assert problems(await found(SmallServer(change).app(), guide=guide)) == expected


async def test_a_services_token_that_is_refused() -> None:
    """A token that nobody accepts says nothing of a client's access."""
    findings = await found(SmallServer().app(), backend_token="a-mistyped-token")
    assert problems(findings) == {}, table(findings)
    states = {checked(finding): finding.state for finding in findings}
    assert states["a Backend Services client"] is State.SKIP


async def test_a_service_in_the_apps_place() -> None:
    """A Backend Services client alone: that it may have other patients is held against nobody."""
    findings = await found(
        CapabilityServer().app(), None, patient=PATIENT, backend_token=BACKEND_TOKEN
    )
    assert problems(findings) == {"odd spellings of paths": WISH}, table(findings)
    states = {checked(finding): finding.state for finding in findings}
    assert states["a whole study"] is State.OK
    assert states["a search that names no patient"] is State.SKIP
    assert states["QIDO-RS below the address"] is State.SKIP
