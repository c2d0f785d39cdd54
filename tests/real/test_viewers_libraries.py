"""docs/viewers.md: dicomweb-client and dwv in Chromium, on the demo and on a real Orthanc."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from selenium import webdriver

from tests.markdown import snippet
from tests.real.viewers.fixtures import browser, site
from tests.real.viewers.pages import DOCUMENT, at, bundled, require_libraries
from tests.real.viewers.pictures import as_shown, is_blank, likeness, on_canvas
from tests.real.viewers.site import COMPRESSED, OTHER, OWNER, Site
from tests.waiting import WAIT_SECONDS, wait_until

__all__ = ["browser", "site"]


@pytest.mark.browser
def test_dicomweb_client(site: Site, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """All files of the patient's studies: as they are stored, or a compressed one decoded."""
    require_libraries()
    code = snippet(DOCUMENT, "// dicomweb-client: all of a patient's studies")
    browser.set_script_timeout(WAIT_SECONDS)
    with bundled(tmp_path / "page", at(code, sidecar=site.sidecar, ehr=site.ehr)) as address:
        browser.get(address)
        found = browser.execute_async_script(
            """const [token, done] = arguments;
            const bytes = (one) => Array.from(new Uint8Array(one));
            viewer.allStudies(token).then(
                (studies) => done(Object.fromEntries(Object.entries(studies).map(
                    ([uid, files]) => [uid, files.map(bytes)]))),
                (error) => done(String(error)));""",
            site.token,
        )
    assert isinstance(found, dict), found
    came = {uid: [bytes(one) for one in files] for uid, files in found.items()}
    assert came.keys() == {site.study(OWNER.id), site.study(COMPRESSED)}
    assert came[site.study(OWNER.id)] == [site.files[OWNER.id].read_bytes()]
    (decoded,) = (pydicom.dcmread(BytesIO(one)) for one in came[site.study(COMPRESSED)])
    assert decoded.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    stored = pydicom.dcmread(site.files[COMPRESSED])
    assert (decoded.pixel_array == stored.pixel_array).all()


@pytest.mark.browser
def test_dwv(site: Site, browser: webdriver.Chrome, tmp_path: Path, artefacts: Path) -> None:
    """The picture on its canvas is the frame of the file; another patient's study is no picture."""
    require_libraries()
    code = snippet(DOCUMENT, "// dwv: the images of a study")
    browser.set_script_timeout(WAIT_SECONDS)
    show = """const [token, study, done] = arguments;
        viewer.show(token, study, 'picture').then(
            () => done(''), (error) => done(String(error)));"""
    canvas = """const canvas = document.querySelector('#picture canvas');
        return canvas === null ? '' : canvas.toDataURL();"""
    with bundled(tmp_path / "page", at(code, sidecar=site.sidecar, ehr=site.ehr)) as address:
        browser.get(address)
        assert browser.execute_async_script(show, site.token, site.study(OWNER.id)) == ""
        picture = wait_until(
            "a picture",
            lambda: on_canvas(browser.execute_script(canvas)),
            lambda shown: not is_blank(shown),
            not_yet=(OSError, ValueError),
        )
        browser.save_screenshot(str(artefacts / f"viewers-dwv-{site.name}.png"))
        frame = as_shown(site.files[OWNER.id])
        assert min(likeness(picture, frame)) > 0.9
        browser.get(address)
        assert browser.execute_async_script(show, site.token, site.study(OTHER.id)) != ""
        assert browser.execute_script(canvas) == ""
