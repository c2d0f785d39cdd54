"""A fast local server for measurements: nginx as archive (a 200 MB study) and as EHR.

The archive also has one instance of the study, and its frame, by themselves.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from pydicom import Dataset, dcmread

from tests.data import ct_study
from tests.sidecar_process import free_ports_in_a_row

PATIENT, STUDY = "p1", "1.2.826.0.1.3680043.8.498.7"
BOUNDARY = "2f0c9a1e-6d0b-4c55-9d27-3b7a6f1e8c44"
"""A UUID, as archives write it."""
INSTANCES = 400
FRAME_BYTES = 2**19
NOT_INSTALLED = "the benchmark needs nginx and curl: apt-get install nginx-light curl"

_CONFIGURATION = """
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{
    listen 127.0.0.1:{port};
    location ~ ^/(?<form>[a-z-]+)/studies/{study}$ {{
      types {{}} default_type '{multipart}'; alias {directory}/$form;
    }}
    location = /in-chunks/studies/{study} {{
      types {{}} default_type '{multipart}'; alias {directory}/with-length;
      sub_filter_types *; sub_filter 'of which there is none in it' ''; output_buffers 4 16k;
    }}
    location ~ ^/[a-z-]+/studies(/{study}/series(/{series}/instances)?)?$ {{
      types {{}} default_type application/dicom+json; return 200 '{rows}';
    }}
    location ~ ^/[a-z-]+/studies/{instance}$ {{
      types {{}} default_type '{multipart}'; alias {directory}/instance;
    }}
    location ~ ^/[a-z-]+/studies/{instance}/frames/1$ {{
      types {{}} default_type '{frames}'; alias {directory}/frame;
    }}
    location = /fhir/.well-known/smart-configuration {{
      default_type application/json; return 200 '{smart}';
    }}
    location = /introspect {{ default_type application/json; return 200 '{introspection}'; }}
  }}
  server {{
    listen 127.0.0.1:{proxy_port};
    location / {{
      proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    ``url`` is the file server's, ``proxy_url`` that of the same behind ``proxy_pass``. ``size`` is
    that of each study in bytes. ``instance`` is the path of one below ``/studies/``.
    """

    url: str
    proxy_url: str
    process: subprocess.Popen[bytes]
    size: int
    instance: str


@contextlib.contextmanager
def nginx() -> Iterator[Nginx]:
    """Run nginx on free loopback ports."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if binary is None or shutil.which("curl") is None:
        raise SystemExit(NOT_INSTALLED)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)  # Started as root, nginx reads as somebody else.
        study = _write_studies(directory)
        size = (directory / "with-length").stat().st_size
        port = free_ports_in_a_row(2)
        url, proxy_url = (f"http://127.0.0.1:{one}" for one in (port, port + 1))
        (directory / "nginx.conf").write_text(_configuration(directory, port, study))
        process = subprocess.Popen([binary, "-p", scratch, "-c", "nginx.conf"])
        try:
            _wait_until_ready(url)
            yield Nginx(url, proxy_url, process, size, _instance_path(study))
        finally:
            process.terminate()
            process.wait(10)


def _instance_path(instance: Dataset) -> str:
    series, uid = instance.SeriesInstanceUID, instance.SOPInstanceUID
    return f"{STUDY}/series/{series}/instances/{uid}"


def _configuration(directory: Path, port: int, instance: Dataset) -> str:
    row = {
        "00080016": {"vr": "UI", "Value": [instance.SOPClassUID]},
        "00080018": {"vr": "UI", "Value": [instance.SOPInstanceUID]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00100020": {"vr": "LO", "Value": [PATIENT]},
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "0020000E": {"vr": "UI", "Value": [instance.SeriesInstanceUID]},
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [INSTANCES]},
        "00201209": {"vr": "IS", "Value": [INSTANCES]},
    }
    url = f"http://127.0.0.1:{port}"
    introspection = {
        "active": True,
        "scope": "patient/ImagingStudy.rs",
        "client_id": "app",
        "exp": 9_999_999_999,
        "patient": PATIENT,
    }
    return _CONFIGURATION.format(
        directory=directory,
        port=port,
        proxy_port=port + 1,
        study=STUDY,
        series=instance.SeriesInstanceUID,
        instance=_instance_path(instance),
        multipart=f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        frames=f'multipart/related; type="application/octet-stream"; boundary={BOUNDARY}',
        rows=json.dumps([row]),
        smart=json.dumps({"introspection_endpoint": url + "/introspect"}),
        introspection=json.dumps(introspection),
    )


def _write_studies(directory: Path) -> Dataset:
    """Write the study twice, one instance, and its frame. Return the instance without its pixels.

    Parts have a Content-Length as Orthanc writes them, or none as dcm4chee does. nginx also serves
    the first in chunks of 16 KB (``in-chunks``), because it may have to replace something.
    """
    files = ct_study(
        directory / "images",
        instances=INSTANCES,
        patient_id=PATIENT,
        study_instance_uid=STUDY,
        rows=512,
        columns=512,
    )
    parts = [file.read_bytes() for file in files]
    _write(directory / "with-length", "application/dicom", parts)
    _write(directory / "without-length", "application/dicom", parts, has_length=False)
    _write(directory / "instance", "application/dicom", parts[:1])
    _write(directory / "frame", "application/octet-stream", [parts[0][-FRAME_BYTES:]])
    instance = dcmread(files[0], stop_before_pixels=True)
    shutil.rmtree(directory / "images")
    return instance


def _write(path: Path, media_type: str, parts: list[bytes], *, has_length: bool = True) -> None:
    with path.open("wb") as body:
        for part in parts:
            length = f"Content-Length: {len(part)}\r\n" if has_length else ""
            head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\n{length}\r\n"
            body.write(head.encode() + part + b"\r\n")
        body.write(f"--{BOUNDARY}--\r\n".encode())


def _wait_until_ready(url: str) -> None:
    for _ in range(100):
        with contextlib.suppress(requests.ConnectionError):
            requests.get(url + "/introspect", timeout=5)
            return
        time.sleep(0.05)
    raise SystemExit("nginx did not start")
