"""The studies of the phantoms: what is in them, and what each is there to show."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from sidecar.demo.people import ADA, BRUNO
from sidecar.demo.phantoms import series
from sidecar.demo.phantoms.dataset import StudyLabel
from sidecar.demo.phantoms.head import T1, T2, Head

RESEARCH = "Research, T2"
"""SeriesDescription of the series that a rule of the demo hides."""
FOLLOW_UP = "CT head, follow-up"
"""StudyDescription of the study that a rule of the demo holds back after its beginning."""

_ADAS_HEAD = Head(7, lesion_mm=13)
_PARAGRAPHS = (
    "This report was written by a program. Neither the patient nor the images are real.",
    "Question: headache since this morning.",
    "Finding: a dense area of 26 mm in the right half of the brain.",
    "There is a seam of fluid around it. The ventricles are not displaced. The skull is intact.",
    "Assessment: a fresh bleeding, as a phantom has it. A follow-up is recommended.",
)


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """A study, its ``purpose`` in the demo, and a ``note`` on it for people."""

    facts: StudyLabel
    purpose: str
    note: str
    make: Callable[[StudyLabel], Iterator[Dataset]]


def _mr(facts: StudyLabel) -> Iterator[Dataset]:
    head = Head(7)
    yield from series.mr(facts, head, T1, slices=24, number=1, description="Axial, T1")
    yield from series.mr(facts, head, T2, slices=24, number=2, description=RESEARCH)


def _ct(head: Head, slices: int) -> Callable[[StudyLabel], Iterator[Dataset]]:
    return partial(series.ct, head=head, slices=slices)


def phantom_studies(now: datetime) -> tuple[PhantomStudy, ...]:
    """Return all of them. One begins ``now``; the dates of the others are fixed."""
    today = now.astimezone(UTC)

    def ada(key: str, description: str, date: str, accession: str, part: str) -> StudyLabel:
        return StudyLabel(key, ADA, description, date, "091500", accession, part)

    return (
        PhantomStudy(
            ada("ct head", "CT head", "20260317", "A20260317", "HEAD"),
            "volume",
            "96 slices. Scroll through them, and try the brain and bone windows.",
            _ct(_ADAS_HEAD, 96),
        ),
        PhantomStudy(
            ada("echo", "Echocardiography", "20260212", "A20260212", "HEART"),
            "multiframe",
            "A heart beat in grey, and one in which colours show how blood flows.",
            partial(series.ultrasound, seed=3),
        ),
        PhantomStudy(
            ada("chest", "X-ray chest", "20260118", "A20260118", "CHEST"),
            "x-ray",
            "One large image of 12 bits.",
            partial(series.x_ray, seed=3),
        ),
        PhantomStudy(
            ada("reformats", "CT head, reformatted", "20260317", "A20260318", "HEAD"),
            "compressed",
            "Stored in JPEG-LS, JPEG 2000 and baseline JPEG.",
            partial(series.compressed, head=_ADAS_HEAD),
        ),
        PhantomStudy(
            ada("skin", "Photograph of a mole", "20251104", "A20251104", "ARM"),
            "photo",
            "A photograph in visible light.",
            partial(series.photograph, seed=3),
        ),
        PhantomStudy(
            ada("report", "Report on the CT head", "20260317", "A20260319", "HEAD"),
            "document",
            "A PDF without any image.",
            partial(series.document, title="CT of the head", paragraphs=_PARAGRAPHS),
        ),
        PhantomStudy(
            ada("mr head", "MR head", "20260321", "A20260321", "HEAD"),
            "hidden-series",
            "Two series; a rule of the hospital keeps the one for research to itself.",
            _mr,
        ),
        PhantomStudy(
            ada("old chest", "X-ray chest, from tape", "20060614", "A20060614", "CHEST"),
            "slow",
            "Twenty years old: the archive fetches it from tape first.",
            partial(series.old_x_ray, seed=11),
        ),
        PhantomStudy(
            StudyLabel(
                "follow-up",
                ADA,
                FOLLOW_UP,
                f"{today:%Y%m%d}",
                f"{today:%H%M%S}",
                "A20260400",
                "HEAD",
            ),
            "embargo",
            "Just taken: the hospital shows it after the doctor has talked about it.",
            _ct(Head(7, lesion_mm=9), 24),
        ),
        PhantomStudy(
            StudyLabel("bruno ct", BRUNO, "CT head", "20260402", "141000", "B20260402", "HEAD"),
            "other-patient",
            "Another patient's: no app of Ada's may see it.",
            _ct(Head(21, size=0.96, ventricles=1.35), 24),
        ),
        PhantomStudy(
            StudyLabel(
                "bruno chest", BRUNO, "X-ray chest", "20260402", "142500", "B20260403", "CHEST"
            ),
            "x-ray",
            "Stored with its smallest value white (MONOCHROME1).",
            partial(series.x_ray, seed=5, inverse=True),
        ),
    )


def write_phantoms(folder: Path, now: datetime) -> None:
    """Write them into ``folder`` as ``<SOPInstanceUID>.dcm``. Raises ``OSError``."""
    for study in phantom_studies(now):
        for made in study.make(study.facts):
            dcmwrite(folder / f"{made.SOPInstanceUID}.dcm", made, enforce_file_format=True)
