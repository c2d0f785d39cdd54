"""Mapping ``direct``: the FHIR id is the PatientID, and nothing else."""

import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.patients.direct import DirectMapping


@pytest.mark.parametrize("patient", ["p1", "4711", "a-b.c", "x" * 64])
async def test_the_id_is_the_patient_id(patient: str) -> None:
    """SIA-12: one identifier, without issuer, that a PACS can be asked for to the letter."""
    mapping = DirectMapping()
    (identifier,) = await mapping.identifiers(patient)
    assert identifier == PatientIdentifier(patient, None)
    assert identifier.is_searchable()
    await mapping.close()
