"""OHIF in Chromium, over HTTP/2 through nginx, in front of a slow archive: every image comes
(SIA-41).

OHIF repeats no frame that was refused: what is lost once stays a black image.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from pydicom.uid import CTImageStorage

from sidecar.demo.archive.app import create_archive
from sidecar.server.listener import listen
from tests.dicom_instances import dataset, encoded
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.installed import installed
from tests.real.browser import require_browser, start_browser
from tests.real.viewers.pages import OHIF
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
NOT_INSTALLED = "no viewer to drive: make ohif (needs npm), apt-get install nginx openssl"
IMAGES = 200
FRAME_SECONDS = 0.6
STUDY = "1.2.840.99"


def require_viewer() -> None:
    """Skip without OHIF, nginx and Chromium; with REQUIRE_REAL_SERVERS set, fail."""
    require_browser()
    installed(NGINX is not None and (OHIF / "index.html").exists(), NOT_INSTALLED)


def instance(number: int) -> bytes:
    """One slice of a CT, 64 by 64."""
    made = dataset(
        SOPClassUID=CTImageStorage,
        SOPInstanceUID=f"{STUDY}.1.{number}",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{STUDY}.1",
        PatientID=PATIENT,
        PatientName="Doe^Jane",
        StudyDate="20200101",
        StudyTime="101010",
        AccessionNumber="A1",
        StudyID="1",
        SeriesNumber=1,
        InstanceNumber=number,
        SeriesDescription="slices",
        FrameOfReferenceUID=f"{STUDY}.2",
        ImagePositionPatient=[0, 0, number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[1, 1],
        SliceThickness=1,
        Rows=64,
        Columns=64,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        RescaleIntercept=-1024,
        RescaleSlope=1,
        RescaleType="HU",
        WindowCenter=40,
        WindowWidth=400,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        PixelData=bytes([number % 256, 4]) * 64 * 64,
    )
    return encoded(made)


class SlowArchive:
    """The demo's archive, which needs so long for each frame."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = create_archive(self._folder)
        app.middlewares.append(self._slow)
        async with listen(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}/dicom-web"

    @staticmethod
    @web.middleware
    async def _slow(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "/frames/" in request.path:
            await asyncio.sleep(FRAME_SECONDS)
        return await handler(request)


def viewer_configuration(origin: str) -> str:
    """OHIF's app-config.js with us as its only data source."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "sidecar",
        "configuration": {
            "friendlyName": "sidecar",
            "name": "sidecar",
            "wadoUriRoot": origin + "/wado-uri",
            "qidoRoot": origin + "/wado-rs",
            "wadoRoot": origin + "/wado-rs",
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
        },
    }
    configuration = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        # OHIF's own advice for HTTP/2.
        "maxNumRequests": {"interaction": 100, "thumbnail": 75, "prefetch": 100},
        "defaultDataSourceName": "sidecar",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(configuration)};"


@contextlib.contextmanager
def front(folder: Path, port: int, upstream: str) -> Iterator[Path]:
    """Run nginx with TLS and HTTP/2: OHIF's files, and the sidecar behind. Yields its log."""
    assert NGINX is not None
    folder.chmod(0o755)
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "certificate.pem",
        ],
        check=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    log = folder / "requests.log"
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
daemon off; pid nginx.pid; error_log stderr; {user} worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  types {{ text/html html; text/css css; application/javascript js; application/wasm wasm;
    application/json json; }}
  log_format frames '$server_protocol $status $request_method $uri';
  access_log off; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate certificate.pem; ssl_certificate_key key.pem;
    location = /app-config.js {{ root {folder}; }}
    location /wado-rs/ {{
      access_log requests.log frames;
      proxy_pass {upstream}; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off;
    }}
    location / {{ root {OHIF}; try_files $uri /index.html; }}
  }}
}}
""")
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"])
    try:
        wait_until(
            "nginx listens", lambda: (folder / "nginx.pid").exists() and process.poll() is None
        )
        yield log
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def frames(log: Path) -> Counter[tuple[str, str]]:
    """How many times each frame was answered with which status, over HTTP/2.0 alone."""
    text = log.read_text() if log.exists() else ""
    assert set(re.findall(r"^HTTP/\S+", text, re.MULTILINE)) <= {"HTTP/2.0"}
    answered = rf"^HTTP/2.0 (\d+) GET \S+/instances/{re.escape(STUDY)}\.1\.(\d+)/frames/1$"
    return Counter(re.findall(answered, text, re.MULTILINE))


def look_at_the_study(profile: Path, origin: str, log: Path) -> Counter[tuple[str, str]]:
    """Open the study in OHIF, and wait until each image was asked for and answered."""
    driver = start_browser(profile, "1200,900", "--ignore-certificate-errors")
    try:
        driver.get(f"{origin}/viewer?StudyInstanceUIDs={STUDY}&token={TOKEN}")
        return wait_until(
            "an answer for each image",
            lambda: frames(log),
            lambda seen: len({number for _, number in seen}) == IMAGES,
            explain=lambda: "\n".join(str(one) for one in driver.get_log("browser")[-20:]),  # type: ignore[no-untyped-call]
        )
    finally:
        driver.quit()


@pytest.mark.browser
async def test_every_image_comes(tmp_path: Path) -> None:
    require_viewer()
    (files := tmp_path / "files").mkdir()
    for number in range(1, IMAGES + 1):
        (files / f"{number}.dcm").write_bytes(instance(number))
    (site := tmp_path / "site").mkdir()
    port = free_ports_in_a_row(1)
    origin = f"https://127.0.0.1:{port}"
    (site / "app-config.js").write_text(viewer_configuration(origin))
    async with sidecar_between(
        ScriptedEhr(), SlowArchive(files), server={"public_url": origin}
    ) as (url, _):
        with front(site, port, url) as log:
            seen = await asyncio.to_thread(look_at_the_study, tmp_path / "profile", origin, log)
    assert Counter(status for status, _ in seen) == {"200": IMAGES}
