"""A real Orthanc that has one PatientID under several issuers: nobody gets it, unless they count as
none (SIA-16).
"""

from collections.abc import Iterator

import aiohttp
import pytest

from tests.fakes.ehr import TOKEN
from tests.fakes.site import sidecar_between
from tests.real.issuers import put_study
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Client, Served, ehr

ROOT = "1.2.826.0.1.3680043.8.498.7"
MADE_UP = ("DCM4CHEE.1F2E3D4C.5B6A7988", "DCM4CHEE.1F2E3D4C.")
ARCHIVE = {
    "one issuer": ("HOSPITAL", "HOSPITAL"),
    "two issuers": ("HOSPITAL", "OTHERHOSP"),
    "an issuer and none": (None, "OTHERHOSP"),
    "made up": MADE_UP,
    "made up and none": (MADE_UP[0], None),
    "made up and real": (MADE_UP[0], "OTHERHOSP"),
}
PATIENTS = {name: f"i{number}" for number, name in enumerate(ARCHIVE, 1)}
SERVED = {
    # how many studies each gets, without and with pacs.generated_issuers
    "one issuer": (2, 2),
    "two issuers": (None, None),
    "an issuer and none": (None, None),
    "made up": (None, 2),
    "made up and none": (None, 2),
    "made up and real": (None, None),
}

pytestmark = pytest.mark.orthanc


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Each patient has two studies."""
    require_orthanc()
    with Orthanc() as running:
        for name, patient in PATIENTS.items():
            for number, issuer in enumerate(ARCHIVE[name]):
                study, folder = f"{ROOT}.{patient[1:]}.{number}", tmp_path_factory.mktemp(patient)
                put_study(running, folder, study, patient_id=patient, issuer=issuer)
        yield running


@pytest.mark.parametrize("name", ARCHIVE)
@pytest.mark.parametrize("are_named", [False, True], ids=["", "generated_issuers"])
async def test_who_gets_what(orthanc: Orthanc, name: str, are_named: bool) -> None:
    """In searches, in queries and in retrievals alike."""
    patient, wanted = PATIENTS[name], SERVED[name][are_named]
    pacs = {"dialect": "orthanc", "generated_issuers": ["DCM4CHEE.*"] if are_named else []}
    async with (
        sidecar_between(ehr(patient), Served(orthanc), pacs=pacs) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)
        if wanted is not None:
            assert (await client.bundle("/fhir/ImagingStudy"))["total"] == wanted
            assert len(await client.rows("/wado-rs/studies")) == wanted
        study = f"{ROOT}.{patient[1:]}.0"
        for path in (
            "/fhir/ImagingStudy",
            f"/fhir/ImagingStudy/{study}",
            f"/wado-rs/studies/{study}/metadata",
        ):
            assert (await client.get(path))[0] == (502 if wanted is None else 200), path
