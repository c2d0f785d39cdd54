"""Which identifiers of the EHR's Patient become PatientIDs (SIA-17)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier, is_fhir_id
from sidecar.common.fetch import FetchFailed
from sidecar.ehr.credentials import StaticToken
from sidecar.patients.patient_resource import PatientMerged, identifiers_of
from tests.common.peer import Clock, Peer, Reply
from tests.patients.ehr_patients import (
    ISSUERS,
    MRN,
    OTHER_MRN,
    TOKEN,
    UNKNOWN,
    entry,
    mapping,
    person,
)

UNKNOWN_USES: tuple[Any, ...] = ("OLD", "", "nickname", None, ["usual"], {}, 1)
PICKED: dict[str, tuple[dict[str, Any], set[PatientIdentifier]]] = {
    "by system": (
        person(entry(), entry("123-45-6789", UNKNOWN)),
        {PatientIdentifier("4711", "HOSPITAL")},
    ),
    "several": (
        person(entry("1"), entry("2"), entry("3", OTHER_MRN), entry("1")),
        {
            PatientIdentifier("1", "HOSPITAL"),
            PatientIdentifier("2", "HOSPITAL"),
            PatientIdentifier("3"),
        },
    ),
    "same value, two systems": (
        person(entry("1"), entry("1", OTHER_MRN)),
        {PatientIdentifier("1", "HOSPITAL"), PatientIdentifier("1")},
    ),
    "spaces": (person(entry(" 4711 ")), {PatientIdentifier("4711", "HOSPITAL")}),
    "leading zeros stay": (person(entry("0047")), {PatientIdentifier("0047", "HOSPITAL")}),
    "other uses": (
        person(
            *(
                entry(str(n), use=use)
                for n, use in enumerate(("usual", "official", "temp", "secondary"))
            )
        ),
        {PatientIdentifier(str(n), "HOSPITAL") for n in range(4)},
    ),
    "old": (person(entry(use="old"), entry("2")), {PatientIdentifier("2", "HOSPITAL")}),
    "use": (
        person(*(entry(str(n), use=use) for n, use in enumerate(UNKNOWN_USES)), entry("9")),
        {PatientIdentifier("9", "HOSPITAL")},
    ),
    "period": (
        person(
            entry("1", period={"end": "2001-01-01"}),
            entry("2", period={"start": "2999"}),
            entry("3", period="2999"),
            entry("4", period={"start": "2001", "end": "2999-01-01"}),
            entry("5", period={"start": "2001-02-03T04:05:06Z"}),
            entry("6", period={"end": "never"}),
            entry("7", OTHER_MRN, period={"end": "2001"}),
        ),
        {PatientIdentifier("4", "HOSPITAL"), PatientIdentifier("5", "HOSPITAL")},
    ),
    "the same number, once ended and once not": (
        person(entry("1", period={"end": "2001"}), entry("1")),
        {PatientIdentifier("1", "HOSPITAL")},
    ),
    "active": (person(entry(), active=True), {PatientIdentifier("4711", "HOSPITAL")}),
    "wildcards and lists": (
        person(
            *(entry(v) for v in ("*", "47*", "47?1", "1,2", "1\\2", "a\nb", "x" * 65, "", "  ")),
            entry("2"),
        ),
        {PatientIdentifier(value, "HOSPITAL") for value in ("*", "47*", "47?1", "1,2", "2")},
    ),
    "odd entries": (
        person(
            None,
            "4711",
            4711,
            [],
            {},
            entry(4711),
            entry(None),
            entry({"value": "4711"}),
            entry(["4711"]),
            entry(system=None),
            entry(system=[MRN]),
            entry(system=MRN.upper()),
            entry(system=f"{MRN} "),
            entry(system=f"{MRN}.4"),
            {"value": "4711"},
            {"system": MRN},
            entry("2"),
        ),
        {PatientIdentifier("2", "HOSPITAL")},
    ),
    "none": (person(), set()),
    "no member": ({"resourceType": "Patient", "id": "p1"}, set()),
}


@pytest.mark.parametrize("case", PICKED)
async def test_which_identifiers_are_picked(
    peer: Peer, session: aiohttp.ClientSession, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-17: those of the configured systems, to the letter, with the configured issuer; what is
    odd is left out.
    """
    resource, expected = PICKED[case]
    peer.say(Reply(resource))
    assert await mapping(peer, session).identifiers("p1") == expected
    asked = peer.asked[0]
    assert (asked.method, asked.target) == ("GET", "/fhir/Patient/p1")
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["Accept"] == "application/fhir+json"
    assert "4711" not in caplog.text
    assert ("left out" in caplog.text) == (case == "wildcards and lists")


async def test_without_credentials_no_token_is_sent(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Method ``none``."""
    peer.say(Reply(person(entry())))
    await mapping(peer, session, credentials=StaticToken(None)).identifiers("p1")
    assert "Authorization" not in peer.asked[0].headers


async def test_an_identifier_ends_while_the_process_runs(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """It counts until its end, and no longer than what is kept after that."""
    clock, today = Clock(), [datetime(2024, 5, 17, tzinfo=UTC)]
    peer.say(Reply(person(entry(period={"end": "2024-05-17T01:00:00Z"}))))
    patients = mapping(peer, session, cache_ttl_seconds=300, clock=clock, now=lambda: today[0])
    assert await patients.identifiers("p1") == {PatientIdentifier("4711", "HOSPITAL")}
    today[0] += timedelta(hours=2)
    clock.now += 301
    assert await patients.identifiers("p1") == frozenset()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([MRN, "old", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["system", "value", "use"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)
ENTRIES = (
    st.fixed_dictionaries({"system": st.just(MRN) | JSON, "value": st.text(max_size=5) | JSON})
    | JSON
)


@given(
    st.lists(ENTRIES, max_size=4) | JSON,
    st.sampled_from(["Patient", "Person"]) | JSON,
    st.just("p1") | JSON,
)
def test_any_resource_gives_searchable_identifiers_or_a_failure(
    listed: Any, kind: Any, name: Any
) -> None:
    """SIA-17: no other failure, no identifier that the resource does not have, none that matches
    more than itself.
    """
    resource = {"resourceType": kind, "id": name, "identifier": listed}
    try:
        picked = identifiers_of(resource, "p1", ISSUERS, datetime.now(UTC))
    except FetchFailed as failure:
        reason: str | None = failure.reason
        picked = frozenset()
    except PatientMerged:
        reason, picked = "merged", frozenset()
    else:
        reason = None
    other = kind == "Patient" and name != "p1" and isinstance(name, str) and is_fhir_id(name)
    assert (reason == "merged") == other
    if other:
        return
    assert (reason == "wrong_resource") == (kind != "Patient" or name != "p1")
    assert (reason == "wrong_shape") == (
        reason != "wrong_resource" and not isinstance(listed, list)
    )
    for identifier in picked:
        assert identifier.is_searchable()
        assert any(
            isinstance(e, dict)
            and isinstance(e.get("value"), str)
            and e["value"].strip(" ") == identifier.patient_id
            and ISSUERS.get(str(e.get("system")), "?") == identifier.issuer
            and e.get("use") != "old"
            for e in listed
        )
