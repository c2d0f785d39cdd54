"""WADO-RS as dcm4chee answers it: which instances it can give, and in which parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.uid import UID

from sidecar.common.errors import NotAcceptable
from sidecar.demo.archive.accept import (
    choose_bulkdata_form,
    choose_frame_form,
    choose_object_form,
    choose_object_syntax,
)
from sidecar.demo.archive.instance import Attributes, StoredInstance
from sidecar.demo.archive.pixels import Pixels, bulkdata, explicit_little_endian
from sidecar.demo.archive.render import draw, parse_rendering
from sidecar.dicom.json_model import text
from sidecar.dicomweb.media_types import MediaRange
from sidecar.dicomweb.paths import Kind, Retrieval
from tests.dcm4chee.attributes import notes
from tests.dcm4chee.behaviour import ROOT, Behaviour
from tests.dcm4chee.query import Refused
from tests.dcm4chee.resteasy import BrokenFile, OutputPart

PIXEL_DATA = "7FE00010"
_PIXELS = frozenset({"7FE00008", "7FE00009", PIXEL_DATA})
_MULTIPART = ("multipart/related", "*/*")
_RENDERED = ("image/jpeg", "image/gif", "image/png")
STORAGE = "/opt/wildfly/standalone/data/fs1"
"""Where the archive has its files: errors name them."""


@dataclass(frozen=True, slots=True)
class Output:
    """What goes out: the parts, the root part's media type; ``not_acceptable``: how many instances
    are left out.
    """

    media_type: str
    parts: Iterator[OutputPart]
    not_acceptable: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """``root``: the DICOMweb root's URL; ``resource``: the URL of what was asked for, without a
    query.
    """

    root: str
    resource: str
    behaviour: Behaviour

    def part(
        self,
        instance: StoredInstance,
        content_type: str,
        location: str | None,
        body: Callable[[], bytes | Path],
    ) -> OutputPart:
        """Return a part made of an instance, whose file may be gone or cut."""
        return OutputPart(
            content_type, location, partial(self._body, instance.part.instance or "", body)
        )

    def _body(self, uid: str, body: Callable[[], bytes | Path]) -> bytes | Path:
        file = f"{STORAGE}/2026/11/28/{uid[-8:]}"
        if uid in self.behaviour.not_accessible:
            raise BrokenFile(f"java.nio.file.NoSuchFileException: {file}")
        content = body()
        if uid in self.behaviour.cut:
            whole = content if isinstance(content, bytes) else content.read_bytes()
            raise BrokenFile(f"java.io.EOFException: {file}", whole[: len(whole) // 2])
        return content

    def below_resource(self, instance: StoredInstance) -> str:
        """The URL of an instance's share of the resource: what the resource does not say stands
        behind it.
        """
        said, part = self.resource.split("/"), instance.part
        below = [("series", part.series), ("instances", part.instance)]
        return "/".join(
            (self.resource, *(f"{level}/{uid}" for level, uid in below if level not in said))
        )


def instance_url(instance: StoredInstance, root: str) -> str:
    """The absolute URL of an instance."""
    part = instance.part
    return f"{root}/studies/{part.study}/series/{part.series}/instances/{part.instance}"


def output(
    retrieval: Retrieval,
    instances: Sequence[StoredInstance],
    ranges: Sequence[MediaRange],
    query: dict[str, str],
    root: str,
    behaviour: Behaviour,
) -> Output:
    """Choose what goes out for an Accept header (PS3.18 8.7). Raises ``Refused`` (406, 404) as
    dcm4chee does.
    """
    context = Context(root, retrieval.url(root), behaviour)
    if retrieval.kind is Kind.THUMBNAIL or retrieval.kind is Kind.RENDERED:
        return _drawn(retrieval, instances, ranges, query, context)
    # A single part is never offered: not for one instance, and not for one frame.
    multiparts = [one for one in ranges if one.name in _MULTIPART]
    if not multiparts:
        raise Refused(406, "Not Acceptable")
    if retrieval.kind in (Kind.STUDY, Kind.SERIES, Kind.INSTANCE) and any(
        _wants_dicom(one) for one in multiparts
    ):
        return _objects(instances, multiparts, context)
    if retrieval.kind is Kind.FRAMES:
        return _frames(instances[0], retrieval.frames, multiparts, context)
    if retrieval.kind is Kind.BULKDATA and retrieval.steps:
        return _bulkdata(instances[0], retrieval.steps, multiparts, context)
    # A study, series or instance in another type than DICOM is its bulk data.
    return _pixels(instances, multiparts, context)


def _wants_dicom(one: MediaRange) -> bool:
    return one.name == "*/*" or (one.parameter("type") or "*/*").lower() in (
        "*/*",
        "application/dicom",
    )


def _objects(
    instances: Sequence[StoredInstance], ranges: Sequence[MediaRange], context: Context
) -> Output:
    form = choose_object_form(ranges, one_instance=False)
    measured = context.behaviour.is_measured
    syntaxes: list[tuple[StoredInstance, str]] = []
    for instance in instances:
        try:
            syntax = choose_object_syntax(
                instance.transfer_syntax, form.syntaxes, decodable=instance.is_decodable
            )
        except NotAcceptable:
            if not measured:
                continue
            syntax = UID(form.syntaxes[0])
        syntaxes.append((instance, syntax))
    if not syntaxes:
        raise Refused(406, "Not accepted instances present.")
    parts = (
        context.part(
            instance,
            f"application/dicom;transfer-syntax={syntax}",
            None if measured else instance_url(instance, context.root),
            partial(_file, instance, convert=syntax != instance.transfer_syntax),
        )
        for instance, syntax in syntaxes
    )
    media_type = f"application/dicom;transfer-syntax={syntaxes[0][1]}"
    return Output(media_type, parts, len(instances) - len(syntaxes))


def _file(instance: StoredInstance, *, convert: bool) -> bytes | Path:
    if convert and not instance.is_decodable:
        raise BrokenFile(f"java.lang.RuntimeException: No Reader for {STORAGE}/2026/11/28/x")
    return explicit_little_endian(instance.path) if convert else instance.path


def _frames(
    instance: StoredInstance, numbers: Sequence[int], ranges: Sequence[MediaRange], context: Context
) -> Output:
    if not instance.has_pixels:
        raise Refused(404, "Not an image.")
    form = choose_frame_form(
        ranges, instance.transfer_syntax, decodable=instance.is_decodable, one_part=False
    )
    return Output(
        form.media_type,
        _frame_parts(instance, numbers, form.media_type, context, stored=form.stored),
    )


def _frame_parts(
    instance: StoredInstance,
    numbers: Sequence[int],
    media_type: str,
    context: Context,
    *,
    stored: bool,
) -> Iterator[OutputPart]:
    pixels: list[Pixels] = []

    def load(number: int) -> bytes:
        if number > instance.number_of_frames:
            raise BrokenFile(f"java.lang.IndexOutOfBoundsException: {STORAGE}/2026/11/28/x")
        if not pixels:
            pixels.append(Pixels(instance.path, instance.number_of_frames))
        return pixels[0].stored_frame(number) if stored else pixels[0].decoded_frame(number)

    return (
        context.part(
            instance,
            media_type,
            f"{instance_url(instance, context.root)}/frames/{number}",
            partial(load, number),
        )
        for number in numbers
    )


def _bulkdata(
    instance: StoredInstance, steps: Sequence[str], ranges: Sequence[MediaRange], context: Context
) -> Output:
    if len(steps) == 1 and steps[0].upper() in _PIXELS:
        return _pixels([instance], ranges, context)
    path = "/".join(steps).upper()
    media_type = choose_bulkdata_form(ranges, one_part=False).media_type
    # Its items are numbered from 0, those of the index from 1.
    own_steps = [str(int(step) + 1) if at % 2 else step for at, step in enumerate(path.split("/"))]
    if "/".join(own_steps) not in instance.bulkdata:
        raise Refused(404, "No matches found.")
    location = f"{instance_url(instance, context.root)}/bulkdata/{path}"
    body = partial(bulkdata, instance.path, own_steps)
    return Output(media_type, iter([context.part(instance, media_type, location, body)]))


def _pixels(
    instances: Sequence[StoredInstance], ranges: Sequence[MediaRange], context: Context
) -> Output:
    images = [one for one in instances if one.has_pixels]
    if not images:
        raise Refused(404, "No matches found.")
    forms = [
        choose_frame_form(ranges, one.transfer_syntax, decodable=one.is_decodable, one_part=False)
        for one in images
    ]

    def parts() -> Iterator[OutputPart]:
        for image, form in zip(images, forms, strict=True):
            if image.transfer_syntax.is_compressed:
                numbers = range(1, image.number_of_frames + 1)
                yield from _frame_parts(
                    image, numbers, form.media_type, context, stored=form.stored
                )
            else:
                name = next(one for one in image.bulkdata if one in _PIXELS)
                load: Callable[[], bytes | Path] = partial(bulkdata, image.path, [name])
                measured = context.behaviour.is_measured
                location = (
                    context.below_resource(image) if measured else instance_url(image, context.root)
                )
                yield context.part(image, form.media_type, location, load)

    return Output(forms[0].media_type, parts())


def _drawn(
    retrieval: Retrieval,
    instances: Sequence[StoredInstance],
    ranges: Sequence[MediaRange],
    query: dict[str, str],
    context: Context,
) -> Output:
    thumbnail = retrieval.kind is Kind.THUMBNAIL
    images = [one for one in instances if one.has_pixels and one.is_decodable]
    if not images:
        raise Refused(406, "Not accepted instances present.")
    alone = thumbnail or len(instances) == 1
    wanted = [
        one.name if alone else one.parameter("type") or "*/*"
        for one in ranges
        if alone or one.name in _MULTIPART
    ]
    media_type = next(
        (
            offer
            for one in wanted
            for offer in _offers(retrieval, images[0], one, context.behaviour)
            if one in (offer, "image/*", "*/*")
        ),
        None,
    )
    if media_type is None:
        raise Refused(406, "Not accepted instances present.")
    rendering = parse_rendering(query, media_type, thumbnail=thumbnail)
    frame = (retrieval.frames or (1,))[0]
    parts = (
        context.part(
            one,
            media_type,
            instance_url(one, context.root) + "/rendered",
            partial(draw, one.path, frame, rendering),
        )
        for one in (images[:1] if alone else images)
    )
    return Output(media_type, parts, 0 if alone else len(instances) - len(images), alone)


def _offers(
    retrieval: Retrieval, image: StoredInstance, wanted: str, behaviour: Behaviour
) -> tuple[str, ...]:
    if behaviour.is_measured and retrieval.kind is Kind.THUMBNAIL and wanted == "*/*":
        return ("image/png",)
    has_several = (
        retrieval.kind is Kind.RENDERED and not retrieval.frames and image.number_of_frames > 1
    )
    return ("image/gif",) if behaviour.is_measured and has_several else _RENDERED


def metadata(
    instances: Sequence[StoredInstance], behaviour: Behaviour, root: str
) -> list[dict[str, Any]]:
    """The instances in DICOM JSON; documented: with the archive's notes. The BulkDataURIs as
    ``behaviour`` says.
    """
    return [_metadata(instance, behaviour, root) for instance in instances]


def _metadata(instance: StoredInstance, behaviour: Behaviour, root: str) -> dict[str, Any]:
    url = instance_url(instance, root)
    if behaviour.bulkdata_uris == "path":
        url = url[url.index(ROOT) :]
    prefix = "" if behaviour.bulkdata_uris == "relative" else url + "/"
    pixels = {
        "instance": url,
        "frames": f"{prefix}frames/1",
        "bulkdata": f"{prefix}bulkdata/{PIXEL_DATA}",
    }
    if behaviour.bulkdata_uris == "relative":
        pixels["instance"] = pixels["bulkdata"]
    copied = _with_uris(instance.attributes, prefix)
    if PIXEL_DATA in copied:
        copied[PIXEL_DATA] = {**copied[PIXEL_DATA], "BulkDataURI": pixels[behaviour.pixel_data_uri]}
    if behaviour.is_measured:
        return copied
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
            copied[name] = {
                **element,
                "Value": [_with_uris(item, prefix) for item in element["Value"]],
            }
        else:
            copied[name] = element
    return copied
