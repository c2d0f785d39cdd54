"""The invented patients of the demo, in the EHR and in the archive."""

from dataclasses import dataclass

MRN_SYSTEM = "http://hospital.example.org/mrn"
"""``Identifier.system`` of the demo EHR's medical record numbers, the archive's PatientIDs."""


@dataclass(frozen=True)
class DemoPatient:
    """Patient: ``id`` is the FHIR ``Patient.id``, ``mrns`` are the PatientIDs in the archive."""

    id: str
    family: str
    given: str
    gender: str
    birth_date: str
    mrns: tuple[str, ...]


ADA = DemoPatient("ada", "Example", "Ada", "female", "1974-05-12", ("SYN-1001",))
BRUNO = DemoPatient("bruno", "Specimen", "Bruno", "male", "1958-09-30", ("SYN-2002",))
"""Their images are phantoms."""

WITH_TEST_FILES: tuple[DemoPatient, ...] = (
    # A person with several medical record numbers, as after a merger of hospitals.
    DemoPatient(
        "robin",
        "Sample",
        "Robin",
        "female",
        "1978-11-20",
        ("1CT1", "4MR1", "13US1", "8NM1", "id00001"),
    ),
    # The images of these two are stamp-sized.
    DemoPatient("archibald", "Doe", "Archibald", "male", "1955-03-14", ("77654033",)),
    DemoPatient("peter", "Doe", "Peter", "male", "1961-07-02", ("98890234",)),
)
"""Their images are pydicom's bundled test files, whose PatientIDs and names are invented too."""

PATIENTS: tuple[DemoPatient, ...] = (ADA, BRUNO, *WITH_TEST_FILES)
"""All patients of the EHR. Other PatientIDs in the archive belong to people without a record."""
