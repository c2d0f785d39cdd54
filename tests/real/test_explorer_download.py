"""The explorer's download in a real browser: whole, verified, by series, resumed (SIA-40, 43)."""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from pydicom import dcmread
from selenium.webdriver.support.ui import Select

from tests.real.explorer import Explorer, explorer
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture
def page(demo: str, tmp_path: Path) -> Iterator[Explorer]:
    """The page of downloads."""
    with explorer(demo, tmp_path) as opened:
        opened.log_in("ada")
        opened.go("download")
        yield opened


def choose(page: Explorer, purpose: str) -> dict[str, int]:
    """Choose Ada's study for that purpose; return the number of instances of each shown series."""
    study = page.study(purpose)
    Select(page.wait("#download-study")).select_by_value(study["study"])
    return {one["series"]: one["instances"] for one in study["series"] if not one["hidden"]}


def saved(folder: Path) -> Path:
    """Return the ZIP, once it is there."""

    def find() -> Path | None:
        return next(iter((folder / "downloads").glob("*.zip")), None)

    found = wait_until("the saved ZIP", find)
    assert found is not None
    return found


@pytest.mark.parametrize("purpose", ["multiframe", "volume", "hidden-series"])
def test_a_study_as_one_zip(page: Explorer, purpose: str, tmp_path: Path) -> None:
    expected = choose(page, purpose)
    page.wait("#start").click()
    count = sum(expected.values())
    page.status(f"Saved: {count} files, .* all verified")
    assert f"{count} of {count} instances verified" in page.wait("#progress-text").text
    file = saved(tmp_path)
    # Its name is a date: whoever looks over a shoulder learns no more.
    assert file.name[:6] == "study-"
    found: dict[str, int] = dict.fromkeys(expected, 0)
    with ZipFile(file) as opened:
        assert opened.testzip() is None
        for name in opened.namelist():
            assert name.startswith("DICOM/")
            with opened.open(name) as stored:
                found[str(dcmread(stored, stop_before_pixels=True).SeriesInstanceUID)] += 1
    assert found == expected


def test_cancelling_and_resuming_by_series(page: Explorer, tmp_path: Path) -> None:
    """What was verified before the cancellation is not fetched again."""
    expected = choose(page, "multiframe")
    assert len(expected) == 2
    page.driver.execute_cdp_cmd("Network.enable", {})
    # Series 1 comes, and series 2 is slow enough to be cancelled.
    page.js("""
        const real = window.fetch;
        let asked = 0;
        window.zips = [];
        window.fetch = async (url, options) => {
          if (options?.headers?.Accept !== "application/zip") return real(url, options);
          window.zips.push(String(url).split("/series/")[1]);
          asked += 1;
          if (asked === 2) {
            await new Promise((resolve, reject) => {
              options.signal.addEventListener("abort", () =>
                reject(new DOMException("cancelled", "AbortError")));
            });
          }
          return real(url, options);
        };""")
    page.wait("#start").click()
    wait_until("the second series", lambda: page.js("return window.zips.length"), lambda n: n == 2)
    page.wait("#cancel").click()
    page.status("Cancelled")
    states = (
        "return [...document.querySelectorAll('#download-rows tr')].map((r) => r.dataset.state)"
    )
    assert wait_until("the states", lambda: page.js(states), lambda it: "running" not in it) == [
        "done",
        "cancelled",
    ]
    assert page.wait("#start").text == "Resume"
    page.wait("#start").click()
    page.status(f"Saved: {sum(expected.values())} files")
    first, *others = page.js("return window.zips")
    assert others == [others[0]] * 2
    assert first != others[0]
    with ZipFile(saved(tmp_path)) as opened:
        assert opened.testzip() is None
        assert len(opened.namelist()) == sum(expected.values())


@pytest.mark.parametrize("damage", ["cut", "changed", "one file short"])
def test_a_damaged_file_is_not_saved(page: Explorer, damage: str, tmp_path: Path) -> None:
    choose(page, "multiframe")
    page.js(
        """
        const real = window.fetch;
        window.fetch = async (url, options) => {
          const answer = await real(url, options);
          if (options?.headers?.Accept !== "application/zip") return answer;
          if (DAMAGE === "one file short") {
            const { readZip, writeZip } = await import("/page/script/zip.js");
            const files = await readZip(await answer.blob());
            return new Response(writeZip(files.slice(1)), { headers: answer.headers });
          }
          const bytes = new Uint8Array(await answer.arrayBuffer());
          if (DAMAGE === "changed") bytes[bytes.length >> 1] ^= 1;
          const body = DAMAGE === "cut" ? bytes.slice(0, -30) : bytes;
          return new Response(body, { headers: answer.headers });
        };""".replace("DAMAGE", repr(damage)),
    )
    page.wait("#start").click()
    page.status("breaks off|not as it was sent|0 files came, and the series has 1")
    assert page.all("#download-rows tr[data-state='failed']")
    assert not list(tmp_path.glob("downloads/*"))


def test_dicom_files_in_a_folder(page: Explorer) -> None:
    """The folder is one of the browser's own: nobody is there to pick another one."""
    expected = choose(page, "hidden-series")
    page.js("window.showDirectoryPicker = () => navigator.storage.getDirectory()")
    page.wait("input[name=form][value=files]").click()
    page.wait("#start").click()
    page.status(f"Saved: {sum(expected.values())} files")
    files = page.js("""
        const found = [];
        const walk = async (folder, path) => {
          for await (const [name, entry] of folder.entries()) {
            if (entry.kind === "directory") await walk(entry, `${path}${name}/`);
            else {
              const bytes = await (await entry.getFile()).arrayBuffer();
              const magic = new TextDecoder().decode(bytes.slice(128, 132));
              found.push([`${path}${name}`, magic]);
            }
          }
        };
        return navigator.storage.getDirectory().then((root) => walk(root, "")).then(() => found);
    """)
    assert len(files) == sum(expected.values())
    assert {magic for _, magic in files} == {"DICM"}
    assert all(name.startswith("DICOM/") for name, _ in files)
