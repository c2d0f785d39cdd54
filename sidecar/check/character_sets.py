"""Check of the archive's character sets: a PatientID that lost a character is another patient's."""

from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import CheckOutcome, failure, failure_of, ok, warning
from sidecar.check.sample import NO_STUDY, sample
from sidecar.common.errors import Problem
from sidecar.dicom.json_model import text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import UnknownTexts
from sidecar.settings.document import Settings

_UTF8 = "ISO_IR 192"
_TOO_MANY = (
    "Its answer is over a limit: limits.query_results for rows; those for bytes and values are "
    "fixed (docs/limits.md). A sample asks for 50 rows: does the archive heed limit?"
)
_UNKNOWN_HINT = (
    "Their SpecificCharacterSet (0008,0005) is missing or wrong: correct it in the archive. How to "
    "find them: docs/check.md, pacs.character_sets."
)
_ORTHANC_HINT = (
    'Set "DefaultEncoding": "Utf8" in Orthanc\'s configuration and restart it; what is stored need '
    "not be sent again (docs/orthanc.md)."
)


def hint_of_rows(problem: Problem) -> str:
    """Return what to do about an archive whose lists of studies cannot be used."""
    if isinstance(problem, UnknownTexts):
        return _ORTHANC_HINT
    if problem.reason in ("query_too_many_results", "query_too_large"):
        return _TOO_MANY
    return "The archive does not answer QIDO-RS /studies as JSON; see its log."


async def character_sets(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check the archive's character set, and that the PatientIDs of a sample can be read.

    Orthanc writes rows in the character set of its ``DefaultEncoding``, and names that set.
    """
    try:
        character_set = await sidecar.pacs.character_set()
        keywords = ("PatientID", "IssuerOfPatientID", "StudyDescription")
        rows = await sample(sidecar, Query("studies"), *keywords)
    except UnknownTexts:
        return failure(
            "it would leave characters out of texts, so its lists are refused", _ORTHANC_HINT
        )
    except Problem as problem:
        return failure_of(problem, hint_of_rows(problem))
    if not rows:
        return NO_STUDY
    unknown = sum(
        text(row, "PatientID") is not None and not owner_of(row).patient_id for row in rows
    )
    if unknown:
        return warning(
            f"{unknown} of {len(rows)} studies have a PatientID whose characters cannot be known: "
            "they reach nobody",
            _UNKNOWN_HINT,
        )
    if settings.pacs.dialect == "orthanc" and character_set != _UTF8:
        shown = character_set or "a character set that it does not name"
        return warning(f"Orthanc writes {shown}, which lacks characters", _ORTHANC_HINT)
    return ok(f"the PatientIDs of {len(rows)} studies can be read")
