"""The explorer's files: served by an allow-list, nothing of elsewhere, small."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

import sidecar.demo.page as page

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(page.__file__).parent
SOURCES = sorted(file for file in FOLDER.rglob("*") if file.suffix in {".js", ".css", ".html"})
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """The page alone, without a sidecar."""
    app = web.Application()
    page.add_page(app, ehr_fhir_url="http://ehr.example:1/fhir?a=<b>")
    async with TestClient(TestServer(app)) as started:
        yield started


async def test_each_file_is_served_with_its_type(client: Client) -> None:
    paths = [path for path, _ in page.assets()]
    assert {"script/main.js", "script/viewer/pixels.js", "style/base.css"} <= set(paths)
    for path in paths:
        answer = await client.get(f"/page/{path}")
        expected = "text/javascript" if path.endswith(".js") else "text/css"
        assert (answer.status, answer.content_type) == (200, expected)
        assert await answer.text() == (FOLDER / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "/page/index.html",
        "/page/script/../index.html",
        "/page/script/%2e%2e/index.html",
        "/page/",
    ],
)
async def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_the_policy_lets_in_our_own_files_alone(client: Client) -> None:
    answer = await client.get("/")
    policy = dict(
        directive.strip().partition(" ")[::2]
        for directive in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self' http://ehr.example:1",
        "img-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    text = await answer.text()
    assert 'content="http://ehr.example:1/fhir?a=&lt;b&gt;"' in text
    assert not re.search(r"<script(?![^>]* src=)|<style| on[a-z]+=| style=", text)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_file_is_small_and_names_no_other_host(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 300
    assert [line for line in lines if len(line) > 100] == []
    assert re.findall(r"https?://\S+|[\"'(]//\w\S+", text) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


@pytest.mark.parametrize(
    "file", [file for file in SOURCES if file.suffix == ".js"], ids=lambda file: file.stem
)
def test_a_module_imports_what_is_there(file: Path) -> None:
    for name in re.findall(r'from "([^"]+)"', file.read_text(encoding="utf-8")):
        assert name.startswith("."), name
        assert (file.parent / name).is_file(), name


@pytest.mark.parametrize("name", ["explorer-viewer", "explorer-break-in"])
def test_a_picture_for_the_documents_is_small(name: str) -> None:
    """``make screenshots`` takes them."""
    with Image.open(ROOT / f"docs/images/{name}.png") as image:
        assert (image.format, image.size) == ("PNG", (1280, 860))
    assert (ROOT / f"docs/images/{name}.png").stat().st_size <= 250_000
