"""DICOM files of the archive, read into attributes. Large values are bulk data."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from sidecar.access.facts import Part
from sidecar.dicom.json_model import number, tag, text
from sidecar.dicom.uid import is_uid

Attributes = dict[str, Any]
"""Data set in the DICOM JSON Model. A ``BulkDataURI`` is the path below ``…/bulkdata/``."""

INLINE_LIMIT_BYTES = 1_024
"""Largest binary value that is no bulk data, in bytes. Pixels are bulk data in any case."""

_PIXELS = {"7FE00008": "OF", "7FE00009": "OD", "7FE00010": "OW"}


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """Instance in a file. ``bulkdata`` are the paths of its large values."""

    part: Part
    path: Path
    transfer_syntax: UID
    attributes: Attributes
    bulkdata: tuple[str, ...]

    @property
    def has_pixels(self) -> bool:
        """Whether the instance has an image (PixelData or its float forms)."""
        return not _PIXELS.keys().isdisjoint(self.attributes)

    @property
    def is_decodable(self) -> bool:
        """Whether an image, if there is one, is not compressed or can be decompressed."""
        try:
            plugins = get_decoder(self.transfer_syntax).available_plugins
        except NotImplementedError:
            return False
        if self.transfer_syntax == JPEGExtended12Bit and plugins == ("pillow",):
            # Pillow decodes eight of its twelve bits.
            return number(self.attributes, "BitsStored") == 8
        return not self.transfer_syntax.is_compressed or bool(plugins)

    @property
    def number_of_frames(self) -> int:
        """NumberOfFrames of the file, 1 without it."""
        return number(self.attributes, "NumberOfFrames") or 1


def read_instance(path: Path) -> StoredInstance | None:
    """Return the instance in a file; ``None`` without DICOM or valid UIDs (such as a DICOMDIR)."""
    try:
        with path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True)
            syntax = UID(dataset.file_meta.TransferSyntaxUID)
            pixels = _pixels_follow(dataset, syntax, file.read(6))
        attributes = _json(dataset) | pixels
    except Exception:  # pydicom raises errors of many types on malformed bytes.
        return None
    uids = [
        text(attributes, keyword) or ""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ]
    if not all(is_uid(uid) for uid in uids):
        return None
    return StoredInstance(Part(*uids), path, syntax, attributes, tuple(_bulkdata_paths(attributes)))


def _pixels_follow(dataset: FileDataset, syntax: UID, next_bytes: bytes) -> dict[str, Any]:
    """Return the pixel element at which reading stopped: its tag and VR are the next bytes."""
    name = ""
    if syntax == DeflatedExplicitVRLittleEndian:
        # The data set was read from its inflated copy, so the file's position does not count.
        name = "7FE00010" if "Rows" in dataset else ""
    elif len(next_bytes) == 6:
        order = ">HH" if syntax == ExplicitVRBigEndian else "<HH"
        name = "{:04X}{:04X}".format(*struct.unpack(order, next_bytes[:4]))
    if name not in _PIXELS:
        return {}
    vr = next_bytes[4:].decode("latin-1")
    has_vr = syntax not in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    explicit = has_vr and vr in ("OB", "OW", "OF", "OD")
    return {name: {"vr": vr if explicit else _PIXELS[name], "BulkDataURI": name}}


def _json(dataset: Dataset) -> dict[str, Any]:
    """Return the data set in the DICOM JSON Model, in UTF-8, without malformed attributes."""
    paths = dict(_paths(dataset, ""))
    converted: dict[str, Any] = {}
    for element in _elements(dataset):
        try:
            converted[f"{element.tag:08X}"] = element.to_json_dict(
                lambda large: paths[id(large)], INLINE_LIMIT_BYTES * 4 // 3
            )
        except (TypeError, ValueError, AttributeError):
            continue
    return converted | {tag("SpecificCharacterSet"): {"vr": "CS", "Value": ["ISO_IR 192"]}}


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """Yield the elements whose values can be read."""
    for key in list(dataset.keys()):
        try:
            yield dataset[key]
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            continue


def _paths(dataset: Dataset, above: str) -> Iterator[tuple[int, str]]:
    """Yield each element's identity and its path of tags and item numbers from 1."""
    for element in _elements(dataset):
        path = f"{above}{element.tag:08X}"
        yield id(element), path
        if element.VR == "SQ":
            for position, item in enumerate(_items(element), 1):
                yield from _paths(item, f"{path}/{position}/")


def _items(element: DataElement) -> Iterable[Dataset]:
    items: Iterable[Dataset] = element.value or ()
    return items


def _bulkdata_paths(attributes: Attributes) -> Iterator[str]:
    for element in attributes.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        elif element.get("vr") == "SQ":
            for item in element.get("Value", ()):
                yield from _bulkdata_paths(item)
