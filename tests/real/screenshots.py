"""Take the pictures of the explorer for the documents: ``make screenshots``.

They are written to docs/images with 128 colours, which keeps each below 250 kB.
"""

import tempfile
from pathlib import Path

from PIL import Image

from tests.demo.demo_process import running_demo
from tests.real.explorer import Explorer, explorer
from tests.waiting import wait_until

IMAGES = Path(__file__).parent.parent.parent / "docs/images"
WIDTH, HEIGHT = 1280, 860
COLOURS = 128


def take(page: Explorer, name: str) -> None:
    """Write the screenshot of what is shown."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder, "taken.png")
        page.driver.save_screenshot(str(taken))
        with Image.open(taken) as image:
            reduced = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            reduced.save(IMAGES / name, optimize=True)


def picture_of_the_viewer(page: Explorer) -> None:
    """Show a slice of the CT head."""
    volume = page.study("volume")["study"]
    page.go("studies")
    page.wait(f".card[data-study='{volume}'] button.primary").click()
    wait_until("a picture", lambda: page.wait("#about-image").text)
    wait_until(
        "the thumbnail", lambda: page.js("return document.querySelector('.strip img')?.complete")
    )
    take(page, "explorer-viewer.png")


def picture_of_the_attempts(page: Explorer) -> None:
    """Show the first refusals, with their reasons."""
    page.go("break-in")
    page.wait("#try-all").click()
    page.status("attempts were refused")
    wait_until("the reasons", lambda: page.all(".attack:last-child .why p"))
    take(page, "explorer-break-in.png")


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_demo() as demo,
        explorer(demo.base, Path(folder)) as page,
    ):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
        )
        page.log_in("ada")
        picture_of_the_viewer(page)
        picture_of_the_attempts(page)


if __name__ == "__main__":
    main()
