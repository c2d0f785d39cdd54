"""A folder of DICOM files, read once into an index of studies, series and instances."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import config

from sidecar.access.facts import Part
from sidecar.demo.archive.attributes import Level, level_of
from sidecar.demo.archive.instance import Attributes, StoredInstance, read_instance
from sidecar.dicom.json_model import number, tag, text

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Series:
    """Series with the attributes of its level and the archive's counts."""

    attributes: Attributes = field(default_factory=dict)
    instances: list[StoredInstance] = field(default_factory=list)


@dataclass(slots=True)
class Study:
    """Study with the attributes of patient and study and the archive's counts."""

    attributes: Attributes = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)

    def instances(self) -> Iterator[StoredInstance]:
        """Yield all instances, by series."""
        for series in self.series:
            yield from series.instances


class Index:
    """Studies by patient and date, their series and instances by number.

    Two patients under one StudyInstanceUID are two studies, as in real archives.
    """

    def __init__(self, instances: Iterable[StoredInstance]) -> None:
        self.studies = _by_study(instances)
        self._by_uid: dict[str, list[StoredInstance]] = {}
        for study in self.studies:
            for instance in study.instances():
                self._by_uid.setdefault(instance.part.study, []).append(instance)

    def find(self, part: Part) -> list[StoredInstance]:
        """Return the instances of a study, series or instance; none if the path does not exist."""
        return [
            instance
            for instance in self._by_uid.get(part.study, ())
            if part.series in (None, instance.part.series)
            and part.instance in (None, instance.part.instance)
        ]


def read_folder(folder: Path) -> Index:
    """Read all files in ``folder`` and below it.

    Files that cannot be stored are skipped; one log line has their number. Of several files with
    the same patient and UIDs, the first by path counts. Raises ``NotADirectoryError``.
    """
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    instances: dict[tuple[tuple[str, str], Part], StoredInstance] = {}
    skipped = 0
    with config.disable_value_validation():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            instance = read_instance(path)
            key = (_patient(instance.attributes), instance.part) if instance else None
            if instance is None or key is None or key in instances:
                skipped += 1
            else:
                instances[key] = instance
    log.info(
        "the archive's folder has been read",
        extra={"instances": len(instances), "files_skipped": skipped},
    )
    return Index(instances.values())


def _by_study(instances: Iterable[StoredInstance]) -> list[Study]:
    """Return the hierarchy with the attributes of each level and an archive's counts."""
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
    """Add the attributes of ``level`` for which no earlier instance had a value."""
    for name, element in attributes.items():
        if level_of(name) is level and (name not in above or len(above[name]) == 1 < len(element)):
            above[name] = element


def _count(studies: list[Study]) -> None:
    """Set the attributes with numbers (PS3.4 C.3.4), the modalities and the SOP classes."""
    patients: dict[tuple[str, str], list[Study]] = {}
    for study in studies:
        patients.setdefault(_patient(study.attributes), []).append(study)
    for study in studies:
        related = patients[_patient(study.attributes)]
        instances = list(study.instances())
        modalities = {text(series.attributes, "Modality") for series in study.series}
        classes = {text(instance.attributes, "SOPClassUID") for instance in instances}
        numbers = {
            "NumberOfPatientRelatedStudies": len(related),
            "NumberOfPatientRelatedSeries": sum(len(other.series) for other in related),
            "NumberOfPatientRelatedInstances": sum(
                len(list(other.instances())) for other in related
            ),
            "NumberOfStudyRelatedSeries": len(study.series),
            "NumberOfStudyRelatedInstances": len(instances),
        }
        study.attributes |= {
            tag("ModalitiesInStudy"): _element("CS", modalities)
            if any(modalities)
            else {"vr": "CS"},
            tag("SOPClassesInStudy"): _element("UI", classes),
            tag("InstanceAvailability"): _element("CS", {"ONLINE"}),
            **{tag(keyword): _element("IS", {count}) for keyword, count in numbers.items()},
        }
        for series in study.series:
            series.attributes[tag("NumberOfSeriesRelatedInstances")] = _element(
                "IS", {len(series.instances)}
            )


def _element(vr: str, values: set[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": sorted(values - {None})}
