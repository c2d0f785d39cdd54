"""A folder of DICOM files, read once into an index of studies, series and instances."""

import logging
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, config, dcmread
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
from sidecar.demo.archive.attributes import Level, level_of
from sidecar.dicom.json_model import number, tag, text
from sidecar.dicom.uid import is_uid

log = logging.getLogger(__name__)

Attributes = dict[str, Any]
"""A data set in the DICOM JSON Model.

The ``BulkDataURI`` of a large value is its path below ``…/bulkdata/``.
"""

INLINE_LIMIT_BYTES = 1_024
"""Binary values of more bytes than this are bulk data; pixels always are."""

_PIXELS = {"7FE00008": "OF", "7FE00009": "OD", "7FE00010": "OW"}


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One file. ``bulkdata`` are the paths of its large values.

    ``has_pixels``: those of an image are among them.
    """

    part: Part
    path: Path
    transfer_syntax: UID
    attributes: Attributes
    bulkdata: tuple[str, ...]

    @property
    def has_pixels(self) -> bool:
        """Whether there is an image (PixelData or its float forms)."""
        return not _PIXELS.keys().isdisjoint(self.attributes)

    @property
    def is_decodable(self) -> bool:
        """Whether its image is not compressed or can be decompressed here.

        True of what has none.
        """
        try:
            plugins = get_decoder(self.transfer_syntax).available_plugins
        except NotImplementedError:
            return False
        if self.transfer_syntax == JPEGExtended12Bit and plugins == ("pillow",):
            # Pillow has eight of its twelve bits.
            return number(self.attributes, "BitsStored") == 8
        return not self.transfer_syntax.is_compressed or bool(plugins)

    @property
    def number_of_frames(self) -> int:
        """As the file says; one where it says nothing."""
        return number(self.attributes, "NumberOfFrames") or 1


@dataclass(slots=True)
class Series:
    """``attributes``: those of the series level; what was counted, too."""

    attributes: Attributes = field(default_factory=dict)
    instances: list[StoredInstance] = field(default_factory=list)


@dataclass(slots=True)
class Study:
    """``attributes``: those of patient and study; what was counted, too."""

    attributes: Attributes = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)

    def instances(self) -> Iterator[StoredInstance]:
        """All instances, by series."""
        for series in self.series:
            yield from series.instances


class Index:
    """The studies by patient and date, their series and instances by number.

    Two patients under one StudyInstanceUID are two studies, as in real archives.
    """

    def __init__(self, instances: Iterable[StoredInstance]) -> None:
        self.studies = _by_study(instances)
        self._by_uid: dict[str, list[StoredInstance]] = {}
        for study in self.studies:
            for instance in study.instances():
                self._by_uid.setdefault(instance.part.study, []).append(instance)

    def find(self, part: Part) -> list[StoredInstance]:
        """The instances of a study, series or instance in their order.

        Empty when it is not in what the path says.
        """
        return [
            instance
            for instance in self._by_uid.get(part.study, ())
            if part.series in (None, instance.part.series)
            and part.instance in (None, instance.part.instance)
        ]


def read_folder(folder: Path) -> Index:
    """Read all files in ``folder`` and below it.

    Those that cannot be filed are skipped; one log line has their number.

    Of several files with the same patient and UIDs, the first by path counts. Raises
    ``NotADirectoryError``.
    """
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    found: dict[tuple[tuple[str, str], Part], StoredInstance] = {}
    skipped = 0
    with config.disable_value_validation():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            instance = _read_instance(path)
            key = (_patient(instance.attributes), instance.part) if instance else None
            if instance is None or key is None or key in found:
                skipped += 1
            else:
                found[key] = instance
    log.info(
        "the archive's folder has been read",
        extra={"instances": len(found), "files_skipped": skipped},
    )
    return Index(found.values())


def _read_instance(path: Path) -> StoredInstance | None:
    """The instance in a file; nothing when it is not DICOM, or without valid UIDs (a DICOMDIR)."""
    try:
        with path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True)
            syntax = UID(dataset.file_meta.TransferSyntaxUID)
            pixels = _pixels_follow(dataset, syntax, file.read(6))
        attributes = (
            {tag("SpecificCharacterSet"): {"vr": "CS", "Value": ["ISO_IR 192"]}}
            | _json(dataset)
            | pixels
        )
    except Exception:  # Whatever pydicom raises on bytes that are not what they say.
        return None
    uids = [
        text(attributes, keyword) or ""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ]
    if not all(is_uid(uid) for uid in uids):
        return None
    return StoredInstance(Part(*uids), path, syntax, attributes, tuple(_bulkdata_paths(attributes)))


def _pixels_follow(dataset: FileDataset, syntax: UID, next_bytes: bytes) -> dict[str, Any]:
    """The pixel element that reading stopped at: its tag and VR are the next bytes of the file."""
    if syntax == DeflatedExplicitVRLittleEndian:
        # The data set was read from its inflated copy: where the file stands says nothing.
        found = "7FE00010" if "Rows" in dataset else ""
    elif len(next_bytes) == 6:
        found = "{:04X}{:04X}".format(
            *struct.unpack(">HH" if syntax == ExplicitVRBigEndian else "<HH", next_bytes[:4])
        )
    else:
        found = ""
    if found not in _PIXELS:
        return {}
    vr = next_bytes[4:].decode("latin-1")
    explicit = syntax not in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian) and vr in (
        "OB",
        "OW",
        "OF",
        "OD",
    )
    return {found: {"vr": vr if explicit else _PIXELS[found], "BulkDataURI": found}}


def _json(dataset: Dataset) -> dict[str, Any]:
    """The data set in the DICOM JSON Model, in UTF-8.

    One odd attribute is left out and never spoils the rest.
    """
    paths = dict(_paths(dataset, ""))
    converted: dict[str, Any] = {}
    for element in _elements(dataset):
        try:
            converted[f"{element.tag:08X}"] = element.to_json_dict(
                lambda large: paths[id(large)], INLINE_LIMIT_BYTES * 4 // 3
            )
        except (TypeError, ValueError, AttributeError):
            continue
    if "SpecificCharacterSet" in dataset:
        converted[tag("SpecificCharacterSet")] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return converted


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """The elements whose values can be read."""
    for key in list(dataset.keys()):
        try:
            yield dataset[key]
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            continue


def _paths(dataset: Dataset, above: str) -> Iterator[tuple[int, str]]:
    """Each element's identity and its path: tags and, from 1, item numbers."""
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


def _by_study(instances: Iterable[StoredInstance]) -> list[Study]:
    """Build the hierarchy with the attributes of each level and what an archive counts."""
    studies: dict[tuple[str, ...], Study] = {}
    series: dict[tuple[str, ...], Series] = {}
    for instance in sorted(instances, key=_order):
        study_key = (*_patient(instance.attributes), instance.part.study)
        series_key = (*study_key, instance.part.series or "")
        study = studies.setdefault(study_key, Study())
        if series_key not in series:
            series[series_key] = Series()
            study.series.append(series[series_key])
        series[series_key].instances.append(instance)
        _add_attributes(study.attributes, instance.attributes, Level.STUDY)
        _add_attributes(series[series_key].attributes, instance.attributes, Level.SERIES)
    _count(list(studies.values()))
    return list(studies.values())


def _order(instance: StoredInstance) -> tuple[Any, ...]:
    attributes = instance.attributes
    return (
        *_patient(attributes),
        text(attributes, "StudyDate") or "",
        instance.part.study,
        number(attributes, "SeriesNumber") or 0,
        instance.part.series,
        number(attributes, "InstanceNumber") or 0,
        instance.part.instance,
    )


def _patient(attributes: Attributes) -> tuple[str, str]:
    return text(attributes, "PatientID") or "", text(attributes, "IssuerOfPatientID") or ""


def _add_attributes(above: Attributes, attributes: Attributes, level: Level) -> None:
    """Add what belongs to ``level`` and no earlier instance had a value for."""
    for name, element in attributes.items():
        if level_of(name) is level and (name not in above or len(above[name]) == 1 < len(element)):
            above[name] = element


def _count(studies: list[Study]) -> None:
    """Set the attributes that say how many there are (PS3.4 C.3.4), and ModalitiesInStudy."""
    patients: dict[tuple[str, str], list[Study]] = {}
    for study in studies:
        patients.setdefault(_patient(study.attributes), []).append(study)
    for of_patient in patients.values():
        for study in of_patient:
            modalities = {
                value for series in study.series if (value := text(series.attributes, "Modality"))
            }
            classes = {
                value for one in study.instances() if (value := text(one.attributes, "SOPClassUID"))
            }
            study.attributes |= {
                tag("ModalitiesInStudy"): {"vr": "CS", "Value": sorted(modalities)}
                if modalities
                else {"vr": "CS"},
                tag("SOPClassesInStudy"): {"vr": "UI", "Value": sorted(classes)},
                tag("InstanceAvailability"): {"vr": "CS", "Value": ["ONLINE"]},
                tag("NumberOfPatientRelatedStudies"): _integer(len(of_patient)),
                tag("NumberOfPatientRelatedSeries"): _integer(
                    sum(len(one.series) for one in of_patient)
                ),
                tag("NumberOfPatientRelatedInstances"): _integer(
                    sum(len(list(one.instances())) for one in of_patient)
                ),
                tag("NumberOfStudyRelatedSeries"): _integer(len(study.series)),
                tag("NumberOfStudyRelatedInstances"): _integer(len(list(study.instances()))),
            }
            for series in study.series:
                series.attributes[tag("NumberOfSeriesRelatedInstances")] = _integer(
                    len(series.instances)
                )


def _integer(value: int) -> dict[str, Any]:
    return {"vr": "IS", "Value": [value]}
