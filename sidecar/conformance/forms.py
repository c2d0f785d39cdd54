"""Other forms of an image: metadata, drawn, frames, bulk data (SIA-41)."""

from collections.abc import Iterator
from urllib.parse import urljoin

from sidecar.conformance.client import NotTested, Response, Violated
from sidecar.conformance.multipart import parts_of
from sidecar.conformance.retrieval import rows_of
from sidecar.conformance.rows import Row, number, text
from sidecar.conformance.visit import DICOM_JSON, Check, SeenInstance, Visit, counted

Rows = list[Row]

_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
_NOT_OFFERED = (404, 405, 406, 415, 501)
_MAGIC = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8"}


async def _metadata_of_study(visit: Visit) -> str:
    root, study = visit.known_study()
    rows = await _metadata(visit, f"{root}/studies/{study}")
    uids = {text(one, "SOPInstanceUID") for one in rows}
    if visit.has_whole_study and uids != {one.uid for one in visit.instances}:
        raise Violated("metadata of other instances than the whole study has")
    if not visit.instances:
        visit.instances = [
            SeenInstance(series, uid, text(one, "PatientID") or "")
            for one in rows
            if (series := text(one, "SeriesInstanceUID")) and (uid := text(one, "SOPInstanceUID"))
        ]
    return counted(len(rows), "instance")


async def _metadata_of_series(visit: Visit) -> str:
    url, instance = visit.known_instance()
    rows = await _metadata(visit, f"{url}/series/{instance.series}")
    if any(text(one, "SeriesInstanceUID") != instance.series for one in rows):
        raise Violated("metadata of another series")
    return counted(len(rows), "instance")


async def _metadata_of_instance(visit: Visit) -> str:
    url, instance = visit.known_instance()
    rows = await _metadata(visit, f"{url}/series/{instance.series}/instances/{instance.uid}")
    if [text(one, "SOPInstanceUID") for one in rows] != [instance.uid]:
        raise Violated("metadata of another instance")
    return counted(len(rows[0]), "attribute")


async def _metadata(visit: Visit, url: str) -> Rows:
    """The rows of the study, of the patient to whom its instances belong. Raises ``Violated``."""
    answer = await visit.client.ask(f"{url}/metadata", accept=DICOM_JSON, images=True)
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    if answer.stopped is not None:
        raise NotTested(answer.stopped)
    rows = rows_of(answer)
    if any(text(one, "StudyInstanceUID") != visit.study for one in rows):
        raise Violated("metadata of another study")
    patients = {text(one, "PatientID") or "" for one in rows}
    if len(patients) > 1 or (visit.patients_inside and not patients <= visit.patients_inside):
        raise Violated("the PatientID in the metadata is another than in the instances")
    return rows


async def _with_pixels(visit: Visit) -> tuple[str, Row]:
    """The address of an instance that has pixels, and its metadata. Raises ``NotTested``."""
    url, _ = visit.known_instance()
    rows = await _metadata(visit, url)
    for row in rows:
        if number(row, "Rows"):
            return (
                f"{url}/series/{text(row, 'SeriesInstanceUID')}/instances/{text(row, 'SOPInstanceUID')}",
                row,
            )
    raise NotTested("no instance of the study has pixels")


async def _rendered(visit: Visit) -> str:
    address, _ = await _with_pixels(visit)
    return await _drawn(visit, f"{address}/rendered")


async def _thumbnail(visit: Visit) -> str:
    address, _ = await _with_pixels(visit)
    return await _drawn(visit, f"{address}/thumbnail")


async def _drawn(visit: Visit, url: str) -> str:
    answer = await visit.client.ask(url, accept="image/jpeg", images=True)
    _offered(answer)
    if answer.media_type != "image/jpeg" or not answer.body.startswith(_MAGIC["image/jpeg"]):
        raise Violated(f"Accept: image/jpeg brings {answer}")
    return str(answer)


async def _frame(visit: Visit) -> str:
    address, _ = await _with_pixels(visit)
    answer = await visit.client.ask(f"{address}/frames/1", accept=_FRAMES, images=True)
    _offered(answer)
    if answer.media_type != "multipart/related":
        raise Violated(f"Accept: {_FRAMES} brings {answer}")
    # Some name the transfer syntax in it, too.
    media_type = (
        (answer.parameter("type") or "application/octet-stream").partition(";")[0].strip().lower()
    )
    parts = parts_of(answer, media_type)
    if answer.stopped is None and len(parts) != 1:
        raise Violated(f"{len(parts)} parts for one frame")
    return "one part"


def _offered(answer: Response) -> None:
    if answer.status in _NOT_OFFERED:
        raise NotTested(f"not offered: {answer.status}")
    if answer.status in (400, 502, 504):
        raise NotTested(f"the archive cannot do it with this image: {answer.status}")
    if answer.status != 200:
        raise Violated(str(answer))


async def _bulk_data(visit: Visit) -> str:
    address, row = await _with_pixels(visit)
    root, _ = visit.known_study()
    links = [urljoin(f"{address}/metadata", one) for one in _links(row)]
    if not links:
        raise NotTested("no BulkDataURI in the metadata")
    if any(not one.startswith(root + "/") for one in links):
        raise Violated("a BulkDataURI leads out of the address: what is there gets no checks here")
    accept = "multipart/related; type=application/octet-stream, */*"
    answer = await visit.client.ask(links[0], accept=accept, images=True)
    _offered(answer)
    return f"{counted(len(links), 'link')} below the address; the first one: {answer.status}"


def _links(row: Row) -> Iterator[str]:
    for element in row.values():
        if isinstance(element, dict):
            if isinstance(element.get("BulkDataURI"), str):
                yield element["BulkDataURI"]
            values = element.get("Value")
            for item in values if isinstance(values, list) else ():
                if isinstance(item, dict):
                    yield from _links(item)


FORMS = (
    Check(41, "metadata of a study", _metadata_of_study),
    Check(41, "metadata of a series", _metadata_of_series),
    Check(41, "metadata of an instance", _metadata_of_instance),
    Check(41, "an instance, rendered", _rendered),
    Check(41, "an instance's thumbnail", _thumbnail),
    Check(41, "a frame", _frame),
    Check(42, "bulk data", _bulk_data),
)
