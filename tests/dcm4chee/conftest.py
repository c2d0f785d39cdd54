"""Folders of small studies, made once."""

from pathlib import Path

import pytest

from tests.data import ct_study
from tests.dcm4chee.studies import (
    COMPRESSED,
    LARGE,
    MANY,
    MRN,
    OF_A,
    OF_B,
    OF_NOBODY,
    SEVERAL_FRAMES,
    SHARED,
    repeat_frame,
    small_study,
    undecodable_instance,
)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patient 4711 of issuer A: 23 studies of one image, one of two series of ten, some that are
    odd.
    """
    folder = tmp_path_factory.mktemp("many")
    for number, uid in enumerate(MANY):
        small_study(
            folder / str(number),
            uid,
            issuer="A",
            study_date=f"2024{number // 28 + 1:02}{number % 28 + 1:02}",
        )
    small_study(folder / "large", LARGE, issuer="A", instances=20, series=2)
    small_study(folder / "compressed", COMPRESSED, issuer="A")
    (file,) = (folder / str(MANY.index(SEVERAL_FRAMES))).iterdir()
    repeat_frame(file)
    undecodable_instance(folder / "compressed" / "undecodable.dcm", COMPRESSED)
    return folder


@pytest.fixture(scope="session")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Number 4711 given three times: by issuer A, by issuer B, and by nobody knows whom; one UID is
    under A and B.
    """
    folder = tmp_path_factory.mktemp("issuers")
    for issuer, uids in (("A", OF_A), ("B", OF_B), ("", OF_NOBODY)):
        for uid in uids:
            small_study(folder / uid, uid, issuer=issuer)
    for seed, issuer in enumerate("AB"):
        ct_study(
            folder / f"shared-{issuer}",
            instances=1,
            patient_id=MRN,
            study_instance_uid=SHARED,
            seed=seed,
            rows=16,
            columns=16,
            issuer_of_patient_id=issuer,
        )
    return folder
