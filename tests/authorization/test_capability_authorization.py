"""Capability URLs are issued and used by the authorizer's decision (SIA-50..52)."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.access.permits import (
    Interaction,
    Operation,
)
from sidecar.access.reasons import Reason
from sidecar.audit.record import AccessRecord
from sidecar.authorization.capability_urls import (
    KEY_BYTES,
    CapabilityUrls,
    Sealer,
    SealingKey,
)
from tests.authorization.authorizer_world import (
    NOW,
    PERMIT,
    Views,
    World,
    authorized,
    record,
    token,
)
from tests.authorization.recorded_spans import recorded_spans
from tests.permits import (
    make_visible,
    patient_permit,
)


def capability_urls(clock: Callable[[], float]) -> CapabilityUrls:
    """Return some that hold for a minute."""
    sealer = Sealer([SealingKey("one", b"1" * KEY_BYTES)], "https://us.example.org")
    return CapabilityUrls(
        sealer,
        "https://us.example.org",
        operations=frozenset(Operation),
        lifetime_seconds=60,
        clock=clock,
    )


async def test_addresses_are_issued_for_what_a_retrieval_may_see() -> None:
    """SIA-52: not for what is hidden, nor for a token that may search only."""
    views = Views({"1.2": make_visible(), "1.4": make_visible()}, shared=["1.4"])
    world = World(views=views)
    request = await authorized(world)
    studies = ["1.2", "1.3", "1.4"]
    assert await world.authorizer.issue(request, studies) == {}
    world.authorizer.capabilities = capability_urls(world.clock)
    with recorded_spans() as spans:
        issued = await world.authorizer.issue(request, studies)
    assert [name for name, _ in spans] == ["decide patient", "fetch"]
    assert list(issued) == ["1.2"]
    assert issued["1.2"].root.startswith("https://us.example.org/capability/one.")
    assert issued["1.2"].expires_at == NOW + 60
    assert issued["1.2"].full_url.startswith("urn:uuid:")
    name = "smart_imaging_capability_urls_issued_total"
    assert world.metrics.registry.get_sample_value(name) == 1
    views.asked.clear()
    for scope, made in (("patient/ImagingStudy.s", record()), ("patient/*.rs", AccessRecord("x"))):
        other = await world.authorizer.authorize(made, token(scope), PERMIT, None, study=None)
        assert await world.authorizer.issue(other, studies) == {}
    assert views.asked == []


@pytest.mark.parametrize(
    ("bearer", "study", "operation", "reason"),
    [
        ("a-good-token", "1.2", Operation.RETRIEVE, None),
        ("a-good-token", None, Operation.QUERY, None),
        ("another-token", "1.2", Operation.RETRIEVE, Reason.OTHER_TOKEN),
        ("a-good-token", "1.3", Operation.RETRIEVE, Reason.ABSENT),
    ],
)
async def test_a_capability_is_used_with_its_token_for_its_study(
    bearer: str, study: str | None, operation: Operation, reason: Reason | None
) -> None:
    """SIA-50..52: the token first, then the seal, then what it covers, then the patient."""
    world = World()
    urls = capability_urls(world.clock)
    root = urls.issue("a-good-token", NOW + 30, "p1", "1.2").root
    sealed = root.rpartition("/")[2]

    def used(text: str) -> Any:
        authorization = [f"Bearer {bearer}"]
        return world.authorizer.capability(made, authorization, text, study, operation)

    made = AccessRecord("r4")
    assert await world.refused(used(sealed)) is Reason.UNKNOWN_CAPABILITY  # They are off.
    world.authorizer.capabilities = urls
    assert await world.refused(used(sealed[:-1])) is Reason.UNKNOWN_CAPABILITY
    assert made.patient is None
    if reason is not None:
        assert await world.refused(used(sealed)) is reason
        assert made.patient == "p1"
        return
    claims, permit, capability = await used(sealed)
    assert (claims, permit) == (token(), patient_permit("p1", Interaction.RETRIEVE))
    assert (capability.patient, capability.study) == ("p1", "1.2")
    world.tokens.known = token("patient/*.s")
    assert await world.refused(used(sealed)) is Reason.INSUFFICIENT_SCOPE
    world.clock.now += 30
    world.tokens.known = token(expires_at=NOW + 60)
    assert await world.refused(used(sealed)) is Reason.EXPIRED_CAPABILITY
