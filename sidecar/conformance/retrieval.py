"""Whole studies, series and instances as stored, and what an archive says of them in JSON (SIA-40..43)."""

import hashlib
from collections.abc import Iterator
from typing import Any

from sidecar.conformance.client import NotTested, Response, Violated
from sidecar.conformance.multipart import Identity, Truncated, identity_of, parts_of
from sidecar.conformance.requirements import ACCEPT
from sidecar.conformance.rows import number, text
from sidecar.conformance.visit import DICOM, DICOM_JSON, Check, SeenInstance, Visit, counted, uid_of

_NOT_OFFERED = (404, 405, 406, 415, 501)


async def _query(visit: Visit) -> str:
    """QIDO-RS brings this patient's studies alone: those that the search found."""
    root, study = visit.known_study()
    rows = await _rows(visit, f"{root}/studies")
    visit.rows = rows
    known = {uid_of(one) for one in visit.known_studies()}
    listed = [text(one, "StudyInstanceUID") for one in rows]
    if visit.has_all and any(uid not in known for uid in listed):
        raise Violated("QIDO-RS lists a study that the search for ImagingStudy has not")
    everybody = await visit.client.ask(f"{root}/studies?PatientID=*", accept=DICOM_JSON)
    more = rows_of(everybody) if everybody.status == 200 and visit.has_all else []
    if any(text(one, "StudyInstanceUID") not in known for one in more):
        raise Violated("PatientID=* lists a study that the search for ImagingStudy has not")
    if study not in listed and len(rows) < 100:  # Lists may be cut by the server.
        raise Violated("QIDO-RS does not list a study whose address this is")
    visit.patient_ids |= {found for one in rows if (found := text(one, "PatientID"))}
    return f"{counted(len(rows), 'study')}, all known from the search"


async def _query_instances(visit: Visit) -> str:
    root, study = visit.known_study()
    if not visit.rows:
        raise NotTested("QIDO-RS was not answered")
    for level in ("series", "instances"):
        rows = await _rows(visit, f"{root}/studies/{study}/{level}")
        if not rows:
            raise Violated(f"no {level} in a study")
        if any(text(one, "StudyInstanceUID") not in (study, None) for one in rows):
            raise Violated(f"{level} of another study")
    if not visit.instances:
        visit.instances = list(_instances(rows))
    return f"{counted(len(rows), 'instance')}, all of the study"


async def _rows(visit: Visit, url: str) -> list[dict[str, Any]]:
    answer = await visit.client.ask(url, accept=DICOM_JSON)
    if answer.status == 204:
        return []
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    return rows_of(answer)


def rows_of(answer: Response) -> list[dict[str, Any]]:
    """The DICOM JSON objects of a 200. Raises ``Violated``."""
    if answer.status != 200 or answer.media_type not in (DICOM_JSON, "application/json"):
        raise Violated(str(answer))
    found = answer.json()
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Violated("no list of DICOM JSON objects")
    return found


def _instances(rows: list[dict[str, Any]]) -> Iterator[SeenInstance]:
    for row in rows:
        series, uid = text(row, "SeriesInstanceUID"), text(row, "SOPInstanceUID")
        if series is not None and uid is not None:
            yield SeenInstance(series, uid, text(row, "PatientID") or "")


async def _study(visit: Visit) -> str:
    root, study = visit.known_study()
    answer = await _retrieved(visit, f"{root}/studies/{study}")
    try:
        found = _of_study(visit, answer, study)
    except Truncated:
        # Without an end it is no whole study; that it looks like one is the worse fault, and the
        # next check's.
        raise Violated("the multipart has no end") from None
    visit.instances = [
        SeenInstance(one.series, one.uid, one.patient_id, one.digest) for one in found
    ]
    visit.names |= {one.name for one in found if one.name}
    visit.patient_ids |= {one.patient_id for one in found if one.patient_id}
    visit.has_whole_study = answer.stopped is None
    if len({one.uid for one in found}) < len(found):
        raise Violated("an instance comes twice")
    return counted(len(found), "instance") + (
        "" if answer.stopped is None else f"; {answer.stopped}"
    )


async def _retrieved(visit: Visit, url: str) -> Response:
    return await visit.client.ask(url, accept=DICOM, images=True)


def _of_study(visit: Visit, answer: Response, study: str) -> list[Identity]:
    """The instances of a multipart, each of the study. Raises ``Violated``."""
    found = [identity_of(part.content) for part in parts_of(answer, "application/dicom")]
    visit.patients_inside |= {one.patient_id for one in found}
    if any(one.study != study for one in found):
        raise Violated("an instance of another study")
    return found


async def _whole(visit: Visit) -> str:
    """That nothing is missing: an end of the multipart, and as many instances as others say."""
    root, study = visit.known_study()
    counts = [one.get("numberOfInstances") for one in visit.known_studies() if uid_of(one) == study]
    counts += [
        number(one, "NumberOfStudyRelatedInstances")
        for one in visit.rows
        if text(one, "StudyInstanceUID") == study
    ]
    wanted = {count for count in counts if isinstance(count, int)}
    if not visit.instances:
        parts_of(await _retrieved(visit, f"{root}/studies/{study}"), "application/dicom")
        raise NotTested("the study could not be retrieved")
    if not visit.has_whole_study:
        raise NotTested("the study was not read to its end")
    if not wanted:
        raise NotTested("nobody says how many instances there should be")
    if wanted != {len(visit.instances)}:
        announced = " or ".join(map(str, sorted(wanted)))
        raise Violated(
            f"{counted(len(visit.instances), 'instance')} came, announced were {announced}"
        )
    return f"{counted(len(visit.instances), 'instance')}, as announced"


async def _one_patient(visit: Visit) -> str:
    """The PatientID inside is the one that QIDO-RS says of the study."""
    _, study = visit.known_study()
    inside = visit.patients_inside
    said = {
        text(one, "PatientID") for one in visit.rows if text(one, "StudyInstanceUID") == study
    } - {None}
    if not inside:
        raise NotTested("no instance was retrieved")
    if len(inside) > 1:
        raise Violated("instances of several PatientIDs came for one study")
    if said and inside != said:
        raise Violated("the PatientID in the instances is another than QIDO-RS says of the study")
    return "one PatientID in the study's instances" + (", the same in QIDO-RS" if said else "")


async def _series(visit: Visit) -> str:
    url, instance = visit.known_instance()
    answer = await _retrieved(visit, f"{url}/series/{instance.series}")
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    found = _of_study(visit, answer, url.rsplit("/", 1)[1])
    if any(one.series != instance.series for one in found):
        raise Violated("an instance of another series")
    if visit.has_whole_study and answer.stopped is None:
        wanted = sum(one.series == instance.series for one in visit.instances)
        if wanted != len(found):
            raise Violated(
                f"{counted(len(found), 'instance')} of a series of which {wanted} came with the study"
            )
    return counted(len(found), "instance") + (
        "" if answer.stopped is None else f"; {answer.stopped}"
    )


async def _instance(visit: Visit) -> str:
    """The same bytes alone as in the whole study: nobody has changed them on the way, or always alike."""
    url, instance = visit.known_instance()
    answer = await _retrieved(visit, f"{url}/series/{instance.series}/instances/{instance.uid}")
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    found = _of_study(visit, answer, url.rsplit("/", 1)[1])
    if [one.uid for one in found] != [instance.uid]:
        raise Violated(f"{counted(len(found), 'instance')}, or another one")
    if instance.digest is None:
        return "that instance alone"
    if found[0].digest != instance.digest:
        raise Violated("other bytes than in the whole study")
    return "that instance alone, the bytes that came with the whole study"


async def _single(visit: Visit) -> str:
    url, instance = visit.known_instance()
    address = f"{url}/series/{instance.series}/instances/{instance.uid}"
    answer = await visit.client.ask(address, accept="application/dicom", images=True)
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    if answer.status != 200 or answer.media_type != "application/dicom":
        raise Violated(str(answer))
    if (
        answer.stopped is None
        and instance.digest is not None
        and hashlib.sha256(answer.body).digest() != instance.digest
    ):
        # The transfer syntax was not asked for: it may have been transcoded.
        if identity_of(answer.body).uid != instance.uid:
            raise Violated("another instance")
        return "that instance, in other bytes"
    return "that instance"


async def _head(visit: Visit) -> str:
    url, instance = visit.known_instance()
    address = f"{url}/series/{instance.series}/instances/{instance.uid}"
    answer = await visit.client.ask(address, method="HEAD", accept=DICOM)
    if answer.status in (405, 501):
        raise NotTested(f"not offered: {answer.status}")
    if answer.status != 200 or answer.media_type != "multipart/related":
        raise Violated(f"HEAD: {answer}")
    return "200, multipart/related"


async def _accept(visit: Visit) -> str:
    root, study = visit.known_study()
    nonsense = "application/x-nonsense"
    answer = await visit.client.ask(f"{root}/studies/{study}", accept=nonsense, images=True)
    if answer.status != 406:
        raise Violated(f"Accept: {nonsense} brings {answer}")
    return f"406 for {nonsense}"


RETRIEVAL = (
    Check(42, "QIDO-RS below the address", _query),
    Check(40, "a whole study", _study),
    Check(43, "nothing is missing in it", _whole),
    Check(42, "QIDO-RS below a study", _query_instances),
    Check(41, "a series", _series),
    Check(40, "an instance", _instance),
    Check(41, "an instance without multipart", _single),
    Check(42, "the instances are of one patient", _one_patient),
    Check(41, "HEAD of an instance", _head),
    Check(41, "Accept: nonsense", _accept, ACCEPT),
)
