"""The exposition: readable by Prometheus, with the promised names and constant labels."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.telemetry.metrics import Metrics
from tests.durations import durations_of_a_request
from tests.telemetry.usage import use

# Names and labels that dashboards rely on.
PROMISED: dict[str, tuple[str, set[str]]] = {
    "smart_imaging_requests": ("counter", {"route", "method", "status"}),
    "smart_imaging_request_duration_seconds": ("histogram", {"route"}),
    "smart_imaging_access_decisions": ("counter", {"decision", "reason"}),
    "smart_imaging_introspections": ("counter", {"outcome"}),
    "smart_imaging_introspection_duration_seconds": ("histogram", set()),
    "smart_imaging_token_cache_lookups": ("counter", {"result"}),
    "smart_imaging_pacs_requests": ("counter", {"kind", "status"}),
    "smart_imaging_pacs_first_byte_seconds": ("histogram", {"kind"}),
    "smart_imaging_streams_active": ("gauge", set()),
    "smart_imaging_streamed_bytes": ("counter", {"kind"}),
    "smart_imaging_streams": ("counter", {"kind", "outcome"}),
    "smart_imaging_verification_failures": ("counter", {"what"}),
    "smart_imaging_build_info": ("gauge", {"version"}),
}


def used() -> Metrics:
    """Each metric with one value."""
    metrics = Metrics("1.2.3")
    use(metrics)
    return metrics


def test_the_promised_names_and_labels() -> None:
    """``_total`` belongs to a counter's samples in the text format."""
    families = {
        family.name: family for family in text_string_to_metric_families(used().expose().decode())
    }
    for name, (kind, labels) in PROMISED.items():
        family = families[name]
        assert family.type == kind
        assert family.documentation
        found = {label for sample in family.samples for label in sample.labels if label != "le"}
        assert found == labels, name
        if kind == "counter":
            assert f"{name}_total" in {sample.name for sample in family.samples}


def test_every_metric_has_the_prefix() -> None:
    for line in used().expose().decode().splitlines():
        assert re.match(r"# (HELP|TYPE) smart_imaging_|smart_imaging_", line), line


def test_values() -> None:
    registry = used().registry
    value = registry.get_sample_value
    assert (
        value(
            "smart_imaging_requests_total", {"route": "wado-rs", "method": "GET", "status": "200"}
        )
        == 1
    )
    assert value("smart_imaging_streamed_bytes_total", {"kind": "study"}) == 2**40
    assert value("smart_imaging_introspections_total", {"outcome": "active"}) == 1
    assert value("smart_imaging_introspection_duration_seconds_sum") == 0.01
    assert value("smart_imaging_token_cache_lookups_total", {"result": "hit"}) == 1
    assert value("smart_imaging_pacs_requests_total", {"kind": "query", "status": "200"}) == 1
    assert value("smart_imaging_pacs_first_byte_seconds_count", {"kind": "query"}) == 1
    assert value("smart_imaging_verification_failures_total", {"what": "instance"}) == 1
    assert value("smart_imaging_build_info", {"version": "1.2.3"}) == 1
    assert value("smart_imaging_streams_active") == 1


@pytest.mark.parametrize("seconds", [0.0009, 0.03, 4, 250])
def test_durations_from_a_cache_hit_to_a_large_study_have_a_bucket(seconds: float) -> None:
    metrics = Metrics("1")
    metrics.request_duration.labels("x").observe(seconds)
    buckets = [
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "smart_imaging_request_duration_seconds_bucket"
        and sample.labels["le"] != "+Inf"
    ]
    assert 0 < len([bucket for bucket in buckets if bucket.value]) <= len(buckets)


def test_two_sidecars_in_one_process_count_apart() -> None:
    one, two = Metrics("1"), Metrics("2")
    one.observe_token_lookup("hit")
    assert (
        two.registry.get_sample_value("smart_imaging_token_cache_lookups_total", {"result": "hit"})
        is None
    )


def test_requests_to_the_pacs_are_in_the_request_line() -> None:
    metrics = Metrics("1")
    with durations_of_a_request() as durations:
        metrics.observe_pacs("query", "200", 0.25)
        metrics.observe_pacs("study", "200", 0.5)
    assert durations == {"pacs": 0.75}
