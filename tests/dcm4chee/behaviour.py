"""What can be set in the emulated dcm4chee, and what it was asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["measured", "documented"]
"""``measured``: as a dcm4chee-arc 5.35.1 answered. ``documented``: as the source of 5.x says where
that differs.
"""
MODES: tuple[Mode, ...] = ("measured", "documented")

ROOT = "/dcm4chee-arc/aets/DCM4CHEE/rs"
"""The DICOMweb root's path: the archive's AE title is DCM4CHEE."""

AE_TITLE = "DCM4CHEE"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: ``target`` is its path and query as they came; header names are lower-cased."""

    target: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Behaviour:
    """The archive's configuration, changed by tests as it runs.

    ``mode``: which dcm4chee (``dcm4chee_dialogue.py`` has the differences). ``qido_maximum`` is
    qidoMaxNumberOfResults: a longer answer is cut there, with a Warning. ``query_maximum`` is
    queryMaxNumberOfResults: a query that matches more is refused (413). ``bearer_token``: secured
    by Keycloak, only this token is good. ``rejected`` (SOP Instance UIDs) are hidden; read once,
    when the archive is made. ``not_accessible`` (SOP Instance UIDs) are listed, but their files are
    gone; ``cut`` (when measured): half there. ``near_line``: seconds to the first byte of a study's
    retrievals, by StudyInstanceUID; ``offline``: studies of that availability. ``redirects``:
    studies that another archive has, with the Location to answer (never measured).
    ``bulkdata_uris``: how metadata point to bulk data; ``pixel_data_uri``: what stands there for
    the image. ``entity_tags``: whether lists below a study have an ETag (when documented).
    """

    mode: Mode = "measured"
    qido_maximum: int = 7
    query_maximum: int | None = None
    bearer_token: str | None = None
    rejected: frozenset[str] = frozenset()
    not_accessible: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    near_line: dict[str, float] = field(default_factory=dict)
    offline: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    bulkdata_uris: Literal["absolute", "path", "relative"] = "absolute"
    pixel_data_uri: Literal["instance", "frames", "bulkdata"] = "instance"
    entity_tags: bool = True
    asked: list[Asked] = field(default_factory=list)

    @property
    def is_measured(self) -> bool:
        """Whether the answers are those of the real one."""
        return self.mode == "measured"

    def availability(self, study: str) -> str:
        """InstanceAvailability (0008,0056) of a study and everything in it."""
        if study in self.offline:
            return "OFFLINE"
        return "NEARLINE" if study in self.near_line else "ONLINE"
