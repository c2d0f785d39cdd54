"""The path grammar of DICOMweb (PS3.18 10.4.1 retrieve, 10.6.1 search) below a patient's root.

A request's path becomes a value here or is refused. The PACS's path is built from that value, not
from bytes of the client's path. This prevents attacks in which the checked path is not the path
that is served.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sidecar.access.facts import Part
from sidecar.common.errors import BadRequest, NotFound
from sidecar.dicom.dictionary import tag_of
from sidecar.dicom.uid import is_uid

MAXIMUM_FRAMES = 1_000
"""Limit of frames in a request."""

_FRAME = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)
# A tag, or the number of a sequence item, as Orthanc and dcm4chee write behind /bulkdata/. Other
# archives write a keyword.
_BULKDATA_STEP = re.compile(r"[0-9A-Fa-f]{8}|[0-9]{1,5}", re.ASCII)
_MAXIMUM_BULKDATA_STEPS = 33
_LEVELS = ("studies", "series", "instances")
UID_OF_LEVEL = {
    "studies": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instances": "SOPInstanceUID",
}
"""The attribute that identifies a row of each level."""


class Kind(StrEnum):
    """Kinds of retrieved resources, and the values of the ``kind`` label of metrics."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"
    METADATA = "metadata"
    FRAMES = "frames"
    RENDERED = "rendered"
    THUMBNAIL = "thumbnail"
    BULKDATA = "bulkdata"
    PIXELDATA = "pixeldata"


OBJECTS = frozenset({Kind.STUDY, Kind.SERIES, Kind.INSTANCE})
"""The kinds whose answer has whole instances (application/dicom)."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A WADO-RS resource: ``kind`` of ``part``.

    ``frames`` count from 1. ``steps`` is the path of the bulk data.
    """

    kind: Kind
    part: Part
    frames: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is all instances, or all metadata, of a study or series."""
        return self.part.instance is None and (self.kind in OBJECTS or self.kind is Kind.METADATA)

    def url(self, root: str, *, bulkdata: str = "bulkdata") -> str:
        """Return the absolute URL of this resource below the PACS's DICOMweb ``root``.

        ``bulkdata`` is the PACS's name of that segment (Orthanc: ``bulk``).
        """
        return "/".join((_part_url(root, self.part, self.frames), *self._suffix(bulkdata)))

    def _suffix(self, bulkdata: str) -> tuple[str, ...]:
        if self.kind in OBJECTS or self.kind is Kind.FRAMES:
            return ()
        return (bulkdata if self.kind is Kind.BULKDATA else self.kind.value, *self.steps)


@dataclass(frozen=True, slots=True)
class Query:
    """A QIDO-RS resource: the ``level`` of its rows, and the study and series of the path."""

    level: str
    study: str | None = None
    series: str | None = None

    def url(self, root: str) -> str:
        """Return the absolute URL of this resource below the PACS's DICOMweb ``root``."""
        if self.study is None:
            below = root if self.series is None else f"{root}/series/{self.series}"
        else:
            below = _part_url(root, Part(self.study, self.series), ())
        return f"{below}/{self.level}"


def _part_url(root: str, part: Part, frames: tuple[int, ...]) -> str:
    if not all(is_uid(uid) for uid in (part.study, part.series, part.instance) if uid is not None):
        raise ValueError("no URL has such a UID")
    levels = ("studies", part.study), ("series", part.series), ("instances", part.instance)
    url = root + "".join(f"/{level}/{uid}" for level, uid in levels if uid is not None)
    return f"{url}/frames/{','.join(map(str, frames))}" if frames else url


def parse(segments: Sequence[str]) -> Retrieval | Query:
    """Return the resource that the path segments below a DICOMweb root name.

    Raises ``NotFound`` for a path that DICOMweb does not define, ``BadRequest`` for a malformed UID
    or frame list.
    """
    rest = list(segments)
    uids: list[str] = []
    levels: list[str] = []
    first = _LEVELS.index(rest[0]) if rest and rest[0] in _LEVELS else len(_LEVELS)
    for level in _LEVELS[first:]:
        if not rest or rest[0] != level:
            break
        levels.append(rest.pop(0))
        if not rest:
            return _query(levels, uids)
        uids.append(_uid(rest.pop(0)))
    # "studies/1.2/instances" lists all instances of a study.
    if len(uids) == 1 and levels == ["studies"] and rest == ["instances"]:
        return Query("instances", study=uids[0])
    if not uids or levels[0] != "studies":
        raise _not_dicomweb()
    return _retrieval(Part(*uids), rest)


def _query(levels: list[str], uids: list[str]) -> Query:
    level = levels[-1]
    if levels[0] == "studies":
        return Query(level, *uids)
    if levels == ["series", "instances"]:
        return Query(level, series=uids[0])
    return Query(level)


def _retrieval(part: Part, rest: list[str]) -> Retrieval:
    whole = Kind.INSTANCE if part.instance else Kind.SERIES if part.series else Kind.STUDY
    match rest:
        case []:
            return Retrieval(whole, part)
        case ["metadata" | "rendered" | "thumbnail" as kind]:
            return Retrieval(Kind(kind), part)
        case ["pixeldata"]:
            return Retrieval(Kind.PIXELDATA, part)
        case ["frames", frames] if part.instance:
            return Retrieval(Kind.FRAMES, part, _frames(frames))
        case ["frames", frames, "rendered" | "thumbnail" as kind] if part.instance:
            return Retrieval(Kind(kind), part, _frames(frames))
        case ["bulkdata", *steps] if _are_bulkdata_steps(steps) and (part.instance or not steps):
            return Retrieval(Kind.BULKDATA, part, steps=tuple(steps))
    raise _not_dicomweb()


def _are_bulkdata_steps(steps: Sequence[str]) -> bool:
    return len(steps) <= _MAXIMUM_BULKDATA_STEPS and all(
        _BULKDATA_STEP.fullmatch(step)
        or (step.isascii() and step.isalnum() and tag_of(step) is not None)
        for step in steps
    )


def _uid(text: str) -> str:
    if not is_uid(text):
        raise BadRequest(
            "The path has a UID that is not digits and single points, 128 characters at most.",
            reason="bad_uid",
        )
    return text


def _frames(text: str) -> tuple[int, ...]:
    numbers = text.split(",", MAXIMUM_FRAMES)
    if (
        len(numbers) > MAXIMUM_FRAMES
        or not all(_FRAME.fullmatch(number) for number in numbers)
        or len(set(numbers)) < len(numbers)
    ):
        raise BadRequest(
            f"Frames are different numbers from 1, separated by commas, at most {MAXIMUM_FRAMES}.",
            reason="bad_frames",
        )
    return tuple(int(number) for number in numbers)


def _not_dicomweb() -> NotFound:
    return NotFound("There is no such resource.", reason="unknown_path")
