"""An unknown key has a line with the keys that may be meant, wherever they stand."""

import re

import pytest
import yaml

from tests.settings.loading import Write, problems
from tests.tables.settings import MINIMUM


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("server.max_connections", ["limits.pacs_connections", "limits.client_connections"]),
        ("ehr.timeout_seconds", ["limits.ehr_timeout_seconds"]),
        ("pacs.timeout_seconds", ["limits.pacs_timeout_seconds"]),
        ("pacs.max_results", ["limits.query_results"]),
        ("patients.cache_ttl_seconds", ["limits.patient_cache_seconds"]),
        ("fhir.catalog.clock_skew_seconds", ["limits.clock_skew_seconds"]),
        ("access.external.cache_seconds", ["limits.external_cache_seconds"]),
        ("ehr.port", ["server.port"]),
        ("server.ehr_timeout_seconds", ["limits.ehr_timeout_seconds"]),
        ("server.deferred_seconds", ["limits.deferred_seconds"]),
        ("tokens.clock_skew_seconds", ["limits.clock_skew_seconds"]),
        ("workers", ["server.workers"]),
    ],
)
def test_a_key_of_another_section_is_found(write: Write, written: str, meant: list[str]) -> None:
    """The line names the whole path, the nearest first."""
    *sections, last = written.split(".")
    document: object = {last: 1}
    for section in reversed(sections):
        document = {section: document}
    (problem,) = problems(write(MINIMUM), write(yaml.safe_dump(document), "second.yaml"))
    found = re.match(rf"second\.yaml: {written}: unknown key; did you mean (.*)\? \(", problem)
    assert found is not None, problem
    assert found[1].split(" or ")[: len(meant)] == meant


def test_a_key_that_is_like_no_other_has_no_suggestion(write: Write) -> None:
    (problem,) = problems(write(MINIMUM), write("pacs: {s4s_extension: true}", "second.yaml"))
    assert problem.startswith("second.yaml: pacs.s4s_extension: unknown key (known here: auth, ")
