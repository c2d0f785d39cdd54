"""What must be refused: other studies in every form, other patients' addresses, odd paths, writes (SIA-11, 42, 45)."""

from sidecar.conformance.client import FHIR_JSON, NotTested, Response, Violated
from sidecar.conformance.rows import is_uid, text
from sidecar.conformance.visit import DICOM, DICOM_JSON, Check, Visit, counted, objects, uid_of

_REFUSED = (400, 401, 403, 404, 405, 406, 410, 414, 501)


async def _absent_study(visit: Visit) -> str:
    """A made-up study, in every form: always a denial, always the same one (SIA-45)."""
    root, _ = visit.known_study()
    absent = visit.absent_uid
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
        answer = await visit.client.ask(root + path, accept=accept)
        what = path.replace(instance, "…").replace(series, "…").replace(absent, "…")
        is_empty_list = answer.status == 204 or (
            answer.status == 200 and answer.body.strip() == b"[]"
        )
        if not (is_empty_list and path.endswith(("/series", "/instances"))):
            _refused(answer, what, (403, 404, 405, 406, 501))
        statuses.add(answer.status)
    return f"{counted(len(forms), 'form')}, each refused: {', '.join(map(str, sorted(statuses)))}"


async def _other_series(visit: Visit) -> str:
    """What is the patient's own, but not in the study of the address: put together wrongly it must not come."""
    url, instance = visit.known_instance()
    series = await _series_of_another_study(visit)
    combined = f"{url}/series/{series}"
    forms = {
        combined: DICOM,
        combined + "/metadata": DICOM_JSON,
        f"{combined}/instances/{instance.uid}": DICOM,
        f"{url}/series/{visit.absent_uid}": DICOM,
        f"{url}/series/{instance.series}/instances/{visit.absent_uid}": DICOM,
        f"{url}/series/{instance.series}/instances/{visit.absent_uid}/metadata": DICOM_JSON,
    }
    for number, (address, accept) in enumerate(forms.items()):
        answer = await visit.client.ask(address, accept=accept, images=True)
        what = (
            "another study's series under this study"
            if number < 3
            else "a made-up series or instance in this study"
        )
        _refused(answer, what, (403, 404))
    return "another study's series, made-up series and instances are refused"


async def _series_of_another_study(visit: Visit) -> str:
    root, study = visit.known_study()
    own = {one.series for one in visit.instances}
    for other in visit.known_studies():
        uid = uid_of(other)
        if uid in (study, None):
            continue
        for series in objects(other.get("series")):
            if is_uid(str(series.get("uid"))) and series["uid"] not in own:
                return str(series["uid"])
        if visit.is_local:
            continue  # Its address is for one study alone.
        answer = await visit.client.ask(f"{root}/studies/{uid}/series", accept=DICOM_JSON)
        rows = answer.json() if answer.status == 200 else []
        for row in objects(rows):
            if (found := text(row, "SeriesInstanceUID")) and found not in own:
                return found
    raise NotTested("it takes a series of another study of the patient")


async def _other_root(visit: Visit) -> str:
    """The address of a made-up patient, where the address tells the patient."""
    root, study = visit.known_study()
    mark = f"/Patient/{visit.known_patient()}/"
    if mark not in root:
        raise NotTested("the address does not tell the patient")
    other = root.replace(mark, f"/Patient/{visit.absent_patient}/")
    for path, accept in (("", DICOM), ("/metadata", DICOM_JSON)):
        answer = await visit.client.ask(
            f"{other}/studies/{study}{path}", accept=accept, images=True
        )
        _refused(answer, "another patient's address with an own study", (403, 404))
    _refused(
        await visit.client.ask(f"{other}/studies", accept=DICOM_JSON),
        "another patient's QIDO-RS",
        (403, 404),
    )
    return "403 or 404 below another patient's address"


async def _absent_read(visit: Visit) -> str:
    visit.answered()
    answers = [
        await visit.client.ask(visit.url(f"ImagingStudy/{one}"))
        for one in (visit.absent_uid, "no-such-id")
    ]
    for answer in answers:
        _refused(answer, "a made-up ImagingStudy", (403, 404, 410))
    endpoint = await visit.client.ask(visit.url(f"Endpoint/{visit.absent_patient}"))
    _refused(endpoint, "a made-up Endpoint", (403, 404, 410))
    return f"{answers[0].status} for a made-up id"


async def _altered(visit: Visit) -> str:
    """An address that is for one study, changed in one character or with another study behind it, opens nothing."""
    root, study = visit.known_capability()
    others = [uid for one in visit.studies if (uid := uid_of(one)) not in (study, None)]
    for other in others[:1]:
        url = f"{root}/studies/{other}"
        answer = await visit.client.ask(url, accept=DICOM, images=True)
        _refused(answer, "another study below the address", _REFUSED)
    last = root.rsplit("/", 1)[1]
    middle = len(last) // 2
    changed = last[:middle] + ("A" if last[middle] != "A" else "B") + last[middle + 1 :]
    url = f"{root.removesuffix(last)}{changed}/studies/{study}"
    answer = await visit.client.ask(url, accept=DICOM, images=True)
    _refused(answer, "a changed address", _REFUSED)
    return "one character changed, or another study behind it: refused"


async def _paths(visit: Visit) -> str:
    """Two parsers may read these differently; whichever does, must not bring images."""
    root, study = visit.known_study()
    absent = visit.absent_uid
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
        f"{visit.base}/ImagingStudy/{absent}%2f..%2f{study}",
        f"{visit.base}/ImagingStudy/..%2fImagingStudy/{study}",
    )
    for path in paths:
        accept = FHIR_JSON if path.startswith(f"{visit.base}/ImagingStudy/") else DICOM
        shown = (
            path.removeprefix(root)
            .removeprefix(visit.base)
            .replace(study, "<UID>")
            .replace(absent, "<made-up>")
        )
        answer = await visit.client.ask(path, accept=accept, images=True)
        if answer.status < 400 or answer.status >= 500:
            raise Violated(f"{shown}: {answer}")
    return f"{len(paths)} odd spellings, each refused"


async def _writes(visit: Visit) -> str:
    """Only with made-up ids and empty bodies: a server that would write has nothing to write."""
    visit.answered()
    made_up = visit.url(f"ImagingStudy/{visit.absent_uid}")
    tries = [
        ("POST", visit.url("ImagingStudy")),
        ("PUT", made_up),
        ("PATCH", made_up),
        ("DELETE", made_up),
    ]
    statuses = set()
    for method, url in tries:
        answer = await visit.client.ask(url, method=method, headers={"Content-Type": FHIR_JSON})
        if answer.status in (400, 412, 415, 422):
            raise NotTested(f"{method} brings {answer.status}: with a body it might write")
        _refused(answer, method, (401, 403, 404, 405, 501))
        statuses.add(answer.status)
    return f"POST, PUT, PATCH, DELETE: {', '.join(map(str, sorted(statuses)))}"


async def _stores(visit: Visit) -> str:
    root, _ = visit.known_study()
    headers = {"Content-Type": "multipart/related; type=application/dicom; boundary=none"}
    for method, url in (
        ("POST", f"{root}/studies"),
        ("DELETE", f"{root}/studies/{visit.absent_uid}"),
    ):
        answer = await visit.client.ask(url, method=method, accept=DICOM_JSON, headers=headers)
        if answer.status in (400, 409, 415):
            raise NotTested(f"{method} brings {answer.status}: with a body it might store")
        _refused(answer, method, (401, 403, 404, 405, 501))
    return "STOW-RS and DELETE are refused"


def _refused(answer: Response, what: str, statuses: tuple[int, ...]) -> None:
    if answer.status not in statuses:
        raise Violated(f"{what}: {answer}")
    if (
        answer.media_type in ("multipart/related", "application/dicom")
        or answer.body[128:132] == b"DICM"
    ):
        raise Violated(f"{what}: a denial with DICOM data: {answer}")


REFUSALS = (
    Check(45, "a made-up ImagingStudy or Endpoint", _absent_read),
    Check(42, "a made-up study, in every form", _absent_study),
    Check(42, "another study's series in this study", _other_series),
    Check(12, "images below another patient's address", _other_root),
    Check(51, "a changed capability URL", _altered),
    Check(42, "odd spellings of paths", _paths),
    Check(11, "writes to FHIR", _writes),
    Check(11, "writes to DICOMweb", _stores),
)
