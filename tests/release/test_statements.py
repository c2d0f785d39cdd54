"""What is said of the files is so; an image of something else is refused."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from release.commands import Refused
from release.images import image_of
from release.statements import provenance, sums

LABELS = {
    "org.opencontainers.image.version": "1.0.0",
    "org.opencontainers.image.revision": "c0ffee",
}
BASE = "org.opencontainers.image.base.digest"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name in ("b.whl", "a.tgz"):
        (tmp_path / name).write_text(name)
    return [tmp_path / "b.whl", tmp_path / "a.tgz"]


def _saved(archive: Path, labels: dict[str, str] | None) -> Path:
    documents: dict[str, Any] = {
        "manifest.json": [{"Config": "beef.json", "Layers": []}],
        "beef.json": {"config": {"Labels": labels}},
    }
    with tarfile.open(archive, "w") as written:
        for name, document in documents.items():
            about = tarfile.TarInfo(name)
            contents = json.dumps(document).encode()
            about.size = len(contents)
            written.addfile(about, io.BytesIO(contents))
    return archive


def test_the_sums_are_those_of_sha256sum(files: list[Path]) -> None:
    (files[0].parent / "SHA256SUMS").write_text(sums(files))
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=files[0].parent, capture_output=True, text=True, check=True)
    assert done.stdout == "a.tgz: OK\nb.whl: OK\n"


def test_the_statement_names_each_file_and_the_commit(files: list[Path]) -> None:
    statement = json.loads(provenance(files, "c0ffee", "https://example.org/builder"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    stated = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    summed = {}
    for line in sums(files).splitlines():
        digest, _, name = line.partition("  ")
        summed[name] = digest
    assert stated == summed
    assert statement["predicate"] == {
        "buildDefinition": {
            "buildType": "urn:smart-imaging-sidecar:make-release:1",
            "externalParameters": {"commit": "c0ffee"},
            "resolvedDependencies": [{"name": "sources", "digest": {"gitCommit": "c0ffee"}}],
        },
        "runDetails": {"builder": {"id": "https://example.org/builder"}},
    }
    assert str(files[0].parent) not in json.dumps(statement)


def test_an_image_and_its_base_are_named(files: list[Path], tmp_path: Path) -> None:
    archive = _saved(tmp_path / "image.tar", LABELS | {BASE: "sha256:f00d"})
    image = image_of(archive, "1.0.0", "c0ffee")
    assert image == {"name": "smart-imaging-sidecar:1.0.0", "id": "beef", "base": "sha256:f00d"}
    statement = json.loads(provenance(files, "c0ffee", "urn:a", image))
    assert {"name": "smart-imaging-sidecar:1.0.0", "digest": {"sha256": "beef"}} in statement[
        "subject"
    ]
    sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert sources[1:] == [{"name": "base image", "digest": {"sha256": "f00d"}}]


def test_a_base_without_a_digest_is_not_named(files: list[Path], tmp_path: Path) -> None:
    image = image_of(_saved(tmp_path / "image.tar", LABELS | {BASE: ""}), "1.0.0", "c0ffee")
    assert "base image" not in provenance(files, "c0ffee", "urn:a", image)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("value", ["another", None])
def test_an_image_of_something_else_is_refused(
    label: str, value: str | None, tmp_path: Path
) -> None:
    labels = {name: text for name, text in LABELS.items() if name != label}
    archive = _saved(tmp_path / "image.tar", labels | ({label: value} if value else {}))
    with pytest.raises(Refused, match=f"is of {label.rpartition('.')[2]} {value}, not "):
        image_of(archive, "1.0.0", "c0ffee")


def test_what_is_no_image_is_refused(tmp_path: Path, files: list[Path]) -> None:
    _saved(tmp_path / "none.tar", None)
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    for file in (files[0], tmp_path / "empty.tar", tmp_path / "absent.tar"):
        with pytest.raises(Refused, match="is no image that an engine saved"):
            image_of(file, "1.0.0", "c0ffee")
    with pytest.raises(Refused, match="is of version None"):
        image_of(tmp_path / "none.tar", "1.0.0", "c0ffee")
