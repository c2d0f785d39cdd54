"""dcm4chee identifies a patient by number and issuer: the same number of another issuer is another
person.
"""

from pathlib import Path
from typing import Any

import pytest

from sidecar.check.archive import studies as check_studies
from sidecar.conformance.finding import State
from sidecar.settings.adapter import ADAPTER
from tests.dcm4chee.behaviour import MODES, Behaviour, Mode
from tests.dcm4chee.coercion import HOSPITAL, supplemented
from tests.dcm4chee.site import STORED, SYSTEM_A, SYSTEM_B, Site, site_with
from tests.dcm4chee.studies import MANY, MRN, OF_A, OF_B, OF_NOBODY, SHARED, small_study
from tests.journey.forms import forms
from tests.journey.multipart import parts_of

PATIENTS = {"alice": [(SYSTEM_A, MRN)], "bob": [(SYSTEM_B, MRN)]}
ISSUERS = {SYSTEM_A: "A", SYSTEM_B: "B"}
OWN = {"alice": OF_A, "bob": OF_B}
FOREIGN = {"alice": OF_B, "bob": OF_A}


async def uids(site: Site, patient: str, path: str) -> set[str]:
    """The StudyInstanceUIDs of a query."""
    rows: list[dict[str, Any]] = await site.json(patient, path)
    return {row["0020000D"]["Value"][0] for row in rows}


async def part_uids(site: Site, study: str) -> tuple[str, str]:
    """The series and instance of a study, asked for at the archive itself."""
    root = f"http://127.0.0.1:{site.port}/dcm4chee-arc/aets/DCM4CHEE/rs"
    async with site.client.get(f"{root}/studies/{study}/instances") as response:
        row = (await response.json(content_type=None))[0]
    return row["0020000E"]["Value"][0], row["00080018"]["Value"][0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("patient", ["alice", "bob"])
async def test_each_gets_only_their_own(issuers: Path, patient: str, mode: Mode) -> None:
    """Search, queries, and every form of a retrieval, with the issuer configured; rows have it only
    when asked.
    """
    async with site_with(
        issuers, Behaviour(mode), PATIENTS, issuers=ISSUERS, fhir={"detail": "instance"}
    ) as site:
        # Not the study whose UID is under both: it is never delivered.
        listed = set(OWN[patient])
        assert set(await site.studies(patient)) == listed
        for path in (
            "studies",
            "series",
            "instances",
            f"studies?StudyInstanceUID={','.join([*OF_A, *OF_B])}",
        ):
            assert await uids(site, patient, f"/wado-rs/{path}") <= listed
        assert (
            await uids(site, patient, "/wado-rs/studies?IssuerOfPatientID=*&PatientID=*") == listed
        )
        for foreign in FOREIGN[patient]:
            series, instance = await part_uids(site, foreign)
            for form, path in forms(foreign, series, instance).items():
                response, _ = await site.get(patient, f"/wado-rs/{path}", {"Accept": "*/*"})
                assert response.status == 404, form
            assert (await site.get(patient, f"/fhir/ImagingStudy/{foreign}"))[0].status == 404
        for own in OWN[patient]:
            response, body = await site.get(patient, f"/wado-rs/studies/{own}", STORED)
            assert response.status == 200
            assert len(parts_of(response.headers["Content-Type"], body)) == 1


@pytest.mark.parametrize("patient", ["alice", "bob"])
async def test_a_uid_of_two_patients_is_nobodys(issuers: Path, patient: str) -> None:
    """A retrieval by UID alone would bring both."""
    async with site_with(issuers, Behaviour(), PATIENTS, issuers=ISSUERS) as site:
        assert (await site.get(patient, f"/wado-rs/studies/{SHARED}", STORED))[0].status == 404
        assert (await site.get(patient, f"/wado-rs/studies/{SHARED}/metadata"))[0].status == 404


async def test_a_patient_with_numbers_of_both_issuers_gets_all(issuers: Path) -> None:
    patients = {"merged": [(SYSTEM_A, MRN), (SYSTEM_B, MRN)]}
    async with site_with(issuers, Behaviour(), patients, issuers=ISSUERS) as site:
        assert set(await site.studies("merged")) == {*OF_A, *OF_B, SHARED}
        for study in (*OF_A, *OF_B, SHARED):
            response, _ = await site.get("merged", f"/wado-rs/studies/{study}", STORED)
            assert response.status == 200


async def nothing_is_served(site: Site, patient: str) -> None:
    """Nobody can say which of the two is the patient: better nothing than somebody else's images
    (SIA-16).
    """
    study = OF_A[0]
    for path in (
        "/fhir/ImagingStudy",
        f"/fhir/ImagingStudy/{study}",
        "/wado-rs/studies",
        f"/wado-rs/studies/{study}",
        f"/wado-rs/studies/{study}/metadata",
        f"/wado-rs/studies/{study}/series",
    ):
        response, body = await site.get(patient, path)
        assert response.status == 502, path
        assert b"several people under this patient's number" in body


@pytest.mark.parametrize("mode", MODES)
async def test_without_an_issuer_configured_a_number_of_two_patients_gives_nothing(
    issuers: Path, mode: Mode
) -> None:
    async with site_with(issuers, Behaviour(mode), PATIENTS) as site:
        await nothing_is_served(site, "alice")


async def test_mapping_direct_a_number_of_two_patients_gives_nothing(issuers: Path) -> None:
    """``direct``: the FHIR id is the number."""
    direct = {"mapping": "direct", "identifiers": []}
    async with site_with(issuers, Behaviour(), {}, patients=direct) as site:
        await nothing_is_served(site, MRN)


async def test_mapping_direct_with_an_issuer(issuers: Path) -> None:
    direct = {"mapping": "direct", "identifiers": [], "issuer": "A"}
    async with site_with(issuers, Behaviour(), {}, patients=direct) as site:
        assert set(await site.studies(MRN)) == set(OF_A)
        for study, status in ((OF_A[0], 200), (OF_B[0], 404), (OF_NOBODY[0], 404), (SHARED, 404)):
            assert (await site.get(MRN, f"/wado-rs/studies/{study}", STORED))[0].status == status


async def test_with_an_issuer_configured_a_patient_without_one_is_somebody_else(
    issuers: Path,
) -> None:
    """The archive has a third patient of this number, of whom no issuer is known; alice is the one
    of issuer A.
    """
    async with site_with(issuers, Behaviour(), PATIENTS, issuers=ISSUERS) as site:
        assert not set(OF_NOBODY) & set(await site.studies("alice"))
        assert (await site.get("alice", f"/wado-rs/studies/{OF_NOBODY[0]}", STORED))[
            0
        ].status == 404


async def test_issuers_that_count_as_none(issuers: Path) -> None:
    """All three of this number are one person's then,
    as the site says that its numbers are unique.
    """
    patients = {"alice": [(SYSTEM_A, MRN)]}
    generated = {"generated_issuers": ["A", "B"]}
    async with site_with(issuers, Behaviour(), patients, pacs=generated) as site:
        assert set(await site.studies("alice")) == {*OF_A, *OF_B, *OF_NOBODY, SHARED}
    generated = {"generated_issuers": ["A"]}
    async with site_with(issuers, Behaviour(), patients, pacs=generated) as site:
        await nothing_is_served(site, "alice")


@pytest.fixture(scope="session")
def unnumbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of 4711 as they were sent, without an issuer;
    her name is spelled in two ways.
    """
    folder = tmp_path_factory.mktemp("unnumbered")
    for uid, name in zip(MANY[:3], ["Doe^Jane", "Doe^Jane", "Doe^Jane^Mary"], strict=True):
        small_study(folder / uid, uid, issuer="", patient_name=name)
    return folder


@pytest.fixture(scope="session")
def by_default(unnumbered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same behind the archive's default rule, which makes issuers up."""
    return supplemented(unnumbered, tmp_path_factory.mktemp("by_default"), issuer=None)


async def checked(site: Site, **pacs: Any) -> tuple[State, str]:
    """What ``check`` says of the archive's rows, with this section ``pacs`` (``issuer``: that of
    the patients).
    """
    issuer = pacs.pop("issuer", None)
    document = {
        "server": {"public_url": "https://imaging.example.org"},
        "ehr": {"fhir_url": "https://ehr.example.org/fhir"},
        "tokens": {"client": {"method": "none"}},
        "patients": {"mapping": "direct", "issuer": issuer},
        "pacs": {"url": "https://pacs.example.org", **pacs},
    }
    finding = await check_studies(ADAPTER.validate_python(document), site.sidecar)
    return finding.state, finding.text


async def test_issuers_made_up_from_names(
    by_default: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is served, ``check`` says why; with ``pacs.generated_issuers`` everything is, and the
    log says so.
    """
    patients = {"alice": [(SYSTEM_A, MRN)]}
    async with site_with(by_default, Behaviour(), patients) as site:
        for path in ("/fhir/ImagingStudy", "/wado-rs/studies", f"/wado-rs/studies/{MANY[0]}"):
            assert (await site.get("alice", path))[0].status == 502
        state, text = await checked(site)
        assert (state, "3 of 3 studies have an issuer that dcm4chee made up" in text) == (
            State.WARN,
            True,
        )
    caplog.clear()
    generated = {"generated_issuers": ["DCM4CHEE.*"]}
    async with site_with(by_default, Behaviour(), patients, pacs=generated) as site:
        assert set(await site.studies("alice")) == set(MANY[:3])
        for study in MANY[:3]:
            response, body = await site.get("alice", f"/wado-rs/studies/{study}", STORED)
            assert (response.status, b"DCM4CHEE." in body) == (200, True)
        state, text = await checked(site, **generated)
        assert (state, "3 with an issuer that counts as none" in text) == (State.OK, True)
    (said,) = [one for one in caplog.records if getattr(one, "reason", None) == "generated_issuers"]
    assert said.__dict__["issuers"] == 2
    assert MRN not in said.getMessage()
    assert "DCM4CHEE" not in said.getMessage()


async def test_a_fixed_issuer(by_default: Path, unnumbered: Path, tmp_path: Path) -> None:
    """The archive's rule replaced: all are hers. What it gave out before under the other rule is
    nobody's, still.
    """
    patients, configured = {"alice": [(SYSTEM_A, MRN)]}, {SYSTEM_A: HOSPITAL}
    fixed = supplemented(unnumbered, tmp_path, issuer=HOSPITAL)
    async with site_with(fixed, Behaviour(), patients, issuers=configured) as site:
        assert set(await site.studies("alice")) == set(MANY[:3])
        response, body = await site.get("alice", f"/wado-rs/studies/{MANY[0]}", STORED)
        assert (response.status, HOSPITAL.encode() in body) == (200, True)
        assert (await checked(site, issuer=HOSPITAL))[0] is State.OK
    for generated in ({}, {"generated_issuers": ["DCM4CHEE.*"]}):
        async with site_with(
            by_default, Behaviour(), patients, issuers=configured, pacs=generated
        ) as site:
            assert await site.studies("alice") == []
            assert (await site.get("alice", f"/wado-rs/studies/{MANY[0]}", STORED))[0].status == 404
            state, text = await checked(site, issuer=HOSPITAL, **generated)
            assert (state, "3 of 3 studies have an issuer that dcm4chee made up" in text) == (
                State.WARN,
                True,
            )
