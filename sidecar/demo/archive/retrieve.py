"""WADO-RS (PS3.18 10.4): whole instances, metadata, frames, pixel and other bulk data."""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from pydicom.uid import ExplicitVRLittleEndian

from sidecar.common.errors import NotAcceptable, NotFound
from sidecar.demo.archive.accept import (
    DataForm,
    choose_bulkdata_form,
    choose_frame_form,
    choose_object_form,
    choose_object_syntax,
)
from sidecar.demo.archive.instance import Attributes, StoredInstance
from sidecar.demo.archive.multipart import BodyPart, Load, send
from sidecar.demo.archive.pixels import Pixels, bulkdata, explicit_little_endian
from sidecar.dicomweb.media_types import MediaRange

_PIXEL_TAGS = frozenset({"7FE00008", "7FE00009", "7FE00010"})


def instance_url(instance: StoredInstance, root: str) -> str:
    """Return the absolute URL of an instance below the DICOMweb ``root``."""
    part = instance.part
    return f"{root}/studies/{part.study}/series/{part.series}/instances/{part.instance}"


def metadata(instances: Sequence[StoredInstance], root: str) -> list[dict[str, Any]]:
    """Return the instances in the DICOM JSON Model, each BulkDataURI absolute."""
    return [
        _with_absolute_urls(instance.attributes, instance_url(instance, root) + "/bulkdata/")
        for instance in instances
    ]


def _with_absolute_urls(attributes: Attributes, base: str) -> dict[str, Any]:
    copied: dict[str, Any] = {}
    for name, element in sorted(attributes.items()):
        if "BulkDataURI" in element:
            copied[name] = {**element, "BulkDataURI": base + element["BulkDataURI"]}
        elif element.get("vr") == "SQ" and "Value" in element:
            copied[name] = {
                **element,
                "Value": [_with_absolute_urls(item, base) for item in element["Value"]],
            }
        else:
            copied[name] = element
    return copied


async def send_objects(
    request: web.Request,
    instances: Sequence[StoredInstance],
    ranges: Sequence[MediaRange],
    root: str,
    *,
    one_instance: bool,
) -> web.StreamResponse:
    """Answer with whole instances (PS3.10 files). Raises ``NotAcceptable``."""
    form = choose_object_form(ranges, one_instance=one_instance)
    syntaxes = [
        choose_object_syntax(stored.transfer_syntax, form.syntaxes, decodable=stored.is_decodable)
        for stored in instances
    ]
    loads: Iterator[Load] = (
        partial(
            _load_object, instance, syntax, instance_url(instance, root), may_stay=not form.syntaxes
        )
        for instance, syntax in zip(instances, syntaxes, strict=True)
    )
    return await send(request, DataForm(form.multipart, "application/dicom", stored=True), loads)


def _load_object(
    instance: StoredInstance, syntax: str, location: str, *, may_stay: bool
) -> BodyPart:
    if syntax != instance.transfer_syntax:
        try:
            converted = io.BytesIO(explicit_little_endian(instance.path))
        except NotAcceptable:
            if not may_stay:
                raise
        else:
            return BodyPart(
                f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}", location, converted
            )
    stored = f"application/dicom; transfer-syntax={instance.transfer_syntax}"
    return BodyPart(stored, location, instance.path.open("rb"))


async def send_frames(
    request: web.Request,
    instance: StoredInstance,
    frames: Sequence[int],
    ranges: Sequence[MediaRange],
    root: str,
) -> web.StreamResponse:
    """Answer with frames, numbered from 1 (PS3.18 10.4.1.1.4).

    Raises ``NotFound`` or ``NotAcceptable``.
    """
    if not instance.has_pixels:
        raise NotFound("This instance has no image.", reason="no_pixels")
    if max(frames) > instance.number_of_frames:
        raise NotFound("There is no such frame.", reason="no_frame")
    form = _frame_form(instance, ranges, one_part=len(frames) == 1)
    return await send(request, form, _frame_loads(instance, frames, form, root))


def _frame_form(
    instance: StoredInstance, ranges: Sequence[MediaRange], *, one_part: bool
) -> DataForm:
    return choose_frame_form(
        ranges, instance.transfer_syntax, decodable=instance.is_decodable, one_part=one_part
    )


def _frame_loads(
    instance: StoredInstance, frames: Sequence[int], form: DataForm, root: str
) -> Iterator[Load]:
    """Return the loads of frames. The file is read with the first and released with the last."""
    opened: list[Pixels] = []
    content_type = form.media_type
    if form.stored:
        content_type += f"; transfer-syntax={instance.transfer_syntax}"

    def load(number: int) -> BodyPart:
        if not opened:
            opened.append(Pixels(instance.path, instance.number_of_frames))
        frame = opened[0].stored_frame(number) if form.stored else opened[0].decoded_frame(number)
        return BodyPart(
            content_type, f"{instance_url(instance, root)}/frames/{number}", io.BytesIO(frame)
        )

    return (partial(load, number) for number in frames)


async def send_bulkdata(
    request: web.Request,
    instance: StoredInstance,
    steps: Sequence[str],
    ranges: Sequence[MediaRange],
    root: str,
) -> web.StreamResponse:
    """Answer with the value that a BulkDataURI points to.

    Raises ``NotFound`` or ``NotAcceptable``.
    """
    path = "/".join(step.upper() for step in steps)
    if path in _PIXEL_TAGS:
        return await send_pixeldata(request, [instance], ranges, root)
    form = choose_bulkdata_form(ranges, one_part=True)
    return await send(request, form, iter([partial(_load_bulkdata, instance, path, root)]))


async def send_all_bulkdata(
    request: web.Request,
    instances: Sequence[StoredInstance],
    ranges: Sequence[MediaRange],
    root: str,
) -> web.StreamResponse:
    """Answer with every large value of the instances, pixels included (PS3.18 10.4.1.1.5)."""
    values = [(instance, path) for instance in instances for path in instance.bulkdata]
    if not values:
        raise NotFound("There is no bulk data.", reason="no_bulkdata")
    one_part = len(values) == 1 and (
        values[0][1] not in _PIXEL_TAGS or _has_one_pixel_part(values[0][0])
    )
    forms = [
        _frame_form(instance, ranges, one_part=one_part)
        if path in _PIXEL_TAGS
        else choose_bulkdata_form(ranges, one_part=one_part)
        for instance, path in values
    ]
    loads = (
        load
        for (instance, path), form in zip(values, forms, strict=True)
        for load in (
            _pixel_loads(instance, form, root)
            if path in _PIXEL_TAGS
            else iter([partial(_load_bulkdata, instance, path, root)])
        )
    )
    return await send(request, forms[0], loads)


async def send_pixeldata(
    request: web.Request,
    instances: Sequence[StoredInstance],
    ranges: Sequence[MediaRange],
    root: str,
) -> web.StreamResponse:
    """Answer with the pixel data of all instances, frame by frame (PS3.18 10.4.1.1.6).

    Data that is not compressed is one part. Raises ``NotFound`` or ``NotAcceptable``.
    """
    images = [instance for instance in instances if instance.has_pixels]
    if not images:
        raise NotFound("There is no image.", reason="no_pixels")
    one_part = len(images) == 1 and _has_one_pixel_part(images[0])
    # All forms are checked before the first image is read and sent.
    forms = [_frame_form(image, ranges, one_part=one_part) for image in images]
    loads = (
        load
        for image, form in zip(images, forms, strict=True)
        for load in _pixel_loads(image, form, root)
    )
    return await send(request, forms[0], loads)


def _has_one_pixel_part(instance: StoredInstance) -> bool:
    return not instance.transfer_syntax.is_compressed or instance.number_of_frames == 1


def _pixel_loads(instance: StoredInstance, form: DataForm, root: str) -> Iterator[Load]:
    if instance.transfer_syntax.is_compressed:
        return _frame_loads(instance, range(1, instance.number_of_frames + 1), form, root)
    path = next(path for path in instance.bulkdata if path in _PIXEL_TAGS)
    return iter([partial(_load_bulkdata, instance, path, root)])


def _load_bulkdata(instance: StoredInstance, path: str, root: str) -> BodyPart:
    location = f"{instance_url(instance, root)}/bulkdata/{path}"
    return BodyPart(
        "application/octet-stream", location, io.BytesIO(bulkdata(instance.path, path.split("/")))
    )


def drawable(instances: Sequence[StoredInstance]) -> StoredInstance:
    """Return the middle one of the instances with an image, which represents a study or series.

    Raises ``NotAcceptable`` when no instance has an image that can be drawn here.
    """
    images = [instance for instance in instances if instance.has_pixels and instance.is_decodable]
    if not images:
        raise NotAcceptable("There is nothing here that could be drawn.", reason="not_drawable")
    return images[len(images) // 2]
