"""The packages: wheel and sdist, and the chart. The same sources give the same bytes."""

import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

from release.commands import Refused, run

CHART = "helm/smart-imaging-sidecar"


def python_packages(tree: Path, out: Path, epoch: int, work: Path) -> list[Path]:
    """Build sdist and wheel of ``tree`` into ``out`` and return them.

    The wheel is made of the sdist. They are built again, this time the wheel of the tree itself.
    Raises Refused where the bytes differ, or where the wheel holds other files than `sidecar/`.
    """
    _build(tree, out, epoch)
    again = work / "again"
    _build(tree, again, epoch, "--sdist", "--wheel")
    built = sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])
    if len(built) != 2 or sorted(again.iterdir()) != [again / file.name for file in built]:
        raise Refused(f"not one wheel and one sdist: {[file.name for file in built]}")
    for file in built:
        if digest(file) != digest(again / file.name):
            raise Refused(f"two builds of {file.name} differ")
    (wheel,) = out.glob("*.whl")
    expected = {file for file in files(tree) if file.startswith("sidecar/")}
    held = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in held if not name.partition("/")[0].endswith(".dist-info")}
    if own != expected:
        raise Refused(f"the wheel differs from sidecar/ in {sorted(own ^ expected)}")
    run(sys.executable, "-m", "twine", "check", "--strict", *built)
    return built


def chart_package(tree: Path, out: Path, epoch: int, version: str) -> Path:
    """Write the chart as `helm package` names and arranges it, and return the file."""
    ignored = (tree / CHART / ".helmignore").read_text().split()
    name = CHART.partition("/")[2]
    package = out / f"{name}-{version}.tgz"
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in files(tree / CHART):
            if file == ".helmignore" or f"{file.split('/')[0]}/" in ignored or file in ignored:
                continue
            contents = (tree / CHART / file).read_bytes()
            about = tarfile.TarInfo(f"{name}/{file}")
            about.size, about.mtime, about.mode = len(contents), epoch, 0o644
            archive.addfile(about, io.BytesIO(contents))
    package.write_bytes(gzip.compress(written.getvalue(), mtime=epoch))
    return package


def files(tree: Path) -> list[str]:
    """Return the names of all files in a folder, in an order that is always the same."""
    return sorted(file.relative_to(tree).as_posix() for file in tree.rglob("*") if file.is_file())


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as contents:
        return hashlib.file_digest(contents, "sha256").hexdigest()


def _build(tree: Path, out: Path, epoch: int, *options: str) -> None:
    # With the hatchling of the lock, which this environment has.
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    run(*build, out, *options, tree, SOURCE_DATE_EPOCH=str(epoch))
