"""Values of the chart: which are accepted, which are refused and why."""

import copy
import itertools
import re
from typing import Any

import pytest

from tests.helm.rendering import (
    KUBERNETES,
    OTHER_KINDS,
    SWITCHES,
    every_manifest,
    helm,
    kubernetes_validate,
    rendered,
    values_of,
)
from tests.helm.schema import CHART, FILE, written
from tests.tables.helm_values import BROKEN


def _choices(name: str) -> list[dict[str, Any]]:
    return [{}, *SWITCHES[name]]


Way = tuple[str, int]
"""A switch, and which of its ways it stands."""


def rows_with_every_pair() -> list[dict[str, int]]:
    """Return rows, each with a way for every switch, so that each pair of ways is in some row
    (pairwise testing).
    """
    ways = {name: range(len(_choices(name))) for name in SWITCHES}
    missing: set[frozenset[Way]] = {
        frozenset(((one, way), (other, another)))
        for one, other in itertools.combinations(SWITCHES, 2)
        for way, another in itertools.product(ways[one], ways[other])
    }
    rows = []
    while missing:
        row: dict[str, int] = dict(sorted(min(missing, key=sorted)))
        for name in [name for name in SWITCHES if name not in row]:
            row[name] = max(
                ways[name],
                key=lambda way: sum(
                    frozenset((one, (name, way))) in missing for one in row.items()
                ),
            )
        missing -= {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}
        rows.append(row)
    return rows


def test_switches_together() -> None:
    """Each way of each switch is beside each way of each other one in some of the charts that are
    rendered.
    """
    for row in rows_with_every_pair():
        values = {key: values_of()[key] for key in ("config", "secrets")}
        for name, way in row.items():
            values |= copy.deepcopy(_choices(name)[way])
        rendered(values, versions=KUBERNETES[-1:])


@pytest.mark.exhaustive
@pytest.mark.parametrize("pair", list(itertools.combinations(SWITCHES, 2)), ids="+".join)
def test_every_pair_of_switches(pair: tuple[str, str]) -> None:
    """Each way that each of them can stand, with each of the other."""
    for one, other in itertools.product(_choices(pair[0]), _choices(pair[1])):
        base = {key: values_of()[key] for key in ("config", "secrets")}
        rendered(base | copy.deepcopy(one) | copy.deepcopy(other), versions=KUBERNETES[-1:])


@pytest.mark.exhaustive
def test_every_combination_of_switches() -> None:
    """Each on or off, with all others on or off."""
    manifests = list(every_manifest("imaging"))
    for one in manifests:
        if one["kind"] not in OTHER_KINDS:
            kubernetes_validate.validate(one, KUBERNETES[-1], strict=True)
    assert len(manifests) > 20


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"config": {"pac": {}}}, "pac"),
    ({"config": {"pacs": {"url": 1}}}, "url"),
    ({"config": {"server": {"port": "soon"}}}, "port"),
    ({"config": {"access": {"rules": [{"name": "a", "effect": "hide"}]}}}, "effect"),
    ({"config": {"tokens": {"jwt": {"algorithms": ["none"]}}}}, "algorithms"),
    ({"config": {"audit": {"sink": "fax"}}}, "sink"),
    ({"spool": {"size": "much"}}, "size"),
    ({"replicas": 3}, "replicas"),
    ({"replicaCount": "two"}, "replicaCount"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"secrets": [{"items": ["a"]}]}, "secrets"),
    ({"secrets": [{"name": "UPPER"}]}, "secrets"),
    ({"networkPolicy": {"pacs": {"port": 0}}}, "port"),
    ({"serviceMonitor": {"interval": "often"}}, "interval"),
    ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
]


@pytest.mark.parametrize(("wrong", "named"), WRONG)
def test_wrong_values_are_refused(wrong: dict[str, Any], named: str) -> None:
    """Before anything is installed, and with the name of what is wrong."""
    values = values_of()
    for key, value in wrong.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError, match=named):
        chart.validate_schema(values)


@pytest.mark.parametrize(("broken", "says"), BROKEN)
def test_what_cannot_work_in_a_pod_is_refused(broken: dict[str, Any], says: str) -> None:
    """Valid settings, but a pod that would never be ready, or a secret that everybody can read."""
    values = values_of()
    for key, value in broken.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    with pytest.raises(helm.HelmError, match=re.escape(says)):
        rendered(values)


def test_what_is_right_is_accepted() -> None:
    """The test above can fail for no other reason than the wrong value."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values_of())


def test_the_schema_is_that_of_the_settings() -> None:
    assert FILE.read_text() == written(), "python -m tests.helm.schema writes it anew"
