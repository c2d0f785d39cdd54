"""Checks with a second patient's token, a Backend Services client's, and an expired one."""

from typing import Any

from sidecar.conformance.client import Client
from sidecar.conformance.context import DICOM, DICOM_JSON, Check, RunContext
from sidecar.conformance.discovery import BACKEND_SERVICES
from sidecar.conformance.filters import endpoint_of, references
from sidecar.conformance.levels import SHALL, WISH, Leaked, NotTested, Violated
from sidecar.conformance.reading import objects, patient_of, resources, strings, uid_of
from sidecar.conformance.refusals import raise_if_served
from sidecar.conformance.rows import is_uid
from sidecar.conformance.tokens import raise_unless_401, raise_unless_403


def _given(client: Client | None, option: str) -> Client:
    if client is None:
        raise NotTested(f"no {option} was given")
    return client


async def _others_search(run: RunContext) -> str:
    run.first_bundle()
    other, _ = await _other(run)
    answer = await run.client.request(run.url("ImagingStudy", ("patient", other)))
    raise_unless_403(answer, whose="the other token's patient")
    both = f"{run.known_patient()},{other}"
    answer = await run.client.request(run.url("ImagingStudy", ("patient", both)))
    if answer.status == 200:
        for study in resources(answer.resource("Bundle"), "ImagingStudy"):
            if patient_of(study) != run.patient:
                raise Leaked("a search with both patients brings the other one's studies")
    return "403 for the other token's patient, whose studies are there"


async def _other(run: RunContext) -> tuple[str, list[dict[str, Any]]]:
    """Return the other token's patient and studies, one at least. Raises ``NotTested``."""
    client = _given(run.other, "--other-token")
    named = run.other_patient
    url = run.url("ImagingStudy", *([("patient", named)] if named else []))
    answer = await client.request(url)
    try:
        studies = resources(answer.resource("Bundle"), "ImagingStudy")
    except Violated as error:
        raise NotTested(f"the other token brings no Bundle (--other-patient): {error}") from None
    patient = named or next((patient_of(study) for study in studies), None)
    if patient is None or not studies:
        raise NotTested("the other token brings no study of a patient")
    if patient == run.known_patient():
        raise NotTested("both tokens are of one patient")
    return patient, studies


async def _others_images(run: RunContext) -> str:
    """Check that another patient's study is refused, as a made-up one is (SIA-45)."""
    root, own = run.known_study()
    _, studies = await _other(run)
    foreign = uid_of(studies[0])
    if foreign is None:
        raise NotTested("the other patient's study has no StudyInstanceUID")
    differs = False
    for path, accept in (("", DICOM), ("/metadata", DICOM_JSON), ("/series", DICOM_JSON)):
        answers = [
            await run.client.request(f"{root}/studies/{uid}{path}", accept=accept, images=True)
            for uid in (foreign, run.absent_uid)
        ]
        raise_if_served(answers[0], "the other patient's study")
        differs |= answers[0].status != answers[1].status
    for series in objects(studies[0].get("series")):
        if is_uid(str(series.get("uid"))):
            url = f"{root}/studies/{own}/series/{series['uid']}"
            answer = await run.client.request(url, accept=DICOM, images=True)
            raise_if_served(answer, "the other patient's series under this study")
    read = await run.client.request(run.url(f"ImagingStudy/{studies[0].get('id')}"))
    raise_if_served(read, "the other patient's ImagingStudy")
    if differs:
        text = "another patient's study brings another status than a made-up one"
        raise Violated(text, level=WISH)
    return "the other patient's study is refused, as a made-up one is"


async def _others_token(run: RunContext) -> str:
    url = run.study_url()
    await _other(run)
    client = _given(run.other, "--other-token")
    if not run.needs_token:
        raise NotTested("the Endpoint says that its address is enough (2026-08)")
    for address, accept in ((url, DICOM), (url + "/metadata", DICOM_JSON)):
        answer = await client.request(address, accept=accept, images=True)
        raise_if_served(answer, "this study with the other patient's token")
    return "this study is refused to the other patient's token"


async def _backend(run: RunContext) -> str:
    """Check that a client's access is limited, and is the same for searches and images."""
    client = _given(run.backend, "--backend-token")
    url = run.url("ImagingStudy", ("patient", run.absent_patient))
    made_up = await client.request(url)
    if made_up.status == 401 == (await client.request(run.search_url())).status:
        raise NotTested("the server accepts no search with the token of --backend-token: 401")
    raise_unless_403(made_up)
    patient = run.known_patient()
    answer = await client.request(run.url("ImagingStudy", ("patient", patient)))
    if answer.status == 200:
        studies = resources(answer.resource("Bundle"), "ImagingStudy")
        if any(patient_of(study) != patient for study in studies):
            raise Leaked("a search for one patient brings studies of others")
        shown = {uid_of(study) for study in studies}
    else:
        raise_unless_403(answer, whose="the token's patient")
        shown = set()
    if run.root is None or run.is_local or not run.needs_token:
        return "403 for a made-up patient"
    if run.study not in shown:
        images = await client.request(run.study_url(), accept=DICOM, images=True)
        raise_if_served(images, "a study that the client's search does not have")
        return "403 for a made-up patient; images that its searches do not have are refused"
    return "403 for a made-up patient; its searches have the token's patient's studies alone"


async def _no_backend(run: RunContext) -> str:
    client = _given(run.backend, "--backend-token")
    patient = run.known_patient()
    if run.advertised is None:
        raise NotTested("no smart-configuration that names this base was found")
    # The base's own may know of more than the EHR's.
    if BACKEND_SERVICES in (*run.advertised[1], *strings(run.configuration.get("capabilities"))):
        raise NotTested("the server offers Backend Services")
    answer = await client.request(run.url("ImagingStudy", ("patient", patient)))
    raise_if_served(answer, "system scopes, which this server does not offer")
    return f"{answer.status} for system scopes, which this server does not offer"


async def _expired(run: RunContext) -> str:
    client = _given(run.expired, "--expired-token")
    raise_unless_401(await client.request(run.search_url()))
    if run.root is None or not run.needs_token:
        return "401 for a search"
    # A capability URL that has expired with its token is a 403.
    answer = await client.request(run.study_url(), accept=DICOM, images=True)
    raise_unless_401(answer, *((403,) if run.is_local else ()))
    return f"401 for a search, {answer.status} for images"


async def _anew(run: RunContext) -> str:
    """Check the way of an app whose retrieval was refused: it searches by identifier again."""
    _, study = run.known_study()
    if not run.needs_token:
        raise NotTested("the Endpoint says that its address is enough (2026-08)")
    bundle = await run.search(
        ("identifier", f"urn:oid:{study}"), ("_include", "ImagingStudy:endpoint")
    )
    run.store_endpoints(bundle)
    for found in resources(bundle, "ImagingStudy"):
        for reference in references(found):
            endpoint = endpoint_of(run, found, reference)
            if endpoint is None:
                continue
            url = f"{str(endpoint.get('address')).rstrip('/')}/studies/{study}"
            answer = await run.client.request(url, accept=DICOM, images=True)
            answer.expect("multipart/related")
            return "the Endpoint of a search by identifier brings the study"
    raise NotTested("a search by identifier brings no Endpoint")


FURTHER = (
    Check(10, SHALL, "an expired token", _expired),
    Check(22, SHALL, "the other token's patient", _others_search),
    Check(45, SHALL, "the other token's patient's images", _others_images),
    Check(12, SHALL, "images with the other patient's token", _others_token),
    Check(13, SHALL, "a Backend Services client", _backend),
    Check(14, SHALL, "system scopes that are not offered", _no_backend),
    Check(55, SHALL, "the way back after a refusal", _anew),
)
