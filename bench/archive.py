"""The archive of the measurements: nginx with studies as files, which costs next to nothing."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from bench.processes import wait_for_answer
from tests.data import ct_study
from tests.fakes.ehr import PATIENT
from tests.sidecar_process import free_port

BOUNDARY = "2f0c9a1e-6d0b-4c55-9d27-3b7a6f1e8c44"
"""A UUID, as archives write it."""
FRAME_BYTES = 5_000
NGINX = "apt-get install nginx-light"

_CONFIGURATION = """
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; types {{}}
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  {servers}
}}
"""
_ARCHIVE = """
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {directory};
    location = /rs/studies {{
      default_type application/dicom+json; try_files /rows/study-$arg_StudyInstanceUID =404;
    }}
    location ~ ^/rs/studies/(?<uid>[0-9.]+)/series(/[0-9.]+/instances)?$ {{
      default_type application/dicom+json; try_files /rows/study-$uid =404;
    }}
    location ~ ^/rs/studies/[0-9.]+/series/[0-9.]+/instances/(?<uid>[0-9.]+)$ {{
      default_type '{multipart}'; try_files /instance-$uid =404;
    }}
    location ~ ^/rs/studies/[0-9.]+/series/[0-9.]+/instances/[0-9.]+/frames/1$ {{
      default_type '{frames}'; try_files /frame =404;
    }}
    location ~ ^/rs/studies/(?<uid>[0-9.]+[.]999)$ {{
      default_type '{multipart}'; try_files /study-$uid =404;
      sub_filter_types *; sub_filter 'of which there is none in it' ''; output_buffers 4 16k;
    }}
    location ~ ^/rs/studies/(?<uid>[0-9.]+)$ {{
      default_type '{multipart}'; try_files /study-$uid =404;
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Study:
    """A study that the archive has: ``uid``, one ``instance`` of it (a path), ``size`` in bytes."""

    uid: str
    instance: str
    size: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A study to be made: ``instances``, each a square of ``side`` pixels of 2 bytes.

    ``in_chunks``: its whole answer has no Content-Length, and comes in chunks of 16 KB.
    """

    instances: int
    side: int
    in_chunks: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """A running archive: its DICOMweb ``url``, and the studies of the wanted shapes."""

    url: str
    studies: Sequence[Study]


@contextlib.contextmanager
def archive(shapes: Sequence[Shape]) -> Iterator[Archive]:
    """Run nginx with a study of each shape, all of the patient p1."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        directory = Path(scratch)
        (directory / "rows").mkdir()
        (directory / "rows" / "study-0.0").write_text("[]")
        studies = [_write(directory, number, shape) for number, shape in enumerate(shapes, 1)]
        port = free_port()
        server = _ARCHIVE.format(
            directory=directory,
            port=port,
            multipart=f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
            frames=f'multipart/related; type="application/octet-stream"; boundary={BOUNDARY}',
        )
        with nginx(directory, server, port):
            yield Archive(f"http://127.0.0.1:{port}/rs", studies)


@contextlib.contextmanager
def nginx(directory: Path, servers: str, port: int) -> Iterator[int]:
    """Run nginx with these servers in ``directory``. Yield its process id."""
    binary = find_nginx()
    if binary is None:
        raise SystemExit(f"nginx is not installed: {NGINX}")
    directory.chmod(0o755)  # Started as root, nginx reads as somebody else.
    (directory / "nginx.conf").write_text(
        _CONFIGURATION.format(directory=directory, servers=servers)
    )
    process = subprocess.Popen([binary, "-p", str(directory), "-c", "nginx.conf"])
    try:
        wait_for_answer(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def find_nginx() -> str | None:
    """Return the path of nginx, or None. Debian puts it where not everybody looks."""
    return shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")


def _write(directory: Path, number: int, shape: Shape) -> Study:
    """Write a study's parts as one answer, and its first instance by itself. Return the study."""
    uid = f"1.2.826.0.1.3680043.8.498.{number}" + (".999" if shape.in_chunks else "")
    files = ct_study(
        directory / "images",
        instances=shape.instances,
        patient_id=PATIENT,
        study_instance_uid=uid,
        rows=shape.side,
        columns=shape.side,
    )
    body = directory / f"study-{uid}"
    _write_parts(body, "application/dicom", files)
    first = dcmread(files[0], stop_before_pixels=True)
    _write_parts(directory / f"instance-{first.SOPInstanceUID}", "application/dicom", files[:1])
    (directory / "pixels").write_bytes(b"\x5a" * FRAME_BYTES)
    _write_parts(directory / "frame", "application/octet-stream", [directory / "pixels"])
    row = _row(first, shape.instances)
    for rows in (uid, ""):  # The study itself, and what is asked for by PatientID alone.
        (directory / "rows" / f"study-{rows}").write_text(json.dumps([row]))
    shutil.rmtree(directory / "images")
    series, instance = first.SeriesInstanceUID, first.SOPInstanceUID
    path = f"/studies/{uid}/series/{series}/instances/{instance}"
    return Study(uid, path, body.stat().st_size)


def _write_parts(path: Path, media_type: str, files: Sequence[Path]) -> None:
    with path.open("wb") as body:
        for file in files:
            part = file.read_bytes()
            head = f"Content-Type: {media_type}\r\nContent-Length: {len(part)}\r\n\r\n"
            body.write(f"--{BOUNDARY}\r\n{head}".encode() + part + b"\r\n")
        body.write(f"--{BOUNDARY}--\r\n".encode())


def _row(instance: Dataset, instances: int) -> dict[str, object]:
    """Return a row that is right for the study, its one series, and the first instance."""
    return {
        "00080016": {"vr": "UI", "Value": [instance.SOPClassUID]},
        "00080018": {"vr": "UI", "Value": [instance.SOPInstanceUID]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00100020": {"vr": "LO", "Value": [PATIENT]},
        "0020000D": {"vr": "UI", "Value": [instance.StudyInstanceUID]},
        "0020000E": {"vr": "UI", "Value": [instance.SeriesInstanceUID]},
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [instances]},
        "00201209": {"vr": "IS", "Value": [instances]},
    }
