"""Values of a file that metadata only point to: frames, pixel and bulk data (PS3.18 10.4.1.1)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from sidecar.common.errors import NotAcceptable, NotFound

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def explicit_little_endian(path: Path) -> bytes:
    """Return a file converted to Explicit VR Little Endian, decompressed, its UIDs unchanged.

    Raises ``NotAcceptable`` when its image cannot be decompressed.
    """
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        try:
            dataset.decompress(generate_instance_uid=False)
        except Exception as error:
            # Decoders raise many kinds of exceptions for data that they cannot read.
            raise _undecodable() from error
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    output = DicomBytesIO()
    dcmwrite(output, dataset, implicit_vr=False, little_endian=True)
    return output.getvalue()


class Pixels:
    """Image in a file, read into memory. Frames are numbered from 1.

    Raises ``NotFound`` when there is no image.
    """

    def __init__(self, path: Path, number_of_frames: int) -> None:
        self._dataset = dcmread(path)
        self._number_of_frames = number_of_frames
        self._keyword = next(
            (keyword for keyword in _PIXEL_KEYWORDS if keyword in self._dataset), ""
        )
        if not self._keyword:
            raise NotFound("This instance has no image.", reason="no_pixels")

    def stored_frame(self, number: int) -> bytes:
        """Return a frame's compressed bytes. Raises ``NotFound``."""
        try:
            return get_frame(
                self._dataset[self._keyword].value,
                number - 1,
                number_of_frames=self._number_of_frames,
            )
        except ValueError as error:
            raise NotFound("There is no such frame.", reason="no_frame") from error

    def decoded_frame(self, number: int) -> bytes:
        """Return a frame's samples, little endian.

        Raises ``NotAcceptable`` for a frame that cannot be decompressed.
        """
        syntax = self._dataset.file_meta.TransferSyntaxUID
        try:
            samples, _ = get_decoder(syntax).as_buffer(self._dataset, index=number - 1)
        except Exception as error:
            raise _undecodable() from error
        word = int(self._dataset.get("BitsAllocated", 8)) // 8
        if syntax == ExplicitVRBigEndian and word in (2, 4, 8):
            return np.frombuffer(samples, f">u{word}").astype(f"<u{word}").tobytes()
        return bytes(samples)


def bulkdata(path: Path, steps: Sequence[str]) -> bytes:
    """Return a binary value by its path of tags and item numbers, from 1. Raises ``NotFound``."""
    dataset: Dataset = dcmread(path)
    try:
        for attribute, item in zip(steps[:-1:2], steps[1::2], strict=True):
            dataset = dataset[int(attribute, 16)].value[_item_index(item)]
        value = dataset[int(steps[-1], 16)].value
    except (KeyError, IndexError, TypeError, ValueError):
        value = None
    if not isinstance(value, bytes):
        raise NotFound("There is no such bulk data.", reason="no_bulkdata")
    return value


def _item_index(number: str) -> int:
    index = int(number) - 1
    if index < 0:
        raise IndexError(number)
    return index


def _undecodable() -> NotAcceptable:
    return NotAcceptable(
        "This image cannot be decompressed here; try transfer-syntax=*.", reason="undecodable"
    )
