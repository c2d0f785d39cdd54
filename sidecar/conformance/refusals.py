"""Checks of refusals: other studies and patients, odd paths, writes (SIA-11, 12, 42, 45, 51)."""

from sidecar.conformance.context import DICOM, DICOM_JSON, Check, RunContext
from sidecar.conformance.levels import BASE, SHALL, WISH, NotTested, RequirementLevel, Violated
from sidecar.conformance.reading import objects, plural, uid_of
from sidecar.conformance.response import FHIR_JSON, Response
from sidecar.conformance.retrieval import instances_in
from sidecar.conformance.rows import is_uid, text


async def _absent_study(run: RunContext) -> str:
    """Check that a made-up study is denied in every form (SIA-45)."""
    root, _ = run.known_study()
    absent = run.absent_uid
    series, instance = f"{absent}.1", f"{absent}.1.1"
    of_instance = f"/studies/{absent}/series/{series}/instances/{instance}"
    forms = {
        f"/studies/{absent}": DICOM,
        f"/studies/{absent}/metadata": DICOM_JSON,
        f"/studies/{absent}/rendered": "*/*",
        f"/studies/{absent}/series": DICOM_JSON,
        f"/studies/{absent}/instances": DICOM_JSON,
        f"/studies/{absent}/series/{series}": DICOM,
        of_instance: DICOM,
        of_instance + "/metadata": DICOM_JSON,
        of_instance + "/rendered": "*/*",
        of_instance + "/frames/1": "*/*",
        of_instance + "/bulkdata": "*/*",
    }
    statuses = set()
    for path, accept in forms.items():
        answer = await run.client.request(root + path, accept=accept)
        what = path.replace(instance, "…").replace(series, "…").replace(absent, "…")
        raise_if_served(answer, what)
        statuses.add(answer.status)
    return f"{plural(len(forms), 'form')}, each refused: {', '.join(map(str, sorted(statuses)))}"


async def _other_series(run: RunContext) -> str:
    """Check that a series or instance is refused below a study that does not have it.

    Both studies are the patient's: what comes is nobody else's, but a capability URL is for one.
    """
    url, instance = run.known_instance()
    series = await _series_of_another_study(run)
    combined = f"{url}/series/{series}"
    forms = {
        combined: DICOM,
        combined + "/metadata": DICOM_JSON,
        f"{combined}/instances/{instance.uid}": DICOM,
        f"{url}/series/{run.absent_uid}": DICOM,
        f"{url}/series/{instance.series}/instances/{run.absent_uid}": DICOM,
        f"{url}/series/{instance.series}/instances/{run.absent_uid}/metadata": DICOM_JSON,
    }
    for address, accept in forms.items():
        answer = await run.client.request(address, accept=accept, images=True)
        is_other = address.startswith(combined)
        what = "another study's series under" if is_other else "a made-up series or instance in"
        raise_if_served(answer, f"{what} this study", SHALL if run.is_local else BASE)
    return "another study's series, made-up series and instances are refused"


async def _series_of_another_study(run: RunContext) -> str:
    root, study = run.known_study()
    own = {instance.series for instance in run.instances}
    for other in run.known_studies():
        uid = uid_of(other)
        if uid in (study, None):
            continue
        for series in objects(other.get("series")):
            if is_uid(str(series.get("uid"))) and series["uid"] not in own:
                return str(series["uid"])
        if run.is_local:
            continue  # The address is for a single study.
        answer = await run.client.request(f"{root}/studies/{uid}/series", accept=DICOM_JSON)
        rows = answer.json() if answer.status == 200 else []
        for row in objects(rows):
            if (series_uid := text(row, "SeriesInstanceUID")) and series_uid not in own:
                return series_uid
    raise NotTested("the patient has no series of another study")


async def _other_root(run: RunContext) -> str:
    """Check that a made-up patient's address is refused, where addresses have the patient's id."""
    root, study = run.known_study()
    mark = f"/Patient/{run.known_patient()}/"
    if mark not in root:
        raise NotTested("the address does not have the patient's id")
    other = root.replace(mark, f"/Patient/{run.absent_patient}/")
    url = f"{other}/studies/{study}"
    for address, accept in ((url, DICOM), (url + "/metadata", DICOM_JSON)):
        answer = await run.client.request(address, accept=accept, images=True)
        raise_if_served(answer, "another patient's address with an own study", WISH)
    query = await run.client.request(f"{other}/studies", accept=DICOM_JSON)
    raise_if_served(query, "another patient's QIDO-RS", WISH)
    return "refused below another patient's address"


async def _absent_read(run: RunContext) -> str:
    run.first_bundle()
    study = await run.client.request(run.url(f"ImagingStudy/{run.absent_uid}"))
    other = await run.client.request(run.url("ImagingStudy/no-such-id"))
    for answer in (study, other):
        raise_if_served(answer, "a made-up ImagingStudy")
    endpoint = await run.client.request(run.url(f"Endpoint/{run.absent_patient}"))
    raise_if_served(endpoint, "a made-up Endpoint", BASE)
    return f"{study.status} for a made-up id"


async def _altered(run: RunContext) -> str:
    """Check that a capability URL opens nothing when it is altered or used for another study."""
    root, study = run.known_capability()
    others = [uid for other in run.studies if (uid := uid_of(other)) not in (study, None)]
    for other in others[:1]:
        url = f"{root}/studies/{other}"
        answer = await run.client.request(url, accept=DICOM, images=True)
        raise_if_served(answer, "another study below the address")
    last = root.rsplit("/", 1)[1]
    middle = len(last) // 2
    changed = last[:middle] + ("A" if last[middle] != "A" else "B") + last[middle + 1 :]
    url = f"{root.removesuffix(last)}{changed}/studies/{study}"
    answer = await run.client.request(url, accept=DICOM, images=True)
    raise_if_served(answer, "a changed address")
    return "one character changed, or another study behind it: refused"


async def _paths(run: RunContext) -> str:
    """Check that paths that two parsers may read differently bring no images."""
    root, study = run.known_study()
    absent = run.absent_uid
    paths = (
        f"{root}/studies/{absent}%2f..%2f{study}",
        f"{root}/studies%2F{study}",
        f"{root}/studies/%2e%2e/studies/{study}",
        f"{root}/studies/{study}/../{absent}",
        f"{root}/studies/{study}%00",
        f"{root}/studies/{study}%2f..%2f{absent}",
        f"{root}/studies/{study}\\..\\{absent}",
        f"{root}/studies/{study},{absent}",
        f"{root}/studies/*",
        f"{run.base}/ImagingStudy/{absent}%2f..%2f{study}",
        f"{run.base}/ImagingStudy/..%2fImagingStudy/{study}",
    )
    for path in paths:
        accept = FHIR_JSON if path.startswith(f"{run.base}/ImagingStudy/") else DICOM
        answer = await run.client.request(path, accept=accept, images=True)
        if 200 <= answer.status < 300 and accept == DICOM:
            instances_in(run, answer)  # Another study is worse than an odd spelling of this one.
        if not 400 <= answer.status < 500:
            shown = path.removeprefix(root).removeprefix(run.base)
            shown = shown.replace(study, "<UID>").replace(absent, "<made-up>")
            raise Violated(f"{shown}: {answer}")
    return f"{len(paths)} odd spellings, each refused"


async def _writes(run: RunContext) -> str:
    """Check that writes are refused. Ids are made up and bodies empty: nothing can be written."""
    run.first_bundle()
    made_up = run.url(f"ImagingStudy/{run.absent_uid}")
    writes = [
        ("POST", run.url("ImagingStudy")),
        ("PUT", made_up),
        ("PATCH", made_up),
        ("DELETE", made_up),
    ]
    statuses = set()
    for method, url in writes:
        answer = await run.client.request(url, method=method, headers={"Content-Type": FHIR_JSON})
        if answer.status in (400, 412, 415, 422):
            raise NotTested(f"{method} brings {answer.status}: with a body it might write")
        raise_if_served(answer, method, is_write=True)
        statuses.add(answer.status)
    return f"POST, PUT, PATCH, DELETE: {', '.join(map(str, sorted(statuses)))}"


async def _stores(run: RunContext) -> str:
    root, _ = run.known_study()
    headers = {"Content-Type": "multipart/related; type=application/dicom; boundary=none"}
    for method, url in (
        ("POST", f"{root}/studies"),
        ("DELETE", f"{root}/studies/{run.absent_uid}"),
    ):
        answer = await run.client.request(url, method=method, accept=DICOM_JSON, headers=headers)
        if answer.status in (400, 409, 415):
            raise NotTested(f"{method} brings {answer.status}: with a body it might store")
        raise_if_served(answer, method, is_write=True)
    return "STOW-RS and DELETE are refused"


def raise_if_served(
    answer: Response, what: str, level: RequirementLevel = SHALL, *, is_write: bool = False
) -> None:
    """Raise ``Violated`` of ``level`` for a success, or for data in a denial.

    An empty list, or no content, denies what was to be read. What is neither a success nor a clear
    denial is ``Violated``, too, at the lowest level.
    """
    is_empty = answer.status == 204 or (answer.status == 200 and answer.body.strip() == b"[]")
    if is_empty and not is_write:
        return
    is_dicom = answer.media_type in ("multipart/related", "application/dicom")
    if 200 <= answer.status < 300 or is_dicom or answer.body[128:132] == b"DICM":
        raise Violated(f"{what}: {answer}", level=level)
    if not (400 <= answer.status < 500 or answer.status == 501):
        raise Violated(f"{what}: {answer}", level=WISH)


REFUSALS = (
    Check(45, SHALL, "a made-up ImagingStudy or Endpoint", _absent_read),
    Check(42, SHALL, "a made-up study, in every form", _absent_study),
    Check(42, SHALL, "another study's series in this study", _other_series),
    Check(12, SHALL, "images below another patient's address", _other_root),
    Check(51, SHALL, "a changed capability URL", _altered),
    Check(42, WISH, "odd spellings of paths", _paths),
    Check(11, SHALL, "writes to FHIR", _writes),
    Check(11, SHALL, "writes to DICOMweb", _stores),
)
