"""Rendering of an image (PS3.18 10.4.1.1.3): modality LUT, VOI LUT or window, colors, viewport."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from sidecar.common.errors import BadRequest, NotAcceptable

Samples = npt.NDArray[Any]

THUMBNAIL_PIXELS = 128
DEFAULT_QUALITY = 90
MAXIMUM_VIEWPORT_PIXELS = 8_192

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """Linear or sigmoid mapping of values to grey (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class Viewport:
    """Width and height to fit into, and the image's region as ``(x, y, width, height)``.

    A region of negative width or height is flipped.
    """

    width: int
    height: int
    region: tuple[float, float, float | None, float | None] = (0, 0, None, None)


@dataclass(frozen=True, slots=True)
class Rendering:
    """Parameters of a rendering: ``media_type`` JPEG, PNG or GIF, ``quality`` 1 to 100 (JPEG)."""

    media_type: str
    viewport: Viewport | None = None
    window: Window | None = None
    quality: int = DEFAULT_QUALITY


def parse_rendering(
    parameters: Mapping[str, str], media_type: str, *, thumbnail: bool
) -> Rendering:
    """Read the query parameters of a rendered resource (PS3.18 8.3.5).

    ``annotation`` and others have no effect.

    Raises ``BadRequest``.
    """
    viewport = Viewport(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS) if thumbnail else None
    if "viewport" in parameters:
        viewport = _viewport(parameters["viewport"])
    window = _window(parameters["window"]) if "window" in parameters else None
    quality = parameters.get("quality", str(DEFAULT_QUALITY))
    if not re.fullmatch(r"[0-9]{1,3}", quality, re.ASCII) or not 1 <= int(quality) <= 100:
        raise _malformed("quality")
    return Rendering(media_type, viewport, window, int(quality))


def _viewport(text: str) -> Viewport:
    """Parse ``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, where each of the last four may be empty."""
    width, height, *region = text.split(",") if text.count(",") in (1, 5) else ("", "")
    if (
        not _is_size(width)
        or not _is_size(height)
        or not all(_NUMBER.fullmatch(item) or not item for item in region)
    ):
        raise _malformed("viewport")
    x, y, region_width, region_height = (
        float(item) if item else None for item in region or [""] * 4
    )
    if 0 in (region_width, region_height):
        raise _malformed("viewport")
    return Viewport(int(width), int(height), (x or 0, y or 0, region_width, region_height))


def _is_size(text: str) -> bool:
    return (
        re.fullmatch(r"[1-9][0-9]{0,3}", text, re.ASCII) is not None
        and int(text) <= MAXIMUM_VIEWPORT_PIXELS
    )


def _window(text: str) -> Window:
    """Parse ``center,width,function``: ``linear``, ``linear-exact`` or ``sigmoid``."""
    center, width, function = ([*text.split(","), "", "", ""])[:3]
    function = (function or "linear").upper().replace("-", "_")
    if (
        text.count(",") > 2
        or not (_NUMBER.fullmatch(center) and _NUMBER.fullmatch(width))
        or function not in _FUNCTIONS
        or float(width) <= 0
    ):
        raise _malformed("window")
    return Window(float(center), float(width), function)


def _malformed(name: str) -> BadRequest:
    return BadRequest(f"The parameter {name} is malformed.", reason="bad_rendering")


def draw(path: Path, frame: int, rendering: Rendering) -> bytes:
    """Return a frame (from 1) of the image in a file, encoded. Call it in a thread: it is slow.

    Raises ``NotAcceptable`` for an image that cannot be decompressed or drawn.
    """
    dataset = dcmread(path)
    try:
        samples = pixel_array(dataset, index=frame - 1)
        image = Image.fromarray(_to_screen(samples, dataset, rendering.window))
    except Exception as error:
        # Decoders, and odd data sets, raise many kinds of exceptions.
        raise NotAcceptable("This image cannot be drawn here.", reason="not_drawable") from error
    if rendering.viewport is not None:
        image = _fit(image, rendering.viewport)
    encoded = io.BytesIO()
    image.save(encoded, _FORMATS[rendering.media_type], quality=rendering.quality)
    return encoded.getvalue()


def _to_screen(samples: Samples, dataset: Dataset, window: Window | None) -> npt.NDArray[np.uint8]:
    """Map stored samples to grey (rows, columns) or RGB (rows, columns, 3) of eight bits."""
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        colors = apply_color_lut(samples, dataset)
        return _eight_bits(colors / np.iinfo(colors.dtype).max)
    if samples.ndim == 3:
        # pixel_array has converted YBR to RGB.
        return _eight_bits(samples / (2 ** int(dataset.get("BitsStored", 8)) - 1))
    grey = _grey(samples, dataset, window)
    return _eight_bits(1 - grey if photometric == "MONOCHROME1" else grey)


def _grey(samples: Samples, dataset: Dataset, window: Window | None) -> Samples:
    """Map samples to 0 (black) to 1 (white)."""
    values = apply_modality_lut(samples, dataset)
    if window is None and dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(apply_voi(values, dataset) / (2**bits - 1))
    window = window or _stored_window(dataset)
    if window is not None:
        return _FUNCTIONS[window.function](values.astype(np.float64), window)
    low, high = float(values.min()), float(values.max())
    return np.asarray((values.astype(np.float64) - low) / ((high - low) or 1))


def _stored_window(dataset: Dataset) -> Window | None:
    """Return the first window of the data set, if it can be used."""
    center, width = (_first(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or float(width) < 1 or function not in _FUNCTIONS:
        return None
    return Window(float(center), float(width), function)


def _first(value: Any) -> Any:
    return (value[0] if len(value) else None) if isinstance(value, MultiValue) else value


def _linear(values: Samples, window: Window) -> Samples:
    # A width of 1 is a step.
    return np.asarray(
        np.clip((values - (window.center - 0.5)) / (max(window.width - 1, 1e-9)) + 0.5, 0, 1)
    )


def _linear_exact(values: Samples, window: Window) -> Samples:
    return np.asarray(np.clip((values - window.center) / window.width + 0.5, 0, 1))


def _sigmoid(values: Samples, window: Window) -> Samples:
    # Beyond an exponent of 500, double precision results in 0 or 1.
    return np.asarray(
        1 / (1 + np.exp(np.clip(-4 * (values - window.center) / window.width, -500, 500)))
    )


_FUNCTIONS: dict[str, Callable[[Samples, Window], Samples]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def _eight_bits(unit: Samples) -> npt.NDArray[np.uint8]:
    return np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _fit(image: Image.Image, viewport: Viewport) -> Image.Image:
    """Cut out the viewport's region, flip it, and scale it to fit, with its proportions kept."""
    x, y, width, height = viewport.region
    width, height = (
        (image.width if width is None else width),
        (image.height if height is None else height),
    )
    region = image.crop(
        (round(x), round(y), round(x + max(1, abs(width))), round(y + max(1, abs(height))))
    )
    if width < 0:
        region = ImageOps.mirror(region)
    if height < 0:
        region = ImageOps.flip(region)
    return ImageOps.contain(region, (viewport.width, viewport.height))
