"""An image that has been built, as `docker save` or `.ci/image FILE` writes it."""

import json
import tarfile
from pathlib import Path

from release.commands import Refused

_LABEL = "org.opencontainers.image."


def image_of(archive: Path, version: str, commit: str) -> dict[str, str]:
    """Return ``name``, ``id`` and the digest of the ``base`` (or nothing) of an image.

    Raises Refused where it is another version than this, or of another commit.
    """
    try:
        with tarfile.open(archive) as contents:
            (image,) = json.loads(_read(contents, "manifest.json"))
            labels = json.loads(_read(contents, image["Config"]))["config"].get("Labels") or {}
    except (OSError, tarfile.TarError, KeyError, ValueError) as problem:
        raise Refused(f"{archive.name} is no image that an engine saved: {problem}") from None
    for label, wanted in (("version", version), ("revision", commit)):
        if labels.get(_LABEL + label) != wanted:
            raise Refused(
                f"{archive.name} is of {label} {labels.get(_LABEL + label)}, not {wanted}"
            )
    return {
        "name": f"smart-imaging-sidecar:{version}",
        "id": Path(image["Config"]).name.removesuffix(".json"),
        "base": labels.get(_LABEL + "base.digest", ""),
    }


def _read(contents: tarfile.TarFile, name: str) -> bytes:
    file = contents.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()
