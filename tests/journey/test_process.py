"""The process as operators see it: introspections, metrics, logs, memory, its end."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
import requests

from sidecar.demo.ehr.app import STORE
from sidecar.demo.people import WITH_TEST_FILES
from tests.journey.conftest import ONE_OF_OURS
from tests.journey.memory import ALLOWED_GROWTH, retrieve_watching_memory
from tests.journey.world import LARGE_STUDY, LARGE_STUDY_PATIENT, World


def test_one_introspection_for_many_requests(world: World) -> None:
    """DESIGN: one per token and TTL, however many come at once."""
    headers = {"Authorization": f"Bearer {world.token('peter')}"}
    url = f"{world.sidecar.fhir}/ImagingStudy?patient=peter"
    before = world.sidecar.metric("smart_imaging_introspections_total")
    with ThreadPoolExecutor(32) as pool:
        statuses = list(
            pool.map(
                lambda _: requests.get(url, headers=headers, timeout=60).status_code, range(200)
            )
        )
    assert set(statuses) == {200}
    assert world.sidecar.metric("smart_imaging_introspections_total") == before + 1


def test_health_and_readiness(world: World) -> None:
    """The admin listener."""
    assert requests.get(world.sidecar.admin + "/healthz", timeout=60).status_code == 200
    assert requests.get(world.sidecar.admin + "/readyz", timeout=60).json() == {"status": "ready"}
    assert requests.get(world.sidecar.url + "/metrics", timeout=60).status_code == 404


def test_a_revoked_token_ends(world: World) -> None:
    """SIA-10: one that was never cached at once; the bound for others is the cache's TTL (docs)."""
    token = world.token("peter")
    world.background.call(lambda: world.ehr[STORE].revoke(token))
    url = f"{world.sidecar.fhir}/ImagingStudy?patient=peter"
    assert (
        requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code
        == 401
    )


@pytest.mark.parametrize("megabytes_per_second", [None, 40])
@pytest.mark.parametrize("world", ONE_OF_OURS, indirect=True)
def test_memory_is_bounded(
    world: World, megabytes_per_second: int | None, record_property: pytest.FixtureRequest
) -> None:
    """A 150 MB study at full speed and throttled: the resident set stays within 60 MB of idle; the
    figure is reported.

    CI throttles to 40 MB/s to stay short; ``tests/journey/memory.py`` does 1 MB/s for the record.
    """
    session = world.session(LARGE_STUDY_PATIENT)
    url = f"{world.root(LARGE_STUDY_PATIENT)}/studies/{LARGE_STUDY}"
    session.get(f"{world.sidecar.fhir}/ImagingStudy", timeout=60)  # Warm: imports, pools, caches.
    growth, size, _ = retrieve_watching_memory(world, session, url, megabytes_per_second)
    assert size > 150_000_000
    print(
        f"\nresident set grew by {growth / 2**20:.1f} MB "
        f"at {megabytes_per_second or 'full'} MB/s over {size} bytes"
    )
    assert growth < ALLOWED_GROWTH


def test_logs_and_metrics_name_nobody(world: World, files: Path) -> None:
    """No token, patient, study or address of an upstream; and each line is JSON with what operators
    need.
    """
    token = world.token("peter")
    headers = {"Authorization": f"Bearer {token}"}
    some = world.of("peter")[0]
    for path in (
        f"/fhir/ImagingStudy?patient=peter&identifier=urn:oid:{some.study}",
        "/fhir/ImagingStudy?patient=robin",
        f"/wado-rs/studies/{some.study}/metadata",
        f"/wado-rs/studies/{world.of('robin')[0].study}",
        "/wado-rs/studies/1.2.3",
        "/fhir/ImagingStudy?patient=peter&_count=" + token,
    ):
        requests.get(world.sidecar.url + path, headers=headers, timeout=60)
    written = world.sidecar.log + requests.get(world.sidecar.admin + "/metrics", timeout=60).text
    secrets = {token, *(mrn for one in WITH_TEST_FILES for mrn in one.mrns if len(mrn) > 4)}
    secrets |= {one.id for one in WITH_TEST_FILES} | {one.family for one in WITH_TEST_FILES}
    secrets |= {uid for one in world.instances for uid in (one.study, one.series, one.uid)}
    secrets |= {
        str(pydicom.dcmread(file, specific_tags=["PatientName"]).get("PatientName", ""))
        for file in sorted(files.glob("*.dcm"))[:40]
    } - {"", "None"}
    found = {
        secret
        for secret in secrets
        if secret in written and re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", written)
    }
    assert not found
    lines = [json.loads(line) for line in world.sidecar.log.splitlines()]
    last = [line for line in lines if line["message"] == "request"][-1]
    assert last.keys() >= {
        "time",
        "level",
        "request_id",
        "route",
        "method",
        "status",
        "seconds",
        "durations",
        "reason",
    }


def test_request_ids(world: World) -> None:
    """Each answer carries the id that its log line has."""
    response = requests.get(world.sidecar.fhir + "/ImagingStudy", timeout=60)
    assert f'"request_id":"{response.headers["X-Request-Id"]}"' in world.sidecar.log
