"""Drawing: what is dark is dark, what is red is red, and the viewport is kept."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite

from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.demo.archive.render import draw, parse_rendering
from tests.data import ct_study

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
PNG = "image/png"


def drawn(path: Path, parameters: dict[str, str] | None = None, frame: int = 1) -> npt.NDArray[Any]:
    rendering = parse_rendering(parameters or {}, PNG, thumbnail=False)
    return np.asarray(Image.open(io.BytesIO(draw(path, frame, rendering))))


def image(tmp_path: Path, samples: list[list[int]], **attributes: object) -> Path:
    """A CT with these samples of 16 bits, signed."""
    (path,) = ct_study(
        tmp_path,
        instances=1,
        patient_id="1",
        study_instance_uid="1.2.3",
        rows=len(samples),
        columns=len(samples[0]),
    )
    dataset = dcmread(path)
    dataset.PixelData = np.array(samples, "<i2").tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dcmwrite(path, dataset)
    return path


def test_the_stored_window_is_applied_after_the_rescale(tmp_path: Path) -> None:
    """Center 40, width 400 in Hounsfield units: -160 is black, 239 is white (PS3.3 C.11.2.1.2)."""
    path = image(tmp_path, [[864, 1064, 1263, 2000, 0]], RescaleIntercept=-1024)
    assert drawn(path).tolist() == [[0, 128, 255, 255, 0]]


def test_a_window_that_is_asked_for_wins(tmp_path: Path) -> None:
    path = image(tmp_path, [[-100, 0, 100]])
    assert drawn(path, {"window": "0,200,linear-exact"}).tolist() == [[0, 128, 255]]
    assert drawn(path, {"window": "0,201"}).tolist() == [[1, 128, 255]]
    sigmoid = drawn(path, {"window": "0,200,sigmoid"}).tolist()[0]
    assert sigmoid == [round(255 / (1 + np.exp(2))), 128, round(255 / (1 + np.exp(-2)))]


def test_a_width_of_one_is_a_step(tmp_path: Path) -> None:
    assert drawn(image(tmp_path, [[9, 10, 11]]), {"window": "10,1"}).tolist() == [[0, 255, 255]]


def test_without_a_window_the_range_of_values_is_used(tmp_path: Path) -> None:
    none = {"WindowCenter": None, "WindowWidth": None}
    assert drawn(image(tmp_path, [[100, 200, 300]], **none)).tolist() == [[0, 128, 255]]
    assert drawn(image(tmp_path, [[7, 7, 7]], **none)).tolist() == [[0, 0, 0]]


def test_monochrome1_is_drawn_the_other_way_round(tmp_path: Path) -> None:
    path = image(tmp_path, [[-160, 239]], PhotometricInterpretation="MONOCHROME1")
    assert drawn(path).tolist() == [[255, 0]]


def test_a_lookup_table_of_values_of_interest_is_used(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [3, 10, 8]
    table.add_new("LUTData", "US", [255, 0, 51])
    path = image(tmp_path, [[10, 11, 12, 99]], VOILUTSequence=[table])
    assert drawn(path).tolist() == [[255, 0, 51, 51]]
    assert drawn(path, {"window": "11,2,linear-exact"}).tolist() == [[0, 128, 255, 255]]


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_gdcm_KY.dcm",
    ],
)
def test_colors_are_right_in_every_encoding(name: str) -> None:
    """pydicom's test image has a bar of red on top, then others, white and black at the bottom."""
    pixels = drawn(BUNDLED / name)
    assert pixels.shape == (100, 100, 3)
    for row, color in {
        5: (255, 0, 0),
        25: (0, 255, 0),
        45: (0, 0, 255),
        95: (255, 255, 255),
    }.items():
        assert np.abs(pixels[row, 50].astype(int) - color).max() < 12, (row, pixels[row, 50])


def test_palettes(tmp_path: Path) -> None:
    pixels = drawn(BUNDLED / "examples_palette.dcm")
    dataset = dcmread(BUNDLED / "examples_palette.dcm")
    assert pixels.shape == (dataset.Rows, dataset.Columns, 3)
    assert (pixels[..., 0] != pixels[..., 2]).any()
    assert pixels.max() > 200


def test_frames(tmp_path: Path) -> None:
    first, last = (
        drawn(BUNDLED / "examples_ybr_color.dcm"),
        drawn(BUNDLED / "examples_ybr_color.dcm", frame=30),
    )
    assert first.shape == last.shape
    assert (first != last).any()


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        ("64,64", (64, 64)),
        ("32,1000", (32, 32)),
        ("50,20,0,0,50,100", (10, 20)),
        ("300,300,,,,", (300, 300)),
        ("300,300,100,,,", (300, 300)),
    ],
)
def test_the_viewport_is_fitted_with_the_proportions_kept(
    viewport: str, size: tuple[int, int]
) -> None:
    pixels = drawn(BUNDLED / "SC_rgb_rle.dcm", {"viewport": viewport})
    assert pixels.shape[1::-1] == size


def test_a_region_may_be_cut_out_and_flipped(tmp_path: Path) -> None:
    samples = [[-160, 239], [239, 239]]
    path = image(tmp_path, samples)
    assert drawn(path, {"viewport": "2,2,0,0,2,2"}).tolist() == [[0, 255], [255, 255]]
    assert drawn(path, {"viewport": "2,2,0,0,-2,2"}).tolist() == [[255, 0], [255, 255]]
    assert drawn(path, {"viewport": "2,2,0,0,2,-2"}).tolist() == [[255, 255], [0, 255]]
    assert drawn(path, {"viewport": "1,1,0,0,1,1"}).tolist() == [[0]]


def test_quality_and_formats() -> None:
    path = BUNDLED / "examples_overlay.dcm"
    sizes = [
        len(draw(path, 1, parse_rendering({"quality": quality}, "image/jpeg", thumbnail=False)))
        for quality in ("5", "50", "95")
    ]
    assert sizes == sorted(set(sizes))
    for media_type, name in (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF")):
        opened = Image.open(
            io.BytesIO(draw(path, 1, parse_rendering({}, media_type, thumbnail=True)))
        )
        assert opened.format == name
        assert max(opened.size) == 128


VIEWPORTS = [
    "",
    "1",
    "0,5",
    "5,0",
    "a,b",
    "1,2,3",
    "1,2,3,4,5",
    "1,2,3,4,0,5",
    "1,2,x,,,",
    "9999,9999",
    "-5,5",
    "1,2" * 4,
]
WINDOWS = ["", "1", "1,", ",1", "1,0", "1,-5", "a,1", "1,2,cubic", "1,2,linear,3", "1e5,1"]
QUALITIES = ["", "0", "101", "-1", "x", "1.5", "٩"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, values in {"viewport": VIEWPORTS, "window": WINDOWS, "quality": QUALITIES}.items()
        for value in values
    ],
)
def test_malformed_parameters_are_refused(name: str, value: str) -> None:
    with pytest.raises(BadRequest):
        parse_rendering({name: value}, PNG, thumbnail=False)


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_what_cannot_be_drawn_is_said_to_be_so(name: str) -> None:
    with pytest.raises(NotAcceptable):
        draw(BUNDLED / name, 1, parse_rendering({}, PNG, thumbnail=False))
