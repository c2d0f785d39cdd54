"""The series of the phantoms, each instance a data set, made when it is asked for."""

import io
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLPhotographicImageStorage,
)

from sidecar.demo.phantoms import chest, heart, report, skin
from sidecar.demo.phantoms.dataset import StudyLabel, instance, set_pixels, set_windows, uid
from sidecar.demo.phantoms.head import HOUNSFIELD, Head
from sidecar.demo.phantoms.noise import Field, blur, grain

_SIZE = 256
_PIXEL_MM = 0.9375
_BOTTOM_MM, _TOP_MM = -68.0, 84.0
_WINDOWS = (
    (35, 80, "Brain"),
    (600, 2_800, "Bone"),
    (50, 350, "Soft tissue"),
    (35, 35, "Stroke"),
)
_PLANES = {
    "AXIAL": ((1, 0, 0), (0, 1, 0)),
    "CORONAL": ((1, 0, 0), (0, 0, -1)),
    "SAGITTAL": ((0, 1, 0), (0, 0, -1)),
}
"""Directions of rows and columns (ImageOrientationPatient)."""


def ct(
    study: StudyLabel,
    head: Head,
    *,
    slices: int,
    number: int = 1,
    description: str = "Axial, brain",
    plane: str = "AXIAL",
    syntax: UID | None = None,
) -> Iterator[Dataset]:
    """Yield a CT of the head, compressed if there is a ``syntax``."""
    series = study.series(number, "CT", description)
    for position, tissues in _slices(series, head, plane, slices):
        values = blur(HOUNSFIELD[tissues], 1, 1)
        values += 3 * grain(head.seed * 1_000 + int(position.InstanceNumber), values.shape, 1)
        made = instance(series, CTImageStorage, int(position.InstanceNumber))
        made.update(position)
        made.ImageType = (
            ["ORIGINAL", "PRIMARY", "AXIAL"]
            if plane == "AXIAL"
            else ["DERIVED", "SECONDARY", "REFORMATTED"]
        )
        made.KVP = 120
        made.ConvolutionKernel = "BRAIN"
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = -1_024, 1, "HU"
        set_windows(made, *_WINDOWS)
        set_pixels(made, np.clip(values + 1_024, 0, 4_095).astype(np.uint16), bits=12)
        if syntax is not None:
            made.compress(syntax, generate_instance_uid=False)
        yield made


def mr(
    study: StudyLabel, head: Head, signal: Field, *, slices: int, number: int, description: str
) -> Iterator[Dataset]:
    """Yield an MR of the head, with the ``signal`` of each tissue."""
    series = study.series(number, "MR", description)
    for position, tissues in _slices(series, head, "AXIAL", slices):
        values = blur(signal[tissues], 1, 1)
        values *= 1 - 0.25 * np.linspace(-1, 1, _SIZE, dtype=np.float32)[:, np.newaxis] ** 2
        noise = [
            14 * grain(number * 1_000 + 2 * int(position.InstanceNumber) + part, values.shape)
            for part in (0, 1)
        ]
        made = instance(series, MRImageStorage, int(position.InstanceNumber))
        made.update(position)
        made.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "SE", "NONE", ""
        made.MRAcquisitionType, made.EchoTrainLength = "2D", 1
        made.RepetitionTime, made.EchoTime, made.MagneticFieldStrength = 500, 12, 1.5
        set_windows(made, (380, 760, "Whole"), (480, 420, "Brain"))
        noisy = np.hypot(values + noise[0], noise[1])
        set_pixels(made, np.clip(noisy, 0, 4_095).astype(np.uint16), bits=12)
        yield made


def _slices(
    series: Dataset, head: Head, plane: str, slices: int
) -> Iterator[tuple[Dataset, Field]]:
    """Yield where each slice is (PS3.3 C.7.6.2), and its tissues."""
    grid = ((np.arange(_SIZE) - (_SIZE - 1) / 2) * _PIXEL_MM).astype(np.float32)
    first, last = {"AXIAL": (_BOTTOM_MM, _TOP_MM), "CORONAL": (-84.0, 88.0)}.get(
        plane, (-62.0, 62.0)
    )
    right, down = grid[np.newaxis, :], grid[:, np.newaxis]
    for number in range(1, slices + 1):
        at = first + (last - first) * (number - 0.5) / slices
        level = np.full((1, 1), at, np.float32)
        # The middle of the picture is 8 mm above that of the head.
        x, y, z = {
            "AXIAL": (right, down, level),
            "CORONAL": (right, level, 8 - down),
            "SAGITTAL": (level, right, 8 - down),
        }[plane]
        position = Dataset()
        position.InstanceNumber = number
        position.FrameOfReferenceUID = uid(series.StudyInstanceUID, "frame of reference")
        position.PositionReferenceIndicator = ""
        position.PatientPosition = "HFS"
        position.AcquisitionNumber = 1
        position.ImagePositionPatient = [round(float(axis.flat[0]), 4) for axis in (x, y, z)]
        position.ImageOrientationPatient = [part for axis in _PLANES[plane] for part in axis]
        position.PixelSpacing = [_PIXEL_MM, _PIXEL_MM]
        position.SliceThickness = round((last - first) / slices, 4)
        position.SpacingBetweenSlices = position.SliceThickness
        position.SliceLocation = round(at, 4)
        yield position, head.tissues(x, y, z)


def key_images(study: StudyLabel, head: Head, *, number: int) -> Iterator[Dataset]:
    """Yield three slices as a work station saves them: eight bits, in baseline JPEG."""
    series = study.series(number, "CT", "Key images")
    for count, (position, tissues) in enumerate(_slices(series, head, "AXIAL", 6)):
        if count not in (2, 3, 4):
            continue
        grey = np.clip((blur(HOUNSFIELD[tissues], 1, 1) + 5) / 80 * 255, 0, 255).astype(np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(grey).save(encoded, "JPEG", quality=92)
        made = instance(series, SecondaryCaptureImageStorage, int(position.InstanceNumber))
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.ConversionType = "WSD"
        made.PatientOrientation = ["L", "P"]
        set_pixels(made, grey, bits=8)
        made.PixelData = encapsulate([encoded.getvalue()])
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        made.LossyImageCompression = "01"
        made.LossyImageCompressionMethod = "ISO_10918_1"
        made.LossyImageCompressionRatio = round(grey.size / len(encoded.getvalue()), 2)
        yield made


def compressed(study: StudyLabel, head: Head) -> Iterator[Dataset]:
    """Yield three series in JPEG-LS, JPEG 2000 and baseline JPEG."""
    for number, plane, syntax, name in (
        (1, "CORONAL", JPEGLSLossless, "Coronal, JPEG-LS"),
        (2, "SAGITTAL", JPEG2000Lossless, "Sagittal, JPEG 2000"),
    ):
        yield from ct(
            study, head, slices=20, number=number, description=name, plane=plane, syntax=syntax
        )
    yield from key_images(study, head, number=3)


def ultrasound(study: StudyLabel, seed: int) -> Iterator[Dataset]:
    """Yield a loop of the heart in grey, and one with the flow of blood in colour."""
    for number, name, loop in (
        (1, "Four chambers", heart.grey_loop),
        (2, "Four chambers, colour Doppler", heart.colour_loop),
    ):
        made = instance(study.series(number, "US", name), UltrasoundMultiFrameImageStorage, 1)
        made.ImageType = ["ORIGINAL", "PRIMARY", "TTE", "0011" if number == 2 else "0001"]
        made.PatientOrientation = ""
        made.LossyImageCompression = "00"
        made.FrameIncrementPointer = 0x00181063
        made.FrameTime = heart.FRAME_MILLISECONDS
        made.CineRate = made.RecommendedDisplayFrameRate = round(1_000 / heart.FRAME_MILLISECONDS)
        made.HeartRate = round(60_000 / heart.FRAMES / heart.FRAME_MILLISECONDS)
        set_pixels(made, loop(seed), bits=8)
        yield made


def x_ray(study: StudyLabel, seed: int, *, inverse: bool = False) -> Iterator[Dataset]:
    """Yield a digital X-ray of the chest; ``inverse``: its smallest value is white."""
    made = instance(study.series(1, "DX", "Chest, PA"), DigitalXRayImageStorageForPresentation, 1)
    _set_projection(made)
    made.PresentationIntentType = "FOR PRESENTATION"
    made.ImageLaterality = "U"
    made.AnatomicRegionSequence = [_code("43799004", "SCT", "Chest")]
    made.ImagerPixelSpacing = [chest.PIXEL_MM, chest.PIXEL_MM]
    made.PixelIntensityRelationship = "LOG"
    made.PixelIntensityRelationshipSign = -1 if not inverse else 1
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "US"
    made.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    made.LossyImageCompression, made.BurnedInAnnotation = "00", "NO"
    made.DetectorType, made.PositionerType = "DIRECT", "COLUMN"
    made.ViewCodeSequence = [_code("399348003", "SCT", "postero-anterior")]
    made.ViewCodeSequence[0].ViewModifierCodeSequence = []
    made.AcquisitionContextSequence = []
    image = chest.chest(seed)
    if inverse:
        image = np.uint16(chest.WHITE) - image
    middle = chest.WHITE - 1_750 if inverse else 1_750
    set_windows(made, (middle, 3_100, "Normal"), (middle, 1_700, "Hard"))
    set_pixels(made, image, bits=12, inverse=inverse)
    yield made


def old_x_ray(study: StudyLabel, seed: int) -> Iterator[Dataset]:
    """Yield a chest X-ray on a phosphor plate, of twenty years ago."""
    made = instance(study.series(1, "CR", "Chest, PA"), ComputedRadiographyImageStorage, 1)
    _set_projection(made)
    made.PlateType = "CR"
    made.ImagerPixelSpacing = [2 * chest.PIXEL_MM, 2 * chest.PIXEL_MM]
    set_windows(made, (1_750, 3_100, "Normal"))
    set_pixels(made, chest.chest(seed, chest.ROWS // 2, chest.COLUMNS // 2), bits=12)
    yield made


def _set_projection(made: Dataset) -> None:
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PatientOrientation = ["L", "F"]
    made.ViewPosition = "PA"
    made.AcquisitionNumber = 1
    made.KVP = 125


def photograph(study: StudyLabel, seed: int) -> Iterator[Dataset]:
    """Yield a photograph in visible light."""
    made = instance(study.series(1, "XC", "Mole, left forearm"), VLPhotographicImageStorage, 1)
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PatientOrientation = ""
    made.Laterality = "L"
    made.LossyImageCompression = "00"
    made.AcquisitionContextSequence = []
    set_pixels(made, skin.photograph(seed), bits=8)
    yield made


def document(study: StudyLabel, title: str, paragraphs: Iterable[str]) -> Iterator[Dataset]:
    """Yield a report as a PDF."""
    patient = study.patient
    date = f"{study.date[:4]}-{study.date[4:6]}-{study.date[6:]}"
    content = report.pdf(
        title,
        [
            ("Patient", f"{patient.given} {patient.family}, born {patient.birth_date}"),
            ("Date", date),
            ("Accession", study.accession),
            ("Reported by", "Dr. Ivo Invented"),
        ],
        list(paragraphs),
    )
    made = instance(study.series(1, "DOC", "Report"), EncapsulatedPDFStorage, 1)
    del made.BodyPartExamined
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = title
    made.ConceptNameCodeSequence = [_code("18748-4", "LN", "Diagnostic imaging report")]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    made.EncapsulatedDocumentLength = len(content)
    yield made


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made
