"""A real Orthanc's series show whose its studies are, as its studies do (SIA-25, SIA-42)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import aiohttp
import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import text
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.studies import Studies
from tests.data import ct_study
from tests.permits import rows_of
from tests.real.orthanc import Orthanc, require_orthanc

FILED = {"alone": "12", "shares": "34", "shares, too": "45", "nobody's, too": "67", "": "7"}
"""PatientID -> the last digits of the StudyInstanceUIDs of the images."""
LISTED = {"alone": "12", "shares": "3", "shares, too": "5", "nobody's, too": "6"}

pytestmark = pytest.mark.orthanc


def uids(digits: str) -> list[str]:
    """The StudyInstanceUIDs that end so."""
    return [f"1.2.826.0.1.3680043.8.498.7.{digit}" for digit in digits]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Each study has two series."""
    require_orthanc()
    seeds = count()
    with Orthanc() as running:
        for patient, digits in FILED.items():
            for uid in uids(digits):
                folder = tmp_path_factory.mktemp("study")
                ct_study(
                    folder,
                    instances=2,
                    series=2,
                    patient_id=patient,
                    study_instance_uid=uid,
                    rows=8,
                    columns=8,
                    seed=next(seeds),
                )
                running.load_folder(folder)
        yield running


async def listed(
    orthanc: Orthanc, patient: str, *, by_series: bool
) -> tuple[dict[str, set[str]], frozenset[str], int]:
    """Of each study in the list its series; the studies that are shared; the number of queries."""
    asked: list[str] = []
    async with aiohttp.ClientSession() as session:
        pacs = PacsClient(
            session,
            orthanc.dicomweb_url,
            replace(DIALECTS["orthanc"], series_show_owners=by_series),
            timeout_seconds=60,
            observe=lambda kind, status, seconds: asked.append(status),
        )
        invalidation = Invalidation()
        ownership = Ownership(pacs, invalidation=invalidation)
        studies = Studies(pacs, ownership, with_series=True, invalidation=invalidation)
        listing = await studies.of_patient(rows_of(PatientIdentifier(patient)))
    assert set(asked) == {"200"}
    series = {
        uid: {text(row, "SeriesInstanceUID") or "" for row in listing.whole_series(uid) or ()}
        for uid in (text(row, "StudyInstanceUID") or "" for row in listing.rows)
    }
    return series, listing.shared, len(asked)


@pytest.mark.parametrize("patient", LISTED)
async def test_two_queries_where_all_is_the_patients_and_a_third_for_the_rest(
    orthanc: Orthanc, patient: str
) -> None:
    """The list is the same as with the query for owners."""
    series, shared, queries = await listed(orthanc, patient, by_series=True)
    assert sorted(series) == uids(LISTED[patient])
    assert {len(below) for below in series.values()} == {2}
    assert shared == set(uids(FILED[patient])) - set(uids(LISTED[patient]))
    assert queries == (3 if shared else 2)
    assert await listed(orthanc, patient, by_series=False) == (series, shared, 3)
