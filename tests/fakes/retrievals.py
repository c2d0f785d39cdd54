"""Answers of the fake archive to retrievals, whole and broken."""

import asyncio
import functools

from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import SERIES, STUDY, Answer
from tests.fakes.ehr import PATIENT

PATH = f"/wado-rs/studies/{STUDY}"
MULTIPART = b'Content-Type: multipart/related; type="application/dicom"; boundary=abc\r\n'
PIXELS = bytes(range(256)) * 400


@functools.cache
def part(patient_id: str = PATIENT, study: str = STUDY, series: str = SERIES) -> bytes:
    instance = dataset(
        PatientID=patient_id,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        BitsAllocated=8,
        PixelData=PIXELS,
    )
    return b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + encoded(instance) + b"\r\n"


PART = part()
WHOLE = PART * 5 + b"--abc--\r\n"


def answer(head: bytes, body: bytes, *, abort: bool = False) -> Answer:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
        await writer.drain()
        if abort:
            await asyncio.sleep(0.05)  # What was sent arrives before the reset.
            writer.transport.abort()

    return write


def chunked(body: bytes, *, end: bool = True) -> bytes:
    size = 1000
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + (
        b"0\r\n\r\n" if end else b""
    )


GOOD: dict[str, Answer] = {
    "content-length": answer(MULTIPART + b"Content-Length: %d\r\n" % len(WHOLE), WHOLE),
    "chunked": answer(MULTIPART + b"Transfer-Encoding: chunked\r\n", chunked(WHOLE)),
    # Orthanc's way for a full study: the end of the connection is the end of the body.
    "until-close": answer(MULTIPART + b"Connection: close\r\n", WHOLE),
}
BROKEN: dict[str, Answer] = {
    "until-close-truncated": answer(MULTIPART + b"Connection: close\r\n", WHOLE[:-5]),
    "until-close-no-last-part": answer(MULTIPART + b"Connection: close\r\n", PART * 3),
    "chunked-cut": answer(MULTIPART + b"Transfer-Encoding: chunked\r\n", chunked(WHOLE, end=False)),
    "chunked-ends-early": answer(MULTIPART + b"Transfer-Encoding: chunked\r\n", chunked(PART * 3)),
    "short-content-length": answer(
        MULTIPART + b"Content-Length: %d\r\n" % len(WHOLE), WHOLE[:-20000]
    ),
    "wrong-content-length": answer(MULTIPART + b"Content-Length: %d\r\n" % (len(PART) * 2), WHOLE),
    "reset": answer(MULTIPART + b"Content-Length: %d\r\n" % len(WHOLE), WHOLE[:200000], abort=True),
}


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No retrieval is asked for."""
