"""Checks of ``access``: a rule on an attribute that the archive never sends hides everything."""

from collections.abc import Iterable, Sequence

from sidecar.bootstrap.access import named_keywords
from sidecar.bootstrap.build import Sidecar
from sidecar.check.outcome import CheckOutcome, failure_of, ok, warning
from sidecar.check.sample import NO_STUDY, sample
from sidecar.common.errors import Problem
from sidecar.dicom.json_model import Row, text, texts
from sidecar.dicomweb.paths import Query
from sidecar.settings.document import Settings


async def rules(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check how often rows of the archive have the attributes that rules and clients need."""
    all_rules = settings.access.rules
    for rule in all_rules:
        if rule.study is None and rule.series is None and rule.effect != "show":
            return warning(
                f"the rule {rule.name!r} has no condition: it applies to every study",
                "Is that what it is for?",
            )
    of_studies, of_series = named_keywords(settings)
    if not of_studies and not of_series:
        return ok("none: nothing is left out" if not all_rules else "no rule leaves anything out")
    try:
        studies = await sample(sidecar, Query("studies"), "StudyInstanceUID", *of_studies)
        if not studies:
            return NO_STUDY
        series = [
            row
            for study in studies[: 5 if of_series else 0]
            if (uid := text(study, "StudyInstanceUID"))
            for row in await sample(
                sidecar, Query("series", study=uid), "SeriesInstanceUID", *of_series
            )
        ]
    except Problem as problem:
        hint = "The archive does not answer for the attributes that the rules name; see its log."
        return failure_of(problem, hint)
    # The modalities of a study without ModalitiesInStudy are taken from its series.
    rare = _rare(studies, of_studies - {"ModalitiesInStudy"}) + _rare(series, of_series)
    if rare:
        return warning(
            f"not every study or series of a sample has a value: {', '.join(rare)}",
            "A rule that excludes or holds by it applies to those without, too (unless it says "
            "unknown: ignored), and a client's studies by it are those with a value. Does the "
            "archive send it in QIDO-RS? Orthanc: ExtraMainDicomTags.",
        )
    return ok(
        f"{len(all_rules)} rule{'' if len(all_rules) == 1 else 's'}; "
        "the archive has their attributes"
    )


def _rare(rows: Sequence[Row], keywords: Iterable[str]) -> list[str]:
    """Return each keyword without a value in some rows, and how many rows have a value."""
    counts = {word: sum(bool(texts(row, word)) for row in rows) for word in sorted(keywords)}
    some = [(word, count) for word, count in counts.items() if count < len(rows)]
    return [f"{word} {count} of {len(rows)}" for word, count in some]


async def clients(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that each backend client has patients."""
    if not settings.access.backend_services:
        return ok("Backend Services are off")
    if not settings.access.clients:
        return warning(
            "Backend Services are on, but no client has patients",
            "Add access.clients, or switch them off.",
        )
    without = 0
    for client_id in settings.access.clients:
        try:
            client = await sidecar.clients.client(client_id)
        except Problem as problem:
            return failure_of(
                problem,
                "A Group cannot be read at the EHR: patients.client needs a scope such as "
                "system/Group.r.",
            )
        without += client is None or not client.patients
    if without:
        return warning(
            f"{without} of {len(settings.access.clients)} may see nobody",
            "No source at all, an empty or unreadable patients_file, a Group without active "
            "members, or none such.",
        )
    return ok(f"{len(settings.access.clients)}, each with patients")


async def external(settings: Settings, sidecar: Sidecar) -> CheckOutcome:
    """Check that the external policy answers, and refuses a made-up patient's study."""
    if sidecar.external is None:
        return ok("off")
    try:
        verdict = await sidecar.external.probe()
    except Problem as problem:
        return failure_of(
            problem,
            "Nothing usable listens there: check access.external.url, the network, and, with "
            "https, access.external.ca_file."
            if problem.reason == "policy_unreachable"
            else 'It must answer POST {"input": …} with {"result": true}, false, or {"allow": …, '
            '"exclude_series": […]}; OPA answers {} for a rule that does not exist or has no '
            "default.",
        )
    if verdict.allow:
        return warning(
            "it allows a made-up patient's study to nobody in particular",
            "Is its default false, as it should be?",
        )
    return ok("it answers, and refuses a made-up patient's study")
