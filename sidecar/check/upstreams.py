"""Checks that need no patient's token: the EHR's discovery and introspection, our access to Patient, QIDO-RS."""

import secrets
from collections.abc import Awaitable, Callable

from sidecar.access.facts import KnownAs, Part
from sidecar.bootstrap.build import Sidecar
from sidecar.bootstrap.discovery import needed_of_discovery
from sidecar.check import permissions
from sidecar.check.character_sets import NAME as CHARACTER_SETS
from sidecar.check.character_sets import TOO_SLOW, character_sets, hint_of_rows
from sidecar.check.finding import OURS, failed, failure, ok, skipped, slow_ehr, warning
from sidecar.check.resources import NAME as RESOURCES
from sidecar.check.resources import resources
from sidecar.common.errors import BadGateway, Forbidden, Problem
from sidecar.common.fetch import FetchFailed
from sidecar.conformance.finding import Finding
from sidecar.dicom.json_model import Row, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.pacs.counts import count_instances
from sidecar.pacs.detection import detect_dialect
from sidecar.pacs.issuer_check import is_generated
from sidecar.settings.document import Settings
from sidecar.tokens.rejection import TokenRejected

Check = Callable[[Settings, Sidecar], Awaitable[Finding]]

_ISSUER_UNKNOWN = (
    " Nothing names the issuer, so iss in introspection answers is not compared: set ehr.issuer."
)

_SAMPLE = 50
"""Studies that are looked at to see what the archive writes."""
_MADE_UP = "DCM4CHEE.*"
"""What dcm4chee supplies by default: ``DCM4CHEE.{PatientName,hash}.{PatientBirthDate,hash}``."""
_FIELDS = includefield("PatientID", "IssuerOfPatientID", "StudyInstanceUID")


async def public_url(settings: Settings, sidecar: Sidecar) -> Finding:
    """Links in answers are made from it."""
    url = settings.server.public_url
    if "://localhost" in url or "://127." in url:
        return warning(
            "server.public_url",
            url,
            "Apps elsewhere cannot follow links to it: set the URL that they use.",
        )
    if url.startswith("http:"):
        return warning(
            "server.public_url",
            url,
            "Tokens must travel encrypted: put TLS in front, and write https here.",
        )
    if url.endswith(("/fhir", "/wado-rs")):
        return warning(
            "server.public_url", url, "/fhir and /wado-rs are added to it: leave them out here."
        )
    return ok(
        "server.public_url", f"{url} (not asked: it may lead through a proxy that is not there yet)"
    )


async def discovery(settings: Settings, sidecar: Sidecar) -> Finding:
    """The EHR's ``.well-known/smart-configuration``."""
    name, url, needed = (
        "ehr.smart_configuration",
        settings.ehr.fhir_url,
        needed_of_discovery(settings),
    )
    try:
        await sidecar.discovery.probe()
        found = await sidecar.discovery.configuration()
    except Problem as problem:
        if not needed:
            unknown = (
                _ISSUER_UNKNOWN
                if sidecar.discovery.is_absent and settings.ehr.issuer is None
                else ""
            )
            hint = slow_ehr(problem, "Not needed here; but apps find their login there (SIA-2).")
            return warning(name, problem.for_operators(), hint + unknown)
        hint = f"Is ehr.fhir_url right ({url}), and reachable from here? ehr.ca_file trusted?"
        return failed(name, problem, slow_ehr(problem, hint))
    if found.introspection_endpoint is None and "introspection_endpoint" in needed:
        return failure(
            name, f"{url} names no introspection_endpoint", "Set tokens.introspection.url."
        )
    unnamed = found.issuer is None and settings.ehr.issuer is None
    if unnamed and "issuer" in needed:
        return failure(
            name, f"{url} names no issuer", "Tokens cannot be verified without it: set ehr.issuer."
        )
    missing = [
        name
        for name in ("authorization_endpoint", "token_endpoint")
        if getattr(found, name) is None
    ]
    if missing:
        hint = "Apps find their login there (SIA-2)." + (_ISSUER_UNKNOWN if unnamed else "")
        return warning(name, f"{url} names no {' and no '.join(missing)}", hint)
    if unnamed:
        return warning(name, f"{url} names no issuer", _ISSUER_UNKNOWN.strip())
    if settings.ehr.issuer and found.issuer and found.issuer != settings.ehr.issuer:
        return warning(
            name,
            f"its issuer is {found.issuer}",
            f"ehr.issuer is {settings.ehr.issuer}: tokens of another issuer are refused.",
        )
    return ok(name, url)


async def keys(settings: Settings, sidecar: Sidecar) -> Finding:
    """The keys by which tokens, or introspection answers, are verified."""
    name = "tokens.jwt"
    if sidecar.tokens.jwks is None:
        return ok(name, "not used: tokens.validation is introspection")
    try:
        count = await sidecar.tokens.jwks.probe()
    except Problem as problem:
        hint = "Does the EHR's smart-configuration name jwks_uri? Else set tokens.jwt.jwks_url."
        return failed(name, problem, slow_ehr(problem, hint))
    if count == 0:
        return failure(
            name,
            "the JWKS has no key that verifies signatures",
            "Is tokens.jwt.jwks_url the public keys?",
        )
    return ok(name, f"{count} public key{'s' if count > 1 else ''}")


async def introspection(settings: Settings, sidecar: Sidecar) -> Finding:
    """A token that nobody issued must be inactive, and we must be allowed to ask."""
    name = "tokens.introspection"
    if sidecar.tokens.introspection is None or settings.tokens.client is None:
        return ok(
            name, "not used: tokens.validation is jwt, so a revoked token works until it expires"
        )
    try:
        is_active = (
            await sidecar.tokens.introspection.introspect(secrets.token_urlsafe(32)) is not None
        )
    except TokenRejected:
        is_active = True
    except BadGateway as problem:
        return failed(
            name,
            problem,
            "The authorization server refuses us: check tokens.client (id, secret, method), and "
            "that this client may introspect.",
        )
    except Problem as problem:
        return failed(
            name,
            problem,
            slow_ehr(
                problem,
                "The endpoint must answer a POST with JSON, active: false for an unknown token (RFC "
                "7662 2.2); set tokens.introspection.url if it is elsewhere.",
            ),
        )
    if is_active:
        return failure(
            name,
            "a made-up token is active",
            "Whatever answers there is no introspection endpoint. Do not serve.",
        )
    return ok(
        name, f"a made-up token is inactive; we are accepted by {settings.tokens.client.method}"
    )


async def patients(settings: Settings, sidecar: Sidecar) -> Finding:
    """With ``mapping: ehr`` our own access must read Patients."""
    name = "patients.mapping"
    if settings.patients.mapping == "direct":
        return ok(name, "direct: the FHIR Patient.id is the PatientID at the PACS")
    try:
        await sidecar.patients.identifiers("check-" + secrets.token_hex(8))
    except Forbidden as problem:
        return failed(
            name,
            problem,
            "The EHR answers a made-up Patient with another one's record. Do not serve.",
        )
    except Problem as problem:
        return failed(
            name,
            problem,
            slow_ehr(
                problem,
                "We cannot read Patient at the EHR: check patients.client, its scope, and its key "
                "(the EHR must know the public half).",
            ),
        )
    return ok(
        name,
        f"ehr: a made-up Patient is not there; we are accepted by {settings.patients.client.method}",
    )


async def query(settings: Settings, sidecar: Sidecar) -> Finding:
    """QIDO-RS answers."""
    name = "pacs.query"
    try:
        await sidecar.pacs.ping()
    except Problem as problem:
        return failed(
            name,
            problem,
            _QUERY_HINTS.get(
                "tls" if "tls_" in problem.for_operators() else problem.reason,
                f"Is pacs.url the DICOMweb root ({settings.pacs.url}; its /studies is asked)?",
            ),
        )
    return ok(name, settings.pacs.url)


_QUERY_HINTS = {
    "pacs_query_refused": "The archive refuses our query: is pacs.dialect right, and pacs.url its DICOMweb root?",
    "pacs_credentials": "The archive refuses us: check pacs.auth.",
    "pacs_unreachable": "Nothing answers there: check pacs.url and the network.",
    "tls": "What answers there has no certificate that we trust: check pacs.ca_file, and the name in pacs.url.",
    "pacs_timeout": TOO_SLOW,
    "pacs_warming": TOO_SLOW,
}


async def dialect(settings: Settings, sidecar: Sidecar) -> Finding:
    """Which product it is."""
    name, configured = "pacs.dialect", settings.pacs.dialect
    found = await detect_dialect(sidecar.pacs)
    if found is None:
        if configured == "generic":
            return ok(name, "generic: neither Orthanc nor dcm4chee was recognized")
        return warning(
            name,
            f"{configured}, but nothing tells that it is one",
            f"Is pacs.url its DICOMweb root? Is {configured} what runs there?",
        )
    if found != configured:
        return failure(
            name,
            f"{configured}, but this is {found}",
            f"Set pacs.dialect: {found}; else queries may be misread.",
        )
    return ok(name, f"{found}, as recognized")


async def studies(settings: Settings, sidecar: Sidecar) -> Finding:
    """What the archive's rows say of patients, and whether it pages."""
    name = "pacs.studies"
    try:
        rows = await sidecar.pacs.search(Query("studies"), (_FIELDS,), limit=_SAMPLE, permit=OURS)
        second = (
            await sidecar.pacs.search(Query("studies"), (_FIELDS,), limit=1, offset=1, permit=OURS)
            if len(rows) > 1
            else []
        )
    except Problem as problem:
        return failed(name, problem, hint_of_rows(problem))
    if not rows:
        return skipped(name, "the archive has no study that we may see: nothing to look at")
    return _judge(name, settings, rows, second)


def _judge(name: str, settings: Settings, rows: list[Row], second: list[Row]) -> Finding:
    uids = [text(row, "StudyInstanceUID") for row in rows]
    if len(rows) > 1 and (not second or text(second[0], "StudyInstanceUID") == uids[0]):
        return failure(
            name,
            "offset=1 brings the first study again",
            "The archive does not page, or a limit of its own "
            "cuts lists: Orthanc's LimitFindResults must be 0: searches could miss studies.",
        )
    without = sum(text(row, "PatientID") is None for row in rows)
    if without == len(rows):
        return failure(
            name,
            f"none of {len(rows)} studies has a PatientID",
            "Its QIDO-RS must return 0010,0020.",
        )
    issuers, patterns = _issuers(settings), settings.pacs.generated_issuers
    found = [issuer for row in rows if (issuer := text(row, "IssuerOfPatientID"))]
    named = {issuer for issuer in found if not is_generated(issuer, patterns)}
    # With an issuer configured, one that counts as none is not that one.
    made_up = sum(
        is_generated(issuer, [_MADE_UP]) for issuer in found if issuers or issuer in named
    )
    if made_up and issuers:
        return warning(
            name,
            f"{made_up} of {len(rows)} studies have an issuer that dcm4chee made up from name and birth date",
            "With an issuer configured they are nobody's. Have the archive use that issuer (docs/dcm4chee.md), and "
            "correct what it has already.",
        )
    if made_up:
        return warning(
            name,
            f"{made_up} of {len(rows)} studies have an issuer that dcm4chee made up from name and birth date",
            "A patient whose name is spelled in two ways gets nothing. Have the archive use a fixed issuer, or set "
            f"pacs.generated_issuers: [{_MADE_UP}] if its numbers are unique (docs/dcm4chee.md).",
        )
    if issuers and not issuers & named:
        return warning(
            name,
            f"none of {len(rows)} studies names an issuer that is configured",
            "With an issuer set, a study "
            "counts only when the archive names the same (docs/configuration.md, patients).",
        )
    some_without = sum(issuer in named for issuer in found) < len(rows)
    if not issuers and len(named) + some_without > 1:
        return warning(
            name,
            f"{len(rows)} studies name {len(named)} issuers of patient IDs"
            + ", or none" * some_without,
            "One number may then be two people: set patients.issuer, or issuer in patients.identifiers.",
        )
    note = f"; {without} without a PatientID reach nobody" if without else ""
    if as_none := sum(issuer not in named for issuer in found):
        note += f"; {as_none} with an issuer that counts as none (pacs.generated_issuers)"
    return ok(name, f"{len(rows)} looked at{note}")


async def counts(settings: Settings, sidecar: Sidecar) -> Finding:
    """Whether it can be known how many instances a whole study or series has to bring."""
    name = "pacs.counts"
    try:
        rows = await sidecar.pacs.search(Query("studies"), (_FIELDS,), limit=_SAMPLE, permit=OURS)
    except Problem as problem:
        return failed(name, problem, hint_of_rows(problem))
    row = next(
        (one for one in rows if text(one, "StudyInstanceUID") and owner_of(one).patient_id), None
    )
    if row is None:
        return skipped(
            name, "the archive has no study of a patient that we may see: nothing to look at"
        )
    study, known_as = Part(text(row, "StudyInstanceUID") or ""), frozenset({owner_of(row)})
    try:
        counted = await count_instances(sidecar.pacs, study, known_as)
        of_series = await _count_a_series(sidecar, study, known_as)
    except Problem as problem:
        return failed(name, problem, _COUNT_HINTS.get(problem.reason, hint_of_rows(problem)))
    if counted is None or of_series is None:
        return warning(
            name, "the study that was looked at changed meanwhile", "Run the check again."
        )
    return ok(name, "the archive says how many instances a study and a series have")


async def _count_a_series(sidecar: Sidecar, study: Part, known_as: KnownAs) -> int | None:
    rows = await sidecar.pacs.search(Query("series", study=study.study), (), limit=1, permit=OURS)
    series = next((uid for row in rows if (uid := text(row, "SeriesInstanceUID"))), None)
    return (
        None
        if series is None
        else await count_instances(sidecar.pacs, Part(study.study, series), known_as)
    )


_COUNT_HINTS = {
    "pacs_uncounted": "Whole studies, series and their metadata are refused: nobody could tell a part of one from the "
    "whole. Its QIDO-RS must return NumberOfStudyRelatedInstances (0020,1208) and NumberOfSeriesRelatedInstances "
    "(0020,1209), or list a study's /instances, within pacs.max_results.",
    "pacs_query_refused": "The archive refuses the query for the numbers of one study (400); its log says why. "
    "Until it answers, such studies and series cannot be retrieved as a whole.",
}


def _issuers(settings: Settings) -> set[str | None]:
    listed = [settings.patients.issuer, *(one.issuer for one in settings.patients.identifiers)]
    return {issuer for issuer in listed if issuer is not None}


async def changes(settings: Settings, sidecar: Sidecar) -> Finding:
    """Orthanc's ``/changes``, where they are followed."""
    name = "pacs.changes_url"
    if sidecar.changes is None:
        return ok(
            name, f"not followed: lists are up to {settings.fhir.search_cache_seconds:g} s old"
        )
    try:
        await sidecar.changes.poll()
    except FetchFailed as failure:
        return failure_of_changes(name, failure)
    return ok(name, f"followed, every {settings.pacs.changes_seconds:g} s")


def failure_of_changes(name: str, failed: FetchFailed) -> Finding:
    """What is wrong with ``/changes``."""
    why = failed.reason if failed.detail is None else f"{failed.reason} ({failed.detail})"
    return failure(
        name,
        f"/changes cannot be read: {why}",
        "It wants Orthanc's REST root (http://orthanc:8042), not its DICOMweb root; pacs.auth must be good there.",
    )


EHR: tuple[tuple[str, Check], ...] = (
    ("ehr.smart_configuration", discovery),
    ("tokens.jwt", keys),
    ("tokens.introspection", introspection),
    ("patients.mapping", patients),
    ("access.clients", permissions.clients),
    ("access.external", permissions.external),
)
PACS: tuple[tuple[str, Check], ...] = (
    ("pacs.query", query),
    ("pacs.dialect", dialect),
    ("pacs.changes_url", changes),
    (CHARACTER_SETS, character_sets),
    ("pacs.studies", studies),
    ("pacs.counts", counts),
    (RESOURCES, resources),
    ("access.rules", permissions.rules),
)
NOT_NEEDED = frozenset({"pacs.changes_url", "pacs.counts", RESOURCES})
"""Nothing builds on these: the checks behind them are made when they fail, too."""
