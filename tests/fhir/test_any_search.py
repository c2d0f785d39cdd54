"""Any search parameters are a ``Search`` or are refused (SIA-20..24)."""

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search_parameters import CHAINS, NAMES_IN_R5, PARAMETERS
from sidecar.fhir.search_parser import parse_search

SITE = Site("https://ehr.example.org/fhir", UTC)

names = st.sampled_from(
    [*PARAMETERS, *CHAINS, "subject:Patient", "patient.name", "_has:x", "modality:text", "x"]
)
values = st.sampled_from(
    [
        "123",
        "Patient/123",
        "urn:oid:1.2",
        "|",
        "a|b|c",
        "ge2024-02-29T10:11:12 01:00",
        "2024",
        "*",
        "5",
        "W10",
        ",",
        "",
    ]
)
pairs = st.lists(
    st.tuples(names | st.text(), values | st.text() | st.lists(values | st.text()).map(",".join))
)


@given(pairs, st.booleans())
def test_any_parameters_are_a_search_or_refused(
    parameters: list[tuple[str, str]], strict: bool
) -> None:
    """Never another failure; and no patient is lost on the way."""
    try:
        search = parse_search(parameters, SITE, strict=strict)
    except (BadRequest, NotAcceptable):
        return
    understood = {*PARAMETERS, *CHAINS, *NAMES_IN_R5}
    assert all(one in CHAINS or one.partition(":")[0] in understood for one, _ in search.used)
    named = [
        name
        for name, _ in parameters
        if name in ("patient", "subject", "patient:Patient", "subject:Patient")
    ]
    assert bool(search.patients) is bool(named)
    assert not (strict and search.ignored)
    # What was used is the whole of what was understood.
    again = parse_search(search.used, SITE, strict=True)
    assert (again, again.ignored) == (search, [])
