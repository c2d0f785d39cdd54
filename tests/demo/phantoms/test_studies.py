"""The phantoms are valid DICOM that shows something, the same at each start, of invented people."""

import hashlib
import io
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from sidecar.demo.archive.instance import read_instance
from sidecar.demo.archive.render import draw, parse_rendering
from sidecar.demo.people import ADA, BRUNO
from sidecar.demo.phantoms.noise import Field
from sidecar.demo.phantoms.studies import FOLLOW_UP, RESEARCH, phantom_studies, write_phantoms
from tests.real.orthanc import Orthanc, require_orthanc

NOW = datetime(2026, 11, 30, 16, 5, 7, tzinfo=UTC)
STUDIES = {(study.facts.patient.id, study.purpose): study for study in phantom_studies(NOW)}
PURPOSES = [
    "volume",
    "multiframe",
    "x-ray",
    "compressed",
    "photo",
    "document",
    "hidden-series",
    "slow",
    "embargo",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("phantoms")
    write_phantoms(made, NOW)
    return made


@pytest.fixture(scope="module")
def instances(folder: Path) -> dict[str, list[Dataset]]:
    """By StudyInstanceUID, in the order of series and instance."""
    found = defaultdict(list)
    for file in folder.iterdir():
        found[dcmread(file, specific_tags=["StudyInstanceUID"]).StudyInstanceUID].append(
            dcmread(file)
        )
    return {
        uid: sorted(of, key=lambda one: (one.SeriesNumber, one.InstanceNumber))
        for uid, of in found.items()
    }


def of(instances: dict[str, list[Dataset]], purpose: str, patient: str = "ada") -> list[Dataset]:
    return instances[STUDIES[patient, purpose].facts.uid]


def drawn(folder: Path, instance: Dataset, frame: int = 1) -> Field:
    rendering = parse_rendering({}, "image/png", thumbnail=False)
    path = folder / f"{instance.SOPInstanceUID}.dcm"
    return np.asarray(Image.open(io.BytesIO(draw(path, frame, rendering))))


def test_there_is_one_of_each_and_another_patients(instances: dict[str, list[Dataset]]) -> None:
    assert [purpose for patient, purpose in STUDIES if patient == "ada"] == PURPOSES
    assert {patient for patient, _ in STUDIES} == {ADA.id, BRUNO.id}
    assert set(instances) == {study.facts.uid for study in STUDIES.values()}


def test_each_says_whose_and_what_it_is(instances: dict[str, list[Dataset]]) -> None:
    seen: set[str] = set()
    for study in STUDIES.values():
        patient = study.facts.patient
        for one in instances[study.facts.uid]:
            assert one.PatientID == patient.mrns[0]
            assert one.PatientName == f"{patient.family}^{patient.given}"
            assert one.PatientBirthDate == patient.birth_date.replace("-", "")
            assert all(
                one[keyword].value
                for keyword in (
                    "StudyDescription",
                    "StudyDate",
                    "StudyTime",
                    "AccessionNumber",
                    "ReferringPhysicianName",
                    "Modality",
                    "SeriesDescription",
                )
            )
            assert ("BodyPartExamined" in one) == (one.Modality != "DOC")
            seen.add(one.SOPInstanceUID)
    assert len(seen) == sum(map(len, instances.values()))


def test_the_archive_takes_and_draws_each(
    folder: Path, instances: dict[str, list[Dataset]]
) -> None:
    """The middle one of each series, which has neither one grey alone nor mere noise."""
    for uid, of_study in instances.items():
        by_series = defaultdict(list)
        for one in of_study:
            assert read_instance(folder / f"{one.SOPInstanceUID}.dcm") is not None, uid
            by_series[one.SeriesInstanceUID].append(one)
        for series in by_series.values():
            middle = series[len(series) // 2]
            if middle.Modality == "DOC":
                continue
            image = drawn(folder, middle).astype(float)
            assert image.std() > 15, middle.SeriesDescription
            assert (image < 250).mean() > 0.4, middle.SeriesDescription


def test_the_head_has_its_slices_in_their_places(instances: dict[str, list[Dataset]]) -> None:
    slices = of(instances, "volume")
    assert len(slices) == 96
    assert {(one.Rows, one.Columns, one.BitsStored) for one in slices} == {(256, 256, 12)}
    heights = [float(one.ImagePositionPatient[2]) for one in slices]
    assert np.allclose(np.diff(heights), slices[0].SpacingBetweenSlices, atol=1e-3)
    assert slices[0].WindowCenterWidthExplanation[0] == "Brain"
    values = pixel_array(slices[60]) * 1.0 + slices[60].RescaleIntercept
    # Air around, bone, and brain between water and blood.
    assert values[0, 0] < -900
    assert values.max() > 900
    assert 20 < np.median(values[110:150, 110:150]) < 50


@pytest.mark.parametrize("purpose", ["volume", "compressed", "hidden-series", "embargo"])
def test_slices_lie_on_a_line_through_their_planes(
    instances: dict[str, list[Dataset]], purpose: str
) -> None:
    by_series = defaultdict(list)
    for one in of(instances, purpose):
        if "ImagePositionPatient" in one:
            by_series[one.SeriesInstanceUID].append(one)
    for series in by_series.values():
        right, down = np.reshape(series[0].ImageOrientationPatient, (2, 3)).astype(float)
        steps = np.diff([np.array(one.ImagePositionPatient, float) for one in series], axis=0)
        assert np.allclose(steps @ right, 0)
        assert np.allclose(steps @ down, 0)
        along = np.abs(steps @ np.cross(right, down))
        assert np.allclose(along, series[0].SpacingBetweenSlices, atol=1e-3)
        assert len({one.FrameOfReferenceUID for one in series}) == 1


def test_the_heart_beats(instances: dict[str, list[Dataset]]) -> None:
    grey, colour = of(instances, "multiframe")
    assert (grey.SamplesPerPixel, colour.SamplesPerPixel) == (1, 3)
    for loop in (grey, colour):
        assert loop.NumberOfFrames >= 30
        assert loop.FrameIncrementPointer == 0x00181063
        assert 20 <= loop.FrameTime <= 60
    frames = pixel_array(grey).astype(float)
    # The left ventricle is dark; there is less of it in the middle of the beat.
    dark = (frames[:, 60:180, 150:260] < 45).mean(axis=(1, 2))
    assert dark.min() < 0.75 * dark[0]
    tinted = np.ptp(pixel_array(colour).astype(int), axis=-1) > 60
    by_frame = tinted[:, 20:250, 100:300].sum(axis=(1, 2))
    assert by_frame.max() > 500
    assert by_frame.min() < 50


def test_the_compressed_ones_are_compressed(instances: dict[str, list[Dataset]]) -> None:
    by_series = {one.SeriesNumber: one for one in of(instances, "compressed")}
    assert [by_series[number].file_meta.TransferSyntaxUID for number in (1, 2, 3)] == [
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
    ]
    assert by_series[3].LossyImageCompression == "01"
    others = [one for uid in instances for one in instances[uid] if one not in by_series.values()]
    assert sum(one.file_meta.TransferSyntaxUID.is_compressed for one in others) == 43 - 3


def test_both_polarities_of_an_x_ray_look_the_same_way(
    folder: Path, instances: dict[str, list[Dataset]]
) -> None:
    """White spine on dark lungs, whatever the smallest value means."""
    ((usual,), (inverse,)) = (of(instances, "x-ray", patient) for patient in ("ada", "bruno"))
    assert (usual.PhotometricInterpretation, inverse.PhotometricInterpretation) == (
        "MONOCHROME2",
        "MONOCHROME1",
    )
    for one in (usual, inverse):
        assert one.BitsStored == 12
        assert 1e6 < one.Rows * one.Columns < 2e6
        image = drawn(folder, one).astype(float)
        spine, lung = image[700:800, 560:590].mean(), image[600:700, 260:320].mean()
        assert spine > lung + 60


def test_the_photograph_is_in_colour(instances: dict[str, list[Dataset]]) -> None:
    (photograph,) = of(instances, "photo")
    assert photograph.PhotometricInterpretation == "RGB"
    red, _, blue = pixel_array(photograph).reshape(-1, 3).mean(axis=0)
    assert red > blue + 30


def test_the_document_is_a_pdf_with_the_patients_name(
    instances: dict[str, list[Dataset]],
) -> None:
    (document,) = of(instances, "document")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-1.4")
    assert content.endswith(b"%%EOF\n")
    assert b"Ada Example" in content


def test_what_the_rules_are_about(instances: dict[str, list[Dataset]]) -> None:
    held = of(instances, "embargo")[0]
    assert (held.StudyDescription, held.StudyDate, held.StudyTime) == (
        FOLLOW_UP,
        "20261130",
        "160507",
    )
    hidden = {one.SeriesDescription for one in of(instances, "hidden-series")}
    assert RESEARCH in hidden
    assert len(hidden) == 2
    everything = [one for of_study in instances.values() for one in of_study]
    assert {one.StudyInstanceUID for one in everything if one.StudyDescription == FOLLOW_UP} == {
        held.StudyInstanceUID
    }
    assert {one.TimezoneOffsetFromUTC for one in everything} == {"+0000"}


def test_a_second_time_they_are_the_same(folder: Path, tmp_path: Path) -> None:
    """At the same moment each byte is; the moment is in the one that has just been taken alone."""
    write_phantoms(tmp_path, NOW)
    for file in folder.iterdir():
        again = (tmp_path / file.name).read_bytes()
        assert hashlib.sha256(again).digest() == hashlib.sha256(file.read_bytes()).digest()
    later = {study.facts.uid: study.facts for study in phantom_studies(datetime.now(UTC))}
    changed = [study.purpose for study in STUDIES.values() if later[study.facts.uid] != study.facts]
    assert changed == ["embargo"]


@pytest.mark.orthanc
def test_a_real_orthanc_stores_and_draws_them(
    folder: Path, instances: dict[str, list[Dataset]]
) -> None:
    require_orthanc()
    with Orthanc() as orthanc:
        for of_study in instances.values():
            for one in (of_study[0], of_study[-1]):
                file = folder / f"{one.SOPInstanceUID}.dcm"
                identifier = orthanc.load(file)
                url = f"{orthanc.url}/instances/{identifier}"
                with urlopen(url + "/file", timeout=60) as response:
                    assert response.read() == file.read_bytes()
                if one.Modality != "DOC":
                    with urlopen(url + "/preview", timeout=60) as response:
                        assert len(response.read()) > 1_000
