"""The explorer's viewer in a real browser: the picture is that of the stored values."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.real.explorer import Explorer, explorer
from tests.waiting import WAIT_SECONDS, wait_until

pytestmark = pytest.mark.browser

STATISTICS = """
const canvas = document.getElementById("canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
let sum = 0, squares = 0, colored = 0;
for (let at = 0; at < data.length; at += 4) {
  sum += data[at];
  squares += data[at] ** 2;
  if (Math.abs(data[at] - data[at + 2]) > 16) colored += 1;
}
const count = data.length / 4, mean = sum / count;
return { mean, deviation: Math.sqrt(squares / count - mean ** 2), colored: colored / count };"""


@pytest.fixture(scope="module")
def page(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Ada's studies in a browser."""
    with explorer(demo, tmp_path_factory.mktemp("browser")) as opened:
        opened.log_in("ada")
        yield opened


def open_study(page: Explorer, purpose: str, series: int = 0) -> None:
    """Open a study at one of its series."""
    study = page.study(purpose)
    page.go("studies")
    page.wait(f".card[data-study='{study['study']}'] button.primary").click()
    uid = study["series"][series]["series"]
    page.wait(f".strip button[data-series='{uid}']").click()


def statistics(page: Explorer) -> dict[str, float]:
    """Return what the canvas has, once it is no longer blank."""
    return wait_until("a picture", lambda: page.js(STATISTICS), lambda it: it["deviation"] > 5)


def place(page: Explorer) -> str:
    return page.wait("#place").text


def test_a_volume(page: Explorer) -> None:
    """Scrolling by keys, wheel and slider; windowing by preset, numbers and drag."""
    open_study(page, "volume")
    first = statistics(page)
    assert place(page) == "Image 49 of 96"
    assert "drawn here from the stored values" in page.wait("#about-image").text
    canvas = page.wait("#canvas")
    canvas.send_keys(Keys.ARROW_DOWN)
    assert place(page) == "Image 50 of 96"
    canvas.send_keys(Keys.HOME)
    assert place(page) == "Image 1 of 96"
    canvas.send_keys(Keys.PAGE_DOWN)
    assert place(page) == "Image 11 of 96"
    ActionChains(page.driver).scroll_by_amount(0, 0).perform()
    page.js(
        "arguments[0].dispatchEvent(new WheelEvent('wheel', { deltaY: 180, cancelable: true }))",
        canvas,
    )
    assert place(page) == "Image 14 of 96"
    page.js(
        "const at = document.getElementById('position'); at.value = 49;"
        "at.dispatchEvent(new Event('input'))"
    )
    wait_until("the same picture", lambda: page.js(STATISTICS), lambda it: it == first)


def test_windowing_changes_the_picture(page: Explorer) -> None:
    open_study(page, "volume")
    first = statistics(page)
    names = [option.text for option in Select(page.wait("#preset")).options]
    assert {"Bone", "Lung", "Full range", "Own"} <= set(names)
    Select(page.wait("#preset")).select_by_visible_text("Bone")
    bone = page.js(STATISTICS)
    assert abs(bone["mean"] - first["mean"]) > 1
    center, width = page.wait("#window-center"), page.wait("#window-width")
    assert (center.get_property("value"), width.get_property("value")) == ("600", "2800")
    width.clear()
    width.send_keys("50" + Keys.TAB)
    assert page.js(STATISTICS) != bone
    assert Select(page.wait("#preset")).first_selected_option.text == "Own"
    before = page.js(STATISTICS)
    drag = ActionChains(page.driver).click_and_hold(page.wait("#canvas")).move_by_offset(60, 40)
    drag.release().perform()
    assert page.js(STATISTICS) != before
    page.driver.find_element(By.XPATH, "//button[text()='Reset']").click()
    assert page.js(STATISTICS) == first


def test_zooming_moving_inverting(page: Explorer) -> None:
    open_study(page, "volume")
    first = statistics(page)
    canvas = page.wait("#canvas")
    canvas.send_keys("+")
    zoomed = page.js(STATISTICS)
    assert zoomed["mean"] > first["mean"]
    move = ActionChains(page.driver).key_down(Keys.SHIFT).click_and_hold(canvas)
    move.move_by_offset(300, 0).release().key_up(Keys.SHIFT).perform()
    assert page.js(STATISTICS) != zoomed
    canvas.send_keys("0")
    assert page.js(STATISTICS) == first
    page.wait("#invert").click()
    assert page.js(STATISTICS) != first
    page.wait("#invert").click()
    assert page.js(STATISTICS) == first


def test_the_pixels_are_those_of_the_file(page: Explorer) -> None:
    """Each drawn pixel is the window's linear function of the stored value (PS3.3 C.11.2.1.2)."""
    wrong = page.js("""
        return import("/page/script/viewer/pixels.js").then(({ paint, valuesOf }) => {
          const wrong = [];
          for (const [bits, stored, isSigned] of [[16, 12, false], [16, 16, true], [16, 12, true],
            [8, 8, false], [8, 8, true]]) {
            for (const photometric of ["MONOCHROME1", "MONOCHROME2"]) {
              const image = { rows: 2, columns: 2, samples: 1, bits, stored, isSigned, photometric,
                slope: 2, intercept: -10 };
              const low = isSigned ? -(2 ** (stored - 1)) : 0;
              const high = low + 2 ** stored - 1;
              const raw = [low, high, 3, 60];
              const Kind = bits === 8 ? Uint8Array : Uint16Array;
              // Bits above the stored ones are not part of the value.
              const noise = bits > stored ? 0xf000 : 0;
              const file = Kind.from(raw, (value) => value ^ (value < 0 ? 0 : noise));
              const values = valuesOf(new Uint8Array(file.buffer), image);
              if (String([...values]) !== String(raw)) wrong.push([bits, stored, [...values]]);
              const rgba = paint(new Uint8ClampedArray(16), values, image,
                { center: 50, width: 101 });
              raw.forEach((value, index) => {
                const grey = ((value * 2 - 10 - 49.5) / 100 + 0.5) * 255;
                const clamped = Math.min(255, Math.max(0, grey));
                const expected = photometric === "MONOCHROME1" ? 255 - clamped : clamped;
                const difference = Math.abs(rgba[4 * index] - expected);
                if (difference > 0.51) wrong.push([bits, value, expected]);
              });
            }
          }
          return wrong;
        })""")
    assert wrong == []


DIFFERENCES = """
const [uid, series] = arguments;
const load = (name) => import(`/page/script/${name}.js`);
return Promise.all(["studies", "http", "viewer/frames", "viewer/pixels"].map(load)).then(
  async ([{ studies }, { withToken }, { Frames, readSeries }, { paint, fullWindow }]) => {
    const { root } = studies.list.find((study) => study.uid === uid);
    const { signal } = new AbortController();
    const frames = new Frames(root, series, await readSeries(root, series, null, signal), signal);
    const index = frames.length >> 1;
    const { image, frame } = frames.list[index];
    const { values } = await frames.get(index);
    const shown = image.windows[0] ?? fullWindow(values, image);
    const ours = paint(new Uint8ClampedArray(image.rows * image.columns * 4), values, image, shown);
    const url = `${root}/series/${series}/instances/${image.uid}/frames/${frame}/rendered`;
    const { response } = await withToken(url, "image/png");
    const bitmap = await createImageBitmap(await response.blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const theirs = canvas.getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height).data;
    let worst = Math.abs(ours.length - theirs.length);
    ours.forEach((value, at) => { worst = Math.max(worst, Math.abs(value - theirs[at])); });
    const most = ours.reduce((high, value, at) => (at % 4 === 0 ? Math.max(high, value) : high), 0);
    return { worst, most };
  });"""


@pytest.mark.parametrize(
    ("purpose", "series"),
    [("volume", 0), ("multiframe", 0), ("multiframe", 1), ("x-ray", 0), ("photo", 0)]
    + [("compressed", series) for series in range(3)],
)
def test_the_picture_is_the_one_that_the_archive_draws(
    page: Explorer, purpose: str, series: int
) -> None:
    """Two implementations of the same transformation, which know nothing of each other."""
    study = page.study(purpose)
    page.driver.set_script_timeout(WAIT_SECONDS)
    found = page.js(DIFFERENCES, study["study"], study["series"][series]["series"])
    assert found["worst"] <= 1
    assert found["most"] > 100


def test_a_loop_plays(page: Explorer) -> None:
    open_study(page, "multiframe")
    statistics(page)
    assert place(page) == "Frame 1 of 40"
    page.wait("#play").click()
    wait_until("it plays", lambda: place(page), lambda text: text.startswith("Frame 5 "))
    page.wait("#play").click()
    assert page.wait("#play").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize(
    ("purpose", "series", "is_colored"),
    [
        ("multiframe", 1, True),
        ("x-ray", 0, False),
        ("compressed", 0, False),
        ("compressed", 1, False),
        ("compressed", 2, None),
        ("photo", 0, True),
    ],
)
def test_each_kind_of_image(
    page: Explorer, purpose: str, series: int, is_colored: bool | None
) -> None:
    open_study(page, purpose, series)
    seen = statistics(page)
    if is_colored is not None:
        assert (seen["colored"] > 0.002) is is_colored


def test_what_the_browser_cannot_decode_is_drawn_by_the_archive(page: Explorer) -> None:
    """The values are refused, as by an archive that cannot decompress them."""
    page.js("""
        const real = window.real = window.fetch;
        window.drawn = [];
        window.fetch = (url, options) => {
          const refused = new Response("", { status: 406 });
          if (/frames\\/[0-9]+$/.test(url)) return Promise.resolve(refused);
          if (String(url).includes("/rendered")) window.drawn.push(String(url));
          return real(url, options);
        };""")
    try:
        open_study(page, "compressed")
        first = statistics(page)
        assert "drawn by the archive" in page.wait("#about-image").text
        Select(page.wait("#preset")).select_by_visible_text("Bone")
        wait_until("another picture", lambda: page.js(STATISTICS), lambda it: it != first)
        page.wait("#canvas").send_keys(Keys.ARROW_DOWN)
        asked = wait_until(
            "both in that window",
            lambda: page.js("return window.drawn.filter((url) => url.includes('?window='))"),
            lambda urls: len(urls) >= 2,
        )
        assert all(url.endswith("?window=600.0,2800.0,linear") for url in asked)
    finally:
        page.js("window.fetch = window.real")


def test_a_document(page: Explorer) -> None:
    """It opens in a tab of its own, and can be saved."""
    open_study(page, "document")
    assert "PDF" in page.wait(".document").text
    page.wait(".document a[download]").click()
    saved = page.downloads / "document.pdf"
    wait_until("the document", saved.exists)
    assert saved.read_bytes().startswith(b"%PDF-")
    assert saved.read_bytes().rstrip().endswith(b"%%EOF")
    before = page.driver.window_handles
    page.wait(".document a[target=_blank]").click()
    opened = wait_until("a tab", lambda: set(page.driver.window_handles) - set(before))
    page.driver.switch_to.window(opened.pop())
    assert page.driver.current_url.startswith("blob:" + page.url)
    page.driver.close()
    page.driver.switch_to.window(before[0])


def touch(page: Explorer, *steps: list[tuple[float, float]]) -> None:
    """Put fingers down at the points of the first step, move them along the others, lift them."""
    kinds = ["touchStart", *["touchMove"] * (len(steps) - 1), "touchEnd"]
    for kind, points in zip(kinds, [*steps, []], strict=True):
        event = {
            "type": kind,
            "touchPoints": [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(points)],
        }
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)


def test_two_fingers_zoom(page: Explorer) -> None:
    open_study(page, "volume")
    first = statistics(page)
    box = page.js("return document.getElementById('canvas').getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch(page, *[[(x - gap, y), (x + gap, y)] for gap in (50, 75, 100)])
    wait_until("it is larger", lambda: page.js(STATISTICS)["mean"], lambda m: m > first["mean"])
    page.wait("#canvas").send_keys("0")
    assert page.js(STATISTICS) == first


def test_touch_scrolls(page: Explorer) -> None:
    """One finger does what the chosen tool says."""
    open_study(page, "volume")
    statistics(page)
    page.wait("input[name=tool][value=scroll]").click()
    canvas = page.wait("#canvas")
    before = place(page)
    box = page.js("return arguments[0].getBoundingClientRect().toJSON()", canvas)
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    touch(page, [(x, y)], [(x, y + 40)], [(x, y + 80)])
    assert before == "Image 49 of 96"
    wait_until("it has scrolled", lambda: place(page), lambda text: text == "Image 55 of 96")
    page.wait("input[name=tool][value=window]").click()
