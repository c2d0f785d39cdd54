"""What is odd about a real Orthanc: its dialect makes up for it."""

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import aiohttp
import pytest

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.dicom.json_model import tag
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Kind, Query, Retrieval
from sidecar.pacs.client import PacsClient
from sidecar.pacs.detection import detect_dialect, likely_root
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.listing import SERIES_FIELDS, STUDY_FIELDS
from sidecar.pacs.retrieve import RetrieveClient
from tests.data import ct_study
from tests.permits import ASKED, study_permit
from tests.real.orthanc import Orthanc, require_orthanc
from tests.tables.orthanc_patient_ids import PATIENT_IDS


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require_orthanc()
    directory = tmp_path_factory.mktemp("patients")
    with Orthanc() as running:
        for number, patient_id in enumerate(PATIENT_IDS):
            for path in ct_study(
                directory,
                instances=1,
                patient_id=patient_id,
                patient_name="Doe^Jane Q",
                study_instance_uid=f"1.2.826.0.1.3680043.8.498.9.{number}",
                rows=16,
                columns=16,
            ):
                running.load(path)
        yield running


@pytest.mark.orthanc
@pytest.mark.parametrize("patient_id", PATIENT_IDS)
async def test_any_patient_id_can_be_asked_for(orthanc: Orthanc, patient_id: str) -> None:
    """Orthanc 1.10 does not undo percent-encoding in a query: the patient's own row is among those
    that come.
    """
    async with aiohttp.ClientSession() as session:
        client = PacsClient(session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60)
        rows = await client.search(
            Query("studies"),
            [("PatientID", patient_id), ("includefield", "00100020,00100021")],
            permit=ASKED,
        )
    assert [row for row in rows if owner_of(row) == PatientIdentifier(patient_id)]
    assert patient_id not in {"*", "**"} or len(rows) < len(PATIENT_IDS), "not everybody's"


@pytest.mark.orthanc
async def test_a_name_can_be_asked_for(orthanc: Orthanc) -> None:
    async with aiohttp.ClientSession() as session:
        client = PacsClient(session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60)
        rows = await client.search(
            Query("studies"), [("PatientName", "Doe^Jane Q"), ("PatientID", "P-1")], permit=ASKED
        )
    assert len(rows) == 1


@pytest.mark.orthanc
async def test_it_splits_values_at_commas(orthanc: Orthanc) -> None:
    """In any attribute: ``a,b`` finds those of ``a`` and of ``b``, and not its own."""
    rows = await asyncio.to_thread(orthanc.get_json, "/dicom-web/studies?PatientID=a,b")
    assert sorted(row["00100020"]["Value"][0] for row in rows) == ["a", "b"]


@pytest.mark.orthanc
def test_it_knows_what_we_ask_for_by_keyword(orthanc: Orthanc) -> None:
    """It ignores a key that it does not know: a keyword that finds nothing, as its tag does, is
    known.
    """
    for keyword in {*STUDY_FIELDS, *SERIES_FIELDS} - {
        "InstanceAvailability",
        "TimezoneOffsetFromUTC",
    }:
        by_tag, by_keyword = (
            orthanc.get_json(f"/dicom-web/series?PatientID=P-1&{name}=77")
            for name in (tag(keyword), keyword)
        )
        assert by_tag == by_keyword == [], keyword


@pytest.mark.orthanc
async def test_it_has_other_keywords_for_what_is_retired(orthanc: Orthanc) -> None:
    """So these are named by tag: by keyword every study of the patient would match."""
    target = "/dicom-web/studies?PatientID=P-1&OtherPatientIDs=77"
    assert await asyncio.to_thread(orthanc.get_json, target)
    async with aiohttp.ClientSession() as session:
        client = PacsClient(session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60)
        assert (
            await client.search(
                Query("studies"), [("PatientID", "P-1"), ("00101000", "77")], permit=ASKED
            )
            == []
        )
        assert (
            await client.search(
                Query("studies"), [("PatientID", "P-1"), ("00081030", "77")], permit=ASKED
            )
            == []
        )
        assert (
            len(
                await client.search(
                    Query("studies"),
                    [("PatientID", "P-1"), ("00081030", "CT Thorax")],
                    permit=ASKED,
                )
            )
            == 1
        )


@pytest.mark.orthanc
async def test_its_bulk_data_are_where_ours_are_not(orthanc: Orthanc) -> None:
    """``…/bulk/7fe00010`` there, ``…/bulkdata/7fe00010`` with us."""
    (study,) = await asyncio.to_thread(
        orthanc.get_json, f"/dicom-web/studies?PatientID={quote('P-1')}"
    )
    (instance,) = await asyncio.to_thread(
        orthanc.get_json, f"/dicom-web/studies/{study['0020000D']['Value'][0]}/instances"
    )
    part = Part(*(instance[name]["Value"][0] for name in ("0020000D", "0020000E", "00080018")))
    async with aiohttp.ClientSession() as session:
        client = RetrieveClient(
            session, orthanc.dicomweb_url, DIALECTS["orthanc"], timeout_seconds=60
        )
        bulkdata = Retrieval(Kind.BULKDATA, part, steps=("7fe00010",))
        async with await client.open(study_permit("p1", part), bulkdata, accept="*/*") as response:
            assert response.status == 200


@pytest.mark.orthanc
async def test_it_has_no_head(orthanc: Orthanc) -> None:
    """It answers 404 to each, so a client's HEAD is a GET there: ``Dialect.answers_head``."""
    assert not DIALECTS["orthanc"].answers_head
    async with aiohttp.ClientSession() as session:
        for method, status in (("GET", 200), ("HEAD", 404)):
            async with session.request(method, f"{orthanc.dicomweb_url}/studies?limit=1") as answer:
                assert answer.status == status


@pytest.mark.orthanc
async def test_it_is_recognized(orthanc: Orthanc) -> None:
    async with aiohttp.ClientSession() as session:
        client = PacsClient(session, orthanc.dicomweb_url, DIALECTS["generic"], timeout_seconds=60)
        assert await detect_dialect(client) == "orthanc"


@pytest.mark.orthanc
@pytest.mark.parametrize(
    ("below", "meant"),
    [("", "/dicom-web"), ("/dicom-web/studies", "/dicom-web"), ("/dicom-web", None)],
)
async def test_the_root_is_found_from_beside(
    orthanc: Orthanc, below: str, meant: str | None
) -> None:
    async with aiohttp.ClientSession() as session:
        root = orthanc.url + below
        client = PacsClient(session, root, DIALECTS["orthanc"], timeout_seconds=60)
        assert await likely_root(client) == (meant and orthanc.url + meant)
