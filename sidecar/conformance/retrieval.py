"""Checks of whole studies, series and instances as stored, and of QIDO-RS (SIA-40..43)."""

import hashlib
from typing import Any

from sidecar.conformance.context import DICOM, DICOM_JSON, Check, RunContext, SeenInstance
from sidecar.conformance.levels import MAY, SHALL, SHOULD, WISH, Leaked, NotTested, Violated
from sidecar.conformance.multipart import Identity, Truncated, identity_of, parts_of
from sidecar.conformance.reading import plural, uid_of
from sidecar.conformance.requirements import ACCEPT
from sidecar.conformance.response import Response
from sidecar.conformance.rows import Row, number, text


async def _query(run: RunContext) -> str:
    """Check that QIDO-RS brings this patient's studies alone: those of the search."""
    root, study = run.known_study()
    run.raise_if_service()
    rows = await _rows(run, f"{root}/studies")
    run.rows = rows
    known = {uid_of(imaging_study) for imaging_study in run.known_studies()}
    listed = [text(row, "StudyInstanceUID") for row in rows]
    if run.has_all_pages and any(uid not in known for uid in listed):
        raise Leaked("QIDO-RS lists a study that the search for ImagingStudy does not have")
    answer = await run.client.request(f"{root}/studies?PatientID=*", accept=DICOM_JSON)
    everybody = rows_of(answer) if answer.status == 200 and run.has_all_pages else []
    if any(text(row, "StudyInstanceUID") not in known for row in everybody):
        raise Leaked("PatientID=* lists a study that the search for ImagingStudy does not have")
    if study not in listed and len(rows) < 100:  # Lists may be cut by the server.
        raise Violated("QIDO-RS does not list a study whose address this is")
    run.patient_ids |= {patient_id for row in rows if (patient_id := text(row, "PatientID"))}
    return f"{plural(len(rows), 'study')}, all known from the search"


async def _query_instances(run: RunContext) -> str:
    url = run.study_url()
    if not run.rows:
        raise NotTested("QIDO-RS had no answer")
    for level in ("series", "instances"):
        rows = await _rows(run, f"{url}/{level}")
        if not rows:
            raise Violated(f"no {level} in a study")
        if any(text(row, "StudyInstanceUID") not in (run.study, None) for row in rows):
            raise Leaked(f"{level} of another study")
    run.instances = run.instances or instances_of(rows)
    return f"{plural(len(rows), 'instance')}, all of the study"


async def _rows(run: RunContext, url: str) -> list[dict[str, Any]]:
    answer = await run.client.request(url, accept=DICOM_JSON)
    if answer.status == 204:
        return []
    answer.raise_if_not_offered(400, 403, 404, 405, 406, 415, 501)
    return rows_of(answer)


def rows_of(answer: Response) -> list[dict[str, Any]]:
    """Return the DICOM JSON objects of a 200. Raises ``Violated``."""
    answer.expect(DICOM_JSON, "application/json")
    rows = answer.json()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Violated("no list of DICOM JSON objects")
    return rows


def instances_of(rows: list[Row]) -> list[SeenInstance]:
    """Return the instances that rows or metadata name."""
    return [
        SeenInstance(series, uid)
        for row in rows
        if (series := text(row, "SeriesInstanceUID")) and (uid := text(row, "SOPInstanceUID"))
    ]


async def _study(run: RunContext) -> str:
    answer = await _retrieved(run, run.study_url())
    try:
        instances = instances_in(run, answer)
    except Truncated:
        # Without an end the study is not whole. The next check fails if it looks whole.
        raise Violated("the multipart has no end") from None
    run.instances = [
        SeenInstance(instance.series, instance.uid, instance.digest) for instance in instances
    ]
    run.names |= {instance.name for instance in instances} - {""}
    run.patient_ids |= {instance.patient_id for instance in instances} - {""}
    run.has_whole_study = answer.stopped is None
    if len({instance.uid for instance in instances}) < len(instances):
        raise Violated("an instance comes twice")
    return _number(instances, answer)


def _number(instances: list[Identity], answer: Response) -> str:
    more = "" if answer.stopped is None else f"; {answer.stopped}"
    return plural(len(instances), "instance") + more


async def _retrieved(run: RunContext, url: str) -> Response:
    return await run.client.request(url, accept=DICOM, images=True)


def instances_in(run: RunContext, answer: Response) -> list[Identity]:
    """Return the instances of a multipart, each of the study. Raises ``Violated``."""
    instances = [identity_of(part.content) for part in parts_of(answer, "application/dicom")]
    run.patients_inside |= {instance.patient_id for instance in instances}
    if any(instance.study != run.study for instance in instances):
        raise Leaked("an instance of another study")
    return instances


async def _whole(run: RunContext) -> str:
    """Check that no instance is missing: the multipart ends after as many as announced."""
    url, studies = run.study_url(), run.known_studies()
    counts = [study.get("numberOfInstances") for study in studies if uid_of(study) == run.study]
    counts += [number(row, "NumberOfStudyRelatedInstances") for row in _rows_of_study(run)]
    announced = {count for count in counts if isinstance(count, int)}
    if not run.instances:
        answer = await _retrieved(run, url)
        if answer.status == 200:
            parts_of(answer, "application/dicom")
        raise NotTested("the study could not be retrieved")
    if not run.has_whole_study:
        raise NotTested("the study was not read to its end")
    if not announced:
        raise NotTested("no number of instances is announced")
    retrieved = plural(len(run.instances), "instance")
    if announced != {len(run.instances)}:
        counted = " or ".join(map(str, sorted(announced)))
        run.has_whole_study = False  # What others bring is not held against it.
        raise Violated(f"{retrieved} came, announced were {counted}")
    return f"{retrieved}, as announced"


def _rows_of_study(run: RunContext) -> list[Row]:
    return [row for row in run.rows if text(row, "StudyInstanceUID") == run.study]


async def _one_patient(run: RunContext) -> str:
    """Check that the PatientID in the instances is that of the study in QIDO-RS."""
    run.known_study()
    listed = {text(row, "PatientID") for row in _rows_of_study(run)} - {None}
    if not run.patients_inside:
        raise NotTested("no instance was retrieved")
    if len(run.patients_inside) > 1:
        raise Violated("instances of several PatientIDs came for one study")
    if listed and run.patients_inside != listed:
        what = "the PatientID in the instances is not that of the study in QIDO-RS"
        raise Violated(what, level=WISH)  # Archives correct what instances as stored have.
    return "one PatientID in the study's instances" + (", the same in QIDO-RS" if listed else "")


async def _series(run: RunContext) -> str:
    url, instance = run.known_instance()
    answer = await _retrieved(run, f"{url}/series/{instance.series}")
    answer.raise_if_not_offered()
    instances = instances_in(run, answer)
    if any(other.series != instance.series for other in instances):
        raise Violated("an instance of another series")
    if run.has_whole_study and answer.stopped is None:
        expected = sum(other.series == instance.series for other in run.instances)
        if expected != len(instances):
            number_text = plural(len(instances), "instance")
            raise Violated(f"{number_text} of a series of which {expected} came with the study")
    return _number(instances, answer)


async def _instance(run: RunContext) -> str:
    """Check that an instance alone has the bytes that it had in the whole study."""
    url, instance = run.known_instance()
    answer = await _retrieved(run, f"{url}/{instance.path}")
    answer.raise_if_not_offered()
    instances = instances_in(run, answer)
    if [other.uid for other in instances] != [instance.uid]:
        raise Violated(f"{plural(len(instances), 'instance')}, or another one")
    if instance.digest is None:
        return "that instance alone"
    if instances[0].digest != instance.digest:
        raise Violated("other bytes than in the whole study", level=SHALL)
    return "that instance alone, the bytes that came with the whole study"


async def _single(run: RunContext) -> str:
    url, instance = run.known_instance()
    address = f"{url}/{instance.path}"
    answer = await run.client.request(address, accept="application/dicom", images=True)
    answer.raise_if_not_offered()
    answer.expect("application/dicom")
    is_known = answer.stopped is None and instance.digest is not None
    if is_known and hashlib.sha256(answer.body).digest() != instance.digest:
        # The request names no transfer syntax, so the instance may have been transcoded.
        if identity_of(answer.body).uid != instance.uid:
            raise Violated("another instance")
        return "that instance, in other bytes"
    return "that instance"


async def _head(run: RunContext) -> str:
    url, instance = run.known_instance()
    address = f"{url}/{instance.path}"
    answer = await run.client.request(address, method="HEAD", accept=DICOM)
    answer.raise_if_not_offered(403, 405, 501)
    if answer.status != 200 or answer.media_type != "multipart/related":
        raise Violated(f"HEAD: {answer}")
    return "200, multipart/related"


async def _accept(run: RunContext) -> str:
    nonsense = "application/x-nonsense"
    answer = await run.client.request(run.study_url(), accept=nonsense, images=True)
    if answer.status != 406:
        raise Violated(f"Accept: {nonsense} brings {answer}")
    return f"406 for {nonsense}"


RETRIEVAL = (
    Check(42, MAY, "QIDO-RS below the address", _query),
    Check(40, SHALL, "a whole study", _study),
    Check(43, SHALL, "nothing is missing in it", _whole),
    Check(42, MAY, "QIDO-RS below a study", _query_instances),
    Check(41, SHOULD, "a series", _series),
    Check(40, SHOULD, "an instance", _instance),
    Check(41, WISH, "an instance without multipart", _single),
    Check(42, SHALL, "the instances are of one patient", _one_patient),
    Check(41, WISH, "HEAD of an instance", _head),
    Check(41, WISH, "Accept: nonsense", _accept, ACCEPT),
)
