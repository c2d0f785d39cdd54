"""Pictures on a screen, compared with the frames of files."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float64]
"""Brightness from 0 to 1."""


def as_shown(file: Path) -> Grey:
    """Return a file's frame by its rescaling and its window (PS3.3 C.11.2.1.2)."""
    one = pydicom.dcmread(file)
    slope, intercept = one.get("RescaleSlope", 1), one.get("RescaleIntercept", 0)
    values = one.pixel_array * float(slope) + float(intercept)
    low = float(one.WindowCenter) - 0.5 - (float(one.WindowWidth) - 1) / 2
    shown: Grey = np.clip((values - low) / (float(one.WindowWidth) - 1), 0, 1)
    return shown


def on_canvas(data_url: str) -> Grey:
    """Return the square in the middle of a canvas's ``toDataURL()``."""
    image = Image.open(BytesIO(base64.b64decode(data_url.partition(",")[2]))).convert("L")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)), np.float64) / 255


def is_blank(picture: Grey) -> bool:
    """Return whether a picture is of one brightness, or nearly so."""
    return float(picture.std()) < 0.02


def likeness(picture: Grey, frame: Grey) -> tuple[float, float]:
    """Return the correlation of two pictures, and how much of their histograms is in both."""
    size = (frame.shape[1], frame.shape[0])
    small = Image.fromarray((picture * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    scaled = np.asarray(small, np.float64) / 255
    correlation = float(np.corrcoef(scaled.ravel(), frame.ravel())[0, 1])
    bins = [np.histogram(one, 16, (0, 1))[0] / one.size for one in (scaled, frame)]
    return correlation, float(np.minimum(*bins).sum())
