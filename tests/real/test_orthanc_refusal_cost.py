"""A real Orthanc is asked as often for somebody else's study as for one that it does not have
(SIA-45).
"""

from pathlib import Path

import aiohttp
import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.pacs.client import PacsClient
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.ownership import Ownership
from tests.real.character_sets import ENCODINGS, file, study_uid
from tests.real.orthanc import Orthanc, require_orthanc
from tests.tables.orthanc_character_sets import TABLE

pytestmark = pytest.mark.orthanc

SOMEBODY = frozenset({PatientIdentifier("somebody")})


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_refusal_costs_the_same_whatever_there_is(encoding: str, tmp_path: Path) -> None:
    """Orthanc 1.10 refuses the first form of the query for a study in ISO 2022, and is then asked
    in another one.
    """
    require_orthanc()
    asked: list[str] = []
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        for number, case in enumerate(TABLE):
            for one in file(tmp_path, number, case.character_set, case.stored):
                orthanc.load(one)
        async with aiohttp.ClientSession() as session:
            client = PacsClient(
                session,
                orthanc.dicomweb_url,
                DIALECTS["orthanc"],
                timeout_seconds=60,
                observe=lambda kind, status, seconds: asked.append(status),
            )
            ownership, seen = Ownership(client, invalidation=Invalidation()), {}
            cases = {case.name: study_uid(number) for number, case in enumerate(TABLE)}
            for name, uid in {
                **cases,
                "absent": study_uid(len(TABLE)),
                "absent, too": "1.2.3",
            }.items():
                asked.clear()
                await ownership.owners(uid, SOMEBODY)
                seen[name] = list(asked)
    assert {name: len(statuses) for name, statuses in seen.items()} == dict.fromkeys(seen, 2)
    # The table has what this is about.
    assert seen["absent"] == ["200", "200"]
    assert ["400", "200"] in seen.values()
