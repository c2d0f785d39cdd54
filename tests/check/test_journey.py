"""What ``check --token`` says where the requests of an app end early."""

from types import SimpleNamespace
from typing import Any, cast

from sidecar.check.journey import _HINTS, _query, without_studies
from sidecar.check.outcome import ok
from sidecar.conformance.finding import State


def test_a_patient_without_studies() -> None:
    """What the archive has not and what is left out look the same from here."""
    client = cast("Any", SimpleNamespace(search_for_studies=lambda limit: []))
    skipped = _query(client)
    found = without_studies({"token.search": ok("0 studies as ImagingStudy")}, rules=True)
    warned = found["token.studies"]
    assert (skipped.state, warned.state) == (State.SKIP, State.WARN)
    for outcome in (skipped, warned):
        assert all(
            word in outcome.text
            for word in ("at the archive", "access.rules", "access.clients", "access.external")
        )


def test_a_refused_search_is_first_of_all_a_token_without_the_scope() -> None:
    assert _HINTS[403].index("scope") < _HINTS[403].index("merged")
