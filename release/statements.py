"""What is said of the packages: bills of materials, their provenance, their digests."""

import json
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

from release.commands import run
from release.packages import digest

# What `make release` does; the sources that the statement names are its only input beside the lock.
BUILD_TYPE = "urn:smart-imaging-sidecar:make-release:1"


def bill_of_materials(wheel: Path, tree: Path, bill: Path, work: Path) -> None:
    """Write what the wheel brings along when the lock is followed, in CycloneDX's JSON.

    It is read from an environment with the wheel and nothing else, in which the command is tried.
    Raises Refused where that does not run.
    """
    python = _installed(wheel, tree, work)
    command = python.parent / "smart-imaging-sidecar"
    for arguments in (["--version"], ["serve", "--help"], ["check", "--help"]):
        run(command, *arguments)
    run(
        *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"),
        *("--spec-version", "1.6", "--pyproject", tree / "pyproject.toml"),
        *("--output-file", bill, python),
    )
    # The version is where hatchling reads it, and not in pyproject.toml.
    document = json.loads(bill.read_text())
    document["metadata"]["component"]["version"] = wheel.name.split("-")[1]
    bill.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def bill_of_image(syft: Path, image: Path, bill: Path) -> None:
    """Write what an image holds, Debian's packages as well, in SPDX's JSON."""
    name = ("--source-name", image.name)  # else the folder would be in it
    run(syft, "scan", f"docker-archive:{image}", "-q", *name, "-o", f"spdx-json={bill}")


def provenance(
    files: Iterable[Path], commit: str, builder: str, image: dict[str, str] | None = None
) -> str:
    """Return a statement of in-toto with SLSA's provenance for these files.

    ``image`` has the ``name``, the ``id`` and the ``base`` (a digest or nothing) of an image, where
    one of the files is one. It does not tell the time: two builds are stated alike.
    """
    subjects = [{"name": file.name, "digest": {"sha256": digest(file)}} for file in sorted(files)]
    sources: list[dict[str, object]] = [{"name": "sources", "digest": {"gitCommit": commit}}]
    if image:
        subjects.append({"name": image["name"], "digest": {"sha256": image["id"]}})
    if image and image["base"]:
        base = image["base"].removeprefix("sha256:")
        sources.append({"name": "base image", "digest": {"sha256": base}})
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"commit": commit},
                "resolvedDependencies": sources,
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }
    return json.dumps(statement, indent=2) + "\n"


def sums(files: Iterable[Path]) -> str:
    """Return the digests of the files, as `sha256sum --check` reads them."""
    return "".join(f"{digest(file)}  {file.name}\n" for file in sorted(files))


def _installed(wheel: Path, tree: Path, work: Path) -> Path:
    """Return the Python of a new environment with the wheel and what the lock pins for it."""
    venv.create(work / "environment", symlinks=True)
    python = work / "environment/bin/python"
    pins = work / "pins"
    pins.write_text(run(sys.executable, tree / ".ci/pins", "dependencies"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", pins)
    # By its name: what is installed by a path remembers the path.
    name, version, *_ = wheel.name.split("-")
    run(*pip, "--no-deps", "--no-index", "--find-links", wheel.parent, f"{name}=={version}")
    run(sys.executable, "-m", "pip", "--python", python, "check")
    return python
