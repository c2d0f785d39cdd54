"""Make what a version consists of, of the last commit, and say what a person has to do with it.

Without --tag it is a dry run: everything is made and looked at, and what still forbids a tag is
said. Nothing is ever pushed, signed or uploaded. See docs/release.md.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from release.commands import Refused, git
from release.images import image_of
from release.packages import chart_package, python_packages
from release.statements import bill_of_image, bill_of_materials, provenance, sums
from release.versions import differences, not_yet, semver, version_of

ROOT = Path(__file__).parent.parent
SYFT = ROOT / "build/bin/syft"


def main(arguments: list[str] | None = None) -> int:
    """Make the release that the arguments ask for, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--tag", action="store_true", help="in the end tag the commit")
    parser.add_argument("--image", type=Path, metavar="FILE", help="an image of this commit")
    parser.add_argument("--out", type=Path, default=ROOT / "build/release", help="a folder")
    parser.add_argument("--builder", default="urn:smart-imaging-sidecar:by-hand", help="a URI")
    given = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            tag = release(given, Path(folder))
    except Refused as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    print(NEXT.format(out=given.out, tag=tag) if given.tag else f"a dry run: there is no tag {tag}")
    return 0


def release(given: argparse.Namespace, work: Path) -> str:
    """Fill the folder, and return the tag, which the commit gets if that was asked for."""
    commit = git(ROOT, "rev-parse", "HEAD")
    epoch = int(git(ROOT, "log", "-1", "--format=%ct"))
    tree = _exported(work)
    version = version_of(tree)
    wrong = differences(tree)
    if wrong:
        raise Refused("the places of the version differ\n" + "\n".join(wrong))
    tag = f"v{version}"
    open_points = list(not_yet(ROOT, tag))
    if open_points and given.tag:
        raise Refused("no tag yet\n" + "\n".join(open_points))
    for point in open_points:
        print(f"before a tag: {point}")

    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = [*python_packages(tree, out, epoch, work)]
    files.append(chart_package(tree, out, epoch, semver(version)))
    image, saved = None, out / f"smart-imaging-sidecar-{version}.image.tar"
    if given.image:
        image = image_of(given.image, version, commit)
        shutil.copyfile(given.image, saved)
        files.append(saved)
    else:
        print("no image: build one of this commit and name it by --image")
    statement = provenance(files, commit, given.builder, image)

    bill = out / f"smart-imaging-sidecar-{version}.cdx.json"
    (wheel,) = out.glob("*.whl")
    bill_of_materials(wheel, tree, bill, work)
    files.append(bill)
    if image and SYFT.exists():
        files.append(saved.with_suffix(".spdx.json"))
        bill_of_image(SYFT, saved, files[-1])
    elif image:
        print("no bill of materials of the image: make syft")
    files.append(out / "provenance.intoto.json")
    files[-1].write_text(statement)
    (out / "SHA256SUMS").write_text(sums(files))
    print(sums(files), end="")
    if given.tag:
        git(ROOT, "tag", "--annotate", tag, "--message", f"Version {version}", commit)
    return tag


def _exported(work: Path) -> Path:
    """Return a folder with the files of the last commit: what is not committed gets nowhere."""
    tree = work / "tree"
    archive = work / "tree.tar"
    git(ROOT, "archive", "--output", str(archive), "HEAD")
    shutil.unpack_archive(archive, tree, filter="data")
    return tree


NEXT = """\
tagged {tag}. What is left needs a person and keys:
  1. look at {out}, and check it: (cd {out} && sha256sum --check SHA256SUMS)
  2. sign SHA256SUMS and provenance.intoto.json
  3. git push origin {tag}
  4. upload wheel and sdist (twine), the image, the chart (helm push), and the rest with them"""

if __name__ == "__main__":
    sys.exit(main())
