"""Checks of an image's other representations: metadata, rendered, frames, bulk data (SIA-41)."""

from collections.abc import Iterator
from urllib.parse import urljoin

from sidecar.conformance.context import DICOM_JSON, Check, RunContext
from sidecar.conformance.levels import SHOULD, WISH, Leaked, NotTested, Violated
from sidecar.conformance.multipart import parts_of
from sidecar.conformance.reading import plural
from sidecar.conformance.response import Response
from sidecar.conformance.retrieval import instances_of, rows_of
from sidecar.conformance.rows import Row, number, text

Rows = list[Row]

_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
_JPEG = b"\xff\xd8\xff"


async def _metadata_of_study(run: RunContext) -> str:
    rows = await _metadata(run, run.study_url())
    uids = {text(row, "SOPInstanceUID") for row in rows}
    if run.has_whole_study and uids != {instance.uid for instance in run.instances}:
        raise Violated("metadata of other instances than the whole study has")
    run.instances = run.instances or instances_of(rows)
    return plural(len(rows), "instance")


async def _metadata_of_series(run: RunContext) -> str:
    url, instance = run.known_instance()
    rows = await _metadata(run, f"{url}/series/{instance.series}")
    if any(text(row, "SeriesInstanceUID") != instance.series for row in rows):
        raise Violated("metadata of another series")
    return plural(len(rows), "instance")


async def _metadata_of_instance(run: RunContext) -> str:
    url, instance = run.known_instance()
    rows = await _metadata(run, f"{url}/{instance.path}")
    if [text(row, "SOPInstanceUID") for row in rows] != [instance.uid]:
        raise Violated("metadata of another instance")
    return plural(len(rows[0]), "attribute")


async def _metadata(run: RunContext, url: str) -> Rows:
    """Return the rows, which must be of the study and its patient. Raises ``Violated``."""
    answer = await run.client.request(f"{url}/metadata", accept=DICOM_JSON, images=True)
    answer.raise_if_not_offered()
    if answer.stopped is not None:
        raise NotTested(f"it was {answer.stopped}")
    rows = rows_of(answer)
    if any(text(row, "StudyInstanceUID") != run.study for row in rows):
        raise Leaked("metadata of another study")
    patients = {text(row, "PatientID") or "" for row in rows}
    if len(patients) > 1 or (run.patients_inside and not patients <= run.patients_inside):
        raise Violated("the PatientID in the metadata is another than in the instances")
    return rows


async def _with_pixels(run: RunContext) -> tuple[str, Row]:
    """Return the address of an instance that has pixels, and its metadata. Raises ``NotTested``."""
    url, _ = run.known_instance()
    for row in await _metadata(run, url):
        if number(row, "Rows"):
            series, instance = text(row, "SeriesInstanceUID"), text(row, "SOPInstanceUID")
            return f"{url}/series/{series}/instances/{instance}", row
    raise NotTested("no instance of the study has pixels")


async def _rendered(run: RunContext) -> str:
    address, _ = await _with_pixels(run)
    return await _drawn(run, f"{address}/rendered")


async def _thumbnail(run: RunContext) -> str:
    address, _ = await _with_pixels(run)
    return await _drawn(run, f"{address}/thumbnail")


async def _drawn(run: RunContext, url: str) -> str:
    answer = await run.client.request(url, accept="image/jpeg", images=True)
    _offered(answer)
    if answer.media_type != "image/jpeg" or not answer.body.startswith(_JPEG):
        raise Violated(f"Accept: image/jpeg brings {answer}")
    return str(answer)


async def _frame(run: RunContext) -> str:
    address, _ = await _with_pixels(run)
    answer = await run.client.request(f"{address}/frames/1", accept=_FRAMES, images=True)
    _offered(answer)
    if answer.media_type != "multipart/related":
        raise Violated(f"Accept: {_FRAMES} brings {answer}")
    # Some servers add the transfer syntax to the parameter's value.
    part_type = (answer.parameter("type") or "application/octet-stream").partition(";")[0]
    parts = parts_of(answer, part_type.strip().lower())
    if answer.stopped is None and len(parts) != 1:
        raise Violated(f"{len(parts)} parts for one frame")
    return "one part"


def _offered(answer: Response) -> None:
    answer.raise_if_not_offered()
    if answer.status in (400, 502, 504):
        raise NotTested(f"it is not offered for this image ({answer.status})")
    answer.expect()


async def _bulk_data(run: RunContext) -> str:
    address, row = await _with_pixels(run)
    root, _ = run.known_study()
    links = [urljoin(f"{address}/metadata", uri) for uri in _links(row)]
    if not links:
        raise NotTested("no BulkDataURI in the metadata")
    if any(not link.startswith(root + "/") for link in links):
        raise Violated("a BulkDataURI leads out of the address: what is there gets no checks here")
    accept = "multipart/related; type=application/octet-stream, */*"
    answer = await run.client.request(links[0], accept=accept, images=True)
    _offered(answer)
    return f"{plural(len(links), 'link')} below the address; the first one: {answer.status}"


def _links(row: Row) -> Iterator[str]:
    for element in row.values():
        if isinstance(element, dict):
            if isinstance(element.get("BulkDataURI"), str):
                yield element["BulkDataURI"]
            values = element.get("Value")
            for item in values if isinstance(values, list) else ():
                if isinstance(item, dict):
                    yield from _links(item)


REPRESENTATIONS = (
    Check(41, SHOULD, "metadata of a study", _metadata_of_study),
    Check(41, SHOULD, "metadata of a series", _metadata_of_series),
    Check(41, SHOULD, "metadata of an instance", _metadata_of_instance),
    Check(41, SHOULD, "an instance, rendered", _rendered),
    Check(41, WISH, "an instance's thumbnail", _thumbnail),
    Check(41, SHOULD, "a frame", _frame),
    Check(42, WISH, "bulk data", _bulk_data),
)
