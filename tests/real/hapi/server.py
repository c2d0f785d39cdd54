"""A HAPI FHIR R4 server with HAPI's own defaults, whose store is in memory."""

import shutil
from pathlib import Path

from tests.real.authorization_servers import ROOT, Process

HAPI = ROOT / "build" / "hapi"
NO_HAPI = "no HAPI FHIR in build/hapi: make hapi (needs Maven and a JDK of 17 or later)"


def java(program: str, *arguments: str | Path) -> list[str]:
    """Return the command of a Java program beside this file.

    It says warnings alone, and is compiled no further than starts soon.
    """
    return [
        shutil.which("java") or "java",
        "-Xmx1g",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{HAPI}:{HAPI}/*",
        program,
        *map(str, arguments),
    ]


class Hapi(Process):
    """``base`` is what its FHIR URLs begin with, without a slash at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.base = self.url + "/fhir"
        self.start(java("FhirServer", str(self.port)), self.base + "/metadata")
