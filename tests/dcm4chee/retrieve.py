"""WADO-RS as dcm4chee answers it: which instances it can give, and in which parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.common.dicom_json import text
from sidecar.common.errors import NotAcceptable
from sidecar.demo.archive_accept import (
    choose_bulkdata_form,
    choose_frame_form,
    choose_object_form,
    choose_object_syntax,
)
from sidecar.demo.archive_index import Attributes, Instance
from sidecar.demo.archive_pixels import Pixels, bulkdata, explicit_little_endian
from sidecar.demo.archive_render import draw, parse_rendering
from sidecar.pacs.media import MediaRange
from sidecar.pacs.resources import Kind, Retrieval
from tests.dcm4chee.attributes import notes
from tests.dcm4chee.behaviour import ROOT, Behaviour
from tests.dcm4chee.query import Refused
from tests.dcm4chee.resteasy import OutputPart

PIXEL_DATA = "7FE00010"
_PIXELS = frozenset({"7FE00008", "7FE00009", PIXEL_DATA})
_MULTIPART = ("multipart/related", "*/*")
_RENDERED = ("image/jpeg", "image/gif", "image/png")


@dataclass(frozen=True, slots=True)
class Output:
    """What goes out: the parts, the root part's media type; ``not_acceptable``: how many instances are left out."""

    media_type: str
    parts: Iterator[OutputPart]
    not_acceptable: int = 0
    alone: bool = False


def instance_url(instance: Instance, root: str) -> str:
    """The absolute URL of an instance."""
    part = instance.part
    return f"{root}/studies/{part.study}/series/{part.series}/instances/{part.instance}"


def output(
    retrieval: Retrieval, instances: Sequence[Instance], ranges: Sequence[MediaRange], query: dict[str, str], root: str
) -> Output:
    """Choose what goes out for an Accept header (PS3.18 8.7). Raises ``Refused`` (406, 404) as dcm4chee does."""
    if retrieval.kind is Kind.THUMBNAIL or retrieval.kind is Kind.RENDERED:
        return _drawn(retrieval, instances, ranges, query, root)
    # A single part is never offered: not for one instance, and not for one frame.
    multiparts = [one for one in ranges if one.media_type in _MULTIPART]
    if not multiparts:
        raise Refused(406, "Not Acceptable")
    if retrieval.kind in (Kind.STUDY, Kind.SERIES, Kind.INSTANCE) and any(_wants_dicom(one) for one in multiparts):
        return _objects(instances, multiparts, root)
    if retrieval.kind is Kind.FRAMES:
        return _frames(instances[0], retrieval.frames, multiparts, root)
    if retrieval.kind is Kind.BULKDATA and retrieval.steps:
        return _bulkdata(instances[0], retrieval.steps, multiparts, root)
    # A study, series or instance in another type than DICOM is its bulk data.
    return _pixels(instances, multiparts, root)


def _wants_dicom(one: MediaRange) -> bool:
    return one.media_type == "*/*" or (one.parameter("type") or "*/*").lower() in ("*/*", "application/dicom")


def _objects(instances: Sequence[Instance], ranges: Sequence[MediaRange], root: str) -> Output:
    form = choose_object_form(ranges, one_instance=False)
    syntaxes: list[tuple[Instance, str]] = []
    for instance in instances:
        try:
            syntax = choose_object_syntax(instance.transfer_syntax, form.syntaxes, decodable=instance.is_decodable)
        except NotAcceptable:
            continue
        syntaxes.append((instance, syntax))
    if not syntaxes:
        raise Refused(406, "Not accepted instances present.")
    parts = (
        OutputPart(
            f"application/dicom;transfer-syntax={syntax}",
            instance_url(instance, root),
            partial(_file, instance.path, convert=syntax != instance.transfer_syntax),
        )
        for instance, syntax in syntaxes
    )
    media_type = f"application/dicom;transfer-syntax={syntaxes[0][1]}"
    return Output(media_type, parts, len(instances) - len(syntaxes))


def _file(path: Path, *, convert: bool) -> bytes | Path:
    return explicit_little_endian(path) if convert else path


def _frames(instance: Instance, numbers: Sequence[int], ranges: Sequence[MediaRange], root: str) -> Output:
    if not instance.has_pixels:
        raise Refused(404, "Not an image.")
    form = choose_frame_form(ranges, instance.transfer_syntax, decodable=instance.is_decodable, one_part=False)
    return Output(form.media_type, _frame_parts(instance, numbers, form.media_type, root, stored=form.stored))


def _frame_parts(
    instance: Instance, numbers: Sequence[int], media_type: str, root: str, *, stored: bool
) -> Iterator[OutputPart]:
    pixels: list[Pixels] = []

    def load(number: int) -> bytes:
        if not pixels:
            pixels.append(Pixels(instance.path, instance.number_of_frames))
        return pixels[0].stored_frame(number) if stored else pixels[0].decoded_frame(number)

    return (
        OutputPart(media_type, f"{instance_url(instance, root)}/frames/{number}", partial(load, number))
        for number in numbers
    )


def _bulkdata(instance: Instance, steps: Sequence[str], ranges: Sequence[MediaRange], root: str) -> Output:
    if len(steps) == 1 and steps[0].upper() in _PIXELS:
        return _pixels([instance], ranges, root)
    path = "/".join(steps).upper()
    media_type = choose_bulkdata_form(ranges, one_part=False).media_type
    # Its items are numbered from 0, those of the index from 1.
    own_steps = [str(int(step) + 1) if at % 2 else step for at, step in enumerate(path.split("/"))]
    if "/".join(own_steps) not in instance.bulkdata:
        raise Refused(404, "No matches found.")
    location = f"{instance_url(instance, root)}/bulkdata/{path}"
    return Output(media_type, iter([OutputPart(media_type, location, partial(bulkdata, instance.path, own_steps))]))


def _pixels(instances: Sequence[Instance], ranges: Sequence[MediaRange], root: str) -> Output:
    images = [one for one in instances if one.has_pixels]
    if not images:
        raise Refused(404, "No matches found.")
    forms = [
        choose_frame_form(ranges, one.transfer_syntax, decodable=one.is_decodable, one_part=False) for one in images
    ]

    def parts() -> Iterator[OutputPart]:
        for image, form in zip(images, forms, strict=True):
            if image.transfer_syntax.is_compressed:
                numbers = range(1, image.number_of_frames + 1)
                yield from _frame_parts(image, numbers, form.media_type, root, stored=form.stored)
            else:
                name = next(one for one in image.bulkdata if one in _PIXELS)
                load: Callable[[], bytes | Path] = partial(bulkdata, image.path, [name])
                yield OutputPart(form.media_type, instance_url(image, root), load)

    return Output(forms[0].media_type, parts())


def _drawn(
    retrieval: Retrieval, instances: Sequence[Instance], ranges: Sequence[MediaRange], query: dict[str, str], root: str
) -> Output:
    thumbnail = retrieval.kind is Kind.THUMBNAIL
    images = [one for one in instances if one.has_pixels and one.is_decodable]
    if not images:
        raise Refused(406, "Not accepted instances present.")
    alone = thumbnail or len(instances) == 1
    wanted = [one.media_type if alone else one.parameter("type") or "*/*" for one in ranges
              if alone or one.media_type in _MULTIPART]  # fmt: skip
    media_type = next(
        (offer for one in wanted for offer in _RENDERED if one in (offer, "image/*", "*/*")), None
    )  # fmt: skip
    if media_type is None:
        raise Refused(406, "Not accepted instances present.")
    rendering = parse_rendering(query, media_type, thumbnail=thumbnail)
    frame = (retrieval.frames or (1,))[0]
    parts = (
        OutputPart(media_type, instance_url(one, root) + "/rendered", partial(draw, one.path, frame, rendering))
        for one in (images[:1] if alone else images)
    )
    return Output(media_type, parts, 0 if alone else len(instances) - len(images), alone)


def metadata(instances: Sequence[Instance], behaviour: Behaviour, root: str) -> list[dict[str, Any]]:
    """The instances in DICOM JSON, with the archive's notes; the BulkDataURIs as ``behaviour`` says."""
    return [_metadata(instance, behaviour, root) for instance in instances]


def _metadata(instance: Instance, behaviour: Behaviour, root: str) -> dict[str, Any]:
    url = instance_url(instance, root)
    if behaviour.bulkdata_uris == "path":
        url = url[url.index(ROOT) :]
    prefix = "" if behaviour.bulkdata_uris == "relative" else url + "/"
    pixels = {"instance": url, "frames": f"{prefix}frames/1", "bulkdata": f"{prefix}bulkdata/{PIXEL_DATA}"}
    if behaviour.bulkdata_uris == "relative":
        pixels["instance"] = pixels["bulkdata"]
    copied = _with_uris(instance.attributes, prefix)
    if PIXEL_DATA in copied:
        copied[PIXEL_DATA] = {**copied[PIXEL_DATA], "BulkDataURI": pixels[behaviour.pixel_data_uri]}
    availability = behaviour.availability(text(copied, "StudyInstanceUID") or "")
    return {**copied, "00080056": {"vr": "CS", "Value": [availability]}, **notes()}


def _with_uris(attributes: Attributes, prefix: str) -> dict[str, Any]:
    copied: dict[str, Any] = {}
    for name, element in sorted(attributes.items()):
        if "BulkDataURI" in element:
            steps = element["BulkDataURI"].split("/")
            path = "/".join(str(int(step) - 1) if at % 2 else step for at, step in enumerate(steps))
            copied[name] = {**element, "BulkDataURI": f"{prefix}bulkdata/{path}"}
        elif element.get("vr") == "SQ" and "Value" in element:
            copied[name] = {**element, "Value": [_with_uris(item, prefix) for item in element["Value"]]}
        else:
            copied[name] = element
    return copied
