"""Checks of the collector of spans."""

from pathlib import Path

import pytest

from sidecar.conformance.finding import State
from tests.check.scripted_site import Pacs, found
from tests.fakes.ehr import ScriptedEhr
from tests.telemetry.collector import Collector


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        (200, State.OK, "/v1/traces"),
        (404, State.FAIL, "4318"),
        (401, State.FAIL, "authorization_file"),
    ],
)
async def test_the_collector_of_spans(
    ehr: ScriptedEhr, pacs: Pacs, tmp_path: Path, status: int, state: State, says: str
) -> None:
    """An empty message, with the credential."""
    secret = tmp_path / "secret"
    secret.write_text("Bearer collector-secret")
    async with Collector(status=status).serve() as collector:
        tracing = {"endpoint": collector.endpoint, "authorization_file": str(secret)}
        finding = (await found(ehr, pacs, tracing=tracing))["tracing.endpoint"]
    assert (finding.state, collector.headers["authorization"]) == (state, "Bearer collector-secret")
    assert says in f"{finding}"
    assert "collector-secret" not in f"{finding}"
    assert collector.spans() == []


async def test_a_collector_that_is_not_there(ehr: ScriptedEhr, pacs: Pacs) -> None:
    finding = (await found(ehr, pacs, tracing={"endpoint": "http://127.0.0.1:9/v1/traces"}))[
        "tracing.endpoint"
    ]
    assert finding.state is State.FAIL
    assert "tracing.endpoint" not in await found(ehr, pacs)
