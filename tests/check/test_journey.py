"""What ``check --token`` says where the way of an app ends early."""

from types import SimpleNamespace
from typing import Any, cast

from sidecar.check.finding import ok
from sidecar.check.journey import _HINTS, Journey, without_studies
from sidecar.conformance.finding import State


def test_a_patient_without_studies() -> None:
    """What the archive has not and what is left out look the same from here."""
    client = cast("Any", SimpleNamespace(search_for_studies=lambda limit: []))
    finding = Journey("", "")._find(client)
    warned = without_studies([ok("token.search", "0 studies as ImagingStudy")], rules=True)[-1]
    assert (finding.state, warned.state) == (State.SKIP, State.WARN)
    for one in (finding, warned):
        assert all(
            word in one.text
            for word in ("at the archive", "access.rules", "access.clients", "access.external")
        )


def test_a_refused_search_is_first_of_all_a_token_without_the_scope() -> None:
    assert _HINTS[403].index("scope") < _HINTS[403].index("merged")
