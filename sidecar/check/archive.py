"""Checks of the archive that need no patient's token: QIDO-RS, dialect, rows, counts, changes."""

from sidecar.access.facts import KnownAs, Part
from sidecar.bootstrap.build import Sidecar
from sidecar.bootstrap.pacs import CHANGES_SECONDS
from sidecar.check.character_sets import hint_of_rows
from sidecar.check.outcome import CheckOutcome, failure, failure_of, ok, skipped, warning
from sidecar.check.sample import NO_STUDY, sample
from sidecar.common.errors import Problem
from sidecar.common.fetch import FetchFailed
from sidecar.dicom.json_model import Row, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.pacs.counts import count_instances
from sidecar.pacs.detection import detect_dialect, likely_root
from sidecar.pacs.issuer_check import is_generated
from sidecar.settings.document import Settings

_MADE_UP = "DCM4CHEE.*"
"""Pattern of dcm4chee's default ``DCM4CHEE.{PatientName,hash}.{PatientBirthDate,hash}``."""
_KEYWORDS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")


async def query(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that QIDO-RS answers."""
    try:
        await sidecar.pacs.ping()
    except Problem as problem:
        kind = "tls" if "tls_" in problem.for_operators() else problem.reason
        hint = _QUERY_HINTS.get(kind) or await _hint_of_root(settings, sidecar)
        return failure_of(problem, hint)
    return ok(settings.pacs.url)


async def _hint_of_root(settings: Settings, sidecar: Sidecar) -> str:
    root = await likely_root(sidecar.pacs)
    if root is not None:
        return f"{settings.pacs.url} is not the DICOMweb root: set pacs.url: {root}"
    return (
        f"Is pacs.url the DICOMweb root ({settings.pacs.url}; its /studies is asked), and "
        "pacs.dialect right?"
    )


_QUERY_HINTS = {
    "pacs_busy": "The archive says that it is busy: run the check again, and see its log.",
    "pacs_credentials": "The archive refuses us: check pacs.auth.",
    "pacs_unreachable": "Nothing answers there: check pacs.url and the network.",
    "tls": "What answers there has no certificate that we trust: check pacs.ca_file, and the name "
    "in pacs.url.",
}


async def dialect(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that the archive is the product that ``pacs.dialect`` names."""
    configured = settings.pacs.dialect
    detected = await detect_dialect(sidecar.pacs)
    if detected is None:
        if configured == "generic":
            return ok("generic: neither Orthanc nor dcm4chee was recognized")
        return warning(
            f"{configured}, but nothing shows that it is one",
            f"Is pacs.url its DICOMweb root? Is {configured} what runs there?",
        )
    if detected != configured:
        return failure(
            f"{configured}, but this is {detected}",
            f"Set pacs.dialect: {detected}; else queries may be misread.",
        )
    return ok(f"{detected}, as recognized")


async def studies(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check the patients and issuers in the archive's rows, and that it pages."""
    try:
        rows = await sample(sidecar, Query("studies"), *_KEYWORDS)
        second = (
            await sample(sidecar, Query("studies"), *_KEYWORDS, limit=1, offset=1)
            if len(rows) > 1
            else []
        )
    except Problem as problem:
        return failure_of(problem, hint_of_rows(problem))
    if not rows:
        return NO_STUDY
    return _judge(settings, rows, second)


def _judge(settings: Settings, rows: list[Row], second: list[Row]) -> CheckOutcome:
    uids = [text(row, "StudyInstanceUID") for row in rows]
    if len(rows) > 1 and (not second or text(second[0], "StudyInstanceUID") == uids[0]):
        return failure(
            "offset=1 brings the first study again",
            "The archive does not page, or a limit of its own "
            "cuts lists: Orthanc's LimitFindResults must be 0: searches could miss studies.",
        )
    without = sum(text(row, "PatientID") is None for row in rows)
    if without == len(rows):
        return failure(
            f"none of {len(rows)} studies has a PatientID", "Its QIDO-RS must return 0010,0020."
        )
    configured, patterns = _issuers(settings), settings.pacs.generated_issuers
    issuers = [issuer for row in rows if (issuer := text(row, "IssuerOfPatientID"))]
    usable = {issuer for issuer in issuers if not is_generated(issuer, patterns)}
    # A generated issuer that counts as none does not match a configured issuer.
    made_up = sum(
        is_generated(issuer, [_MADE_UP]) for issuer in issuers if configured or issuer in usable
    )
    if made_up:
        return warning(
            f"{made_up} of {len(rows)} studies have an issuer that dcm4chee made up from name and "
            "birth date",
            "With an issuer configured they are nobody's. Have the archive use that issuer "
            "(docs/dcm4chee.md), and correct what it has already."
            if configured
            else "A patient whose name is spelled in two ways gets nothing. Have the archive use a "
            f"fixed issuer, or set pacs.generated_issuers: [{_MADE_UP}] if its numbers are unique "
            "(docs/dcm4chee.md).",
        )
    if configured and not configured & usable:
        return warning(
            f"none of {len(rows)} studies names an issuer that is configured",
            "With an issuer set, a study "
            "counts only when the archive names the same (docs/configuration.md, patients).",
        )
    some_without = sum(issuer in usable for issuer in issuers) < len(rows)
    if not configured and len(usable) + some_without > 1:
        return warning(
            f"{len(rows)} studies name {len(usable)} issuers of patient IDs"
            + ", or none" * some_without,
            "One number may then be two people: set patients.issuer, or issuer in "
            "patients.identifiers.",
        )
    note = f"; {without} without a PatientID reach nobody" if without else ""
    if as_none := sum(issuer not in usable for issuer in issuers):
        note += f"; {as_none} with an issuer that counts as none (pacs.generated_issuers)"
    return ok(f"{len(rows)} looked at{note}")


async def counts(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that the archive returns the number of instances of a study and of a series."""
    try:
        rows = await sample(sidecar, Query("studies"), *_KEYWORDS)
    except Problem as problem:
        return failure_of(problem, hint_of_rows(problem))
    usable = [row for row in rows if text(row, "StudyInstanceUID") and owner_of(row).patient_id]
    if not usable:
        return skipped("the archive has no study of a patient that we may see: nothing to look at")
    study = Part(text(usable[0], "StudyInstanceUID") or "")
    known_as = frozenset({owner_of(usable[0])})
    try:
        in_study = await count_instances(sidecar.pacs, study, known_as)
        in_series = await _count_a_series(sidecar, study, known_as)
    except Problem as problem:
        return failure_of(problem, _COUNT_HINTS.get(problem.reason, hint_of_rows(problem)))
    if in_study is None or in_series is None:
        return warning("the study that was looked at changed meanwhile", "Run the check again.")
    return ok("the archive says how many instances a study and a series have")


async def _count_a_series(sidecar: Sidecar, study: Part, known_as: KnownAs) -> int | None:
    rows = await sample(sidecar, Query("series", study=study.study), limit=1)
    series = next((uid for row in rows if (uid := text(row, "SeriesInstanceUID"))), None)
    if series is None:
        return None
    return await count_instances(sidecar.pacs, Part(study.study, series), known_as)


_COUNT_HINTS = {
    "pacs_uncounted": "Whole studies, series and their metadata are refused: nobody could tell a "
    "part of one from the whole. Its QIDO-RS must return NumberOfStudyRelatedInstances (0020,1208) "
    "and NumberOfSeriesRelatedInstances (0020,1209), or list a study's /instances, within "
    "limits.query_results.",
    "pacs_query_refused": "The archive refuses the query for the numbers of one study (400); its "
    "log says why. Until it answers, such studies and series cannot be retrieved as a whole.",
}


def _issuers(settings: Settings) -> set[str | None]:
    patients = settings.patients
    issuers = [patients.issuer, *(identifier.issuer for identifier in patients.identifiers)]
    return {issuer for issuer in issuers if issuer is not None}


async def changes(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that Orthanc's ``/changes`` can be read, if ``serve`` follows them."""
    if sidecar.changes is None:
        return ok(f"not followed: lists are up to {settings.limits.search_cache_seconds:g} s old")
    try:
        await sidecar.changes.poll()
    except FetchFailed as error:
        return failure_of_changes(error)
    return ok(f"followed, every {CHANGES_SECONDS} s")


def failure_of_changes(error: FetchFailed) -> CheckOutcome:
    """Return the outcome for ``/changes`` that cannot be read."""
    why = error.reason if error.detail is None else f"{error.reason} ({error.detail})"
    return failure(
        f"/changes cannot be read: {why}",
        "It wants Orthanc's REST root (http://orthanc:8042), not its DICOMweb root; pacs.auth must "
        "be good there.",
    )
