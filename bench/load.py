"""Load on a server: many requests by wrk, downloads by curl, single requests by a connection."""

import contextlib
import http.client
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.peers import Peer
from bench.processes import cpu_seconds
from tests.fakes.ehr import PATIENT

WRK = "apt-get install wrk"
_ACCEPT = 'multipart/related; type="{}"; transfer-syntax=*'
INSTANCE, FRAME = _ACCEPT.format("application/dicom"), _ACCEPT.format("application/octet-stream")
ROWS, FHIR = "application/dicom+json", "application/fhir+json"
_ANSWERS = re.compile(r"(\d+) requests in ([\d.]+)(m?s),")

# Each `requests` requests have a token of their own, which begins with the patient.
_TOKENS = """
local number = 0
request = function()
  number = number + 1
  local token = string.format("{prefix}.%d", math.floor((number - 1) / {requests}))
  return wrk.format("GET", nil, {{["Accept"] = '{accept}', ["Authorization"] = "Bearer " .. token}})
end
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What one load gave: the answers, seconds, and CPU seconds of the peer."""

    answers: int
    seconds: float
    cpu: float


def headers(accept: str, token: str = PATIENT) -> dict[str, str]:
    """Return the header fields of a request. The token begins with the patient's id."""
    return {"Authorization": f"Bearer {token}", "Accept": accept}


def many(
    peer: Peer,
    path: str,
    accept: str,
    *,
    seconds: float,
    connections: int = 32,
    token: str = PATIENT,
    script: Path | None = None,
) -> Result:
    """Load by wrk for so many seconds (whole ones), or with the requests that ``script`` makes."""
    fields = [
        part for name, text in headers(accept, token).items() for part in ("-H", f"{name}: {text}")
    ]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", *fields]
    if script is not None:
        command += ["-s", str(script)]
    before = cpu_seconds(peer.process)
    output = run([*command, peer.url + path])
    cpu = cpu_seconds(peer.process) - before
    answers = _ANSWERS.search(output)
    if answers is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{peer.name}{path}: {output}")
    if answers[1] == "0":  # A busy machine.
        return many(
            peer,
            path,
            accept,
            seconds=4 * seconds,
            connections=connections,
            token=token,
            script=script,
        )
    return Result(int(answers[1]), float(answers[2]) / (1_000 if answers[3] == "ms" else 1), cpu)


def one_by_one(
    peer: Peer, path: str, accept: str, *, seconds: float, token: str = PATIENT
) -> Result:
    """Load by one connection for so many seconds: for answers that take long, so one at least."""
    connection, fields = Connection(peer), headers(accept, token)
    before, begun, answers = cpu_seconds(peer.process), time.perf_counter(), 0
    while not answers or time.perf_counter() - begun < seconds:
        connection.seconds(path, fields)
        answers += 1
    return Result(answers, time.perf_counter() - begun, cpu_seconds(peer.process) - before)


def token_script(file: Path, accept: str, *, requests: int) -> Path:
    """Write a script for wrk whose tokens are each used for so many requests, and never again."""
    prefix = f"{PATIENT}.{time.monotonic_ns()}"
    file.write_text(_TOKENS.format(prefix=prefix, accept=accept, requests=requests))
    return file


def download(peer: Peer, path: str, size: int) -> Result:
    """Fetch a study once by curl; raise SystemExit where it is not whole."""
    before = cpu_seconds(peer.process)
    status, received, seconds = run(curl(peer, path)).split(",")
    if status != "200" or int(received) < size * 0.99:
        raise SystemExit(f"{peer.name}{path}: {status} with {received} bytes")
    return Result(1, float(seconds), cpu_seconds(peer.process) - before)


def curl(peer: Peer, path: str, *options: str) -> list[str]:
    """Return curl's command for a study. It prints the status, the bytes and the seconds."""
    fields = [
        part for name, text in headers(INSTANCE).items() for part in ("-H", f"{name}: {text}")
    ]
    report = ["-o", "/dev/null", "-w", "%{http_code},%{size_download},%{time_total}"]
    return ["curl", "-sS", *options, *report, *fields, peer.url + path]


@contextlib.contextmanager
def downloads(peer: Peer, path: str, count: int) -> Iterator[None]:
    """Keep so many downloads going meanwhile: each begins anew as long as it lasts.

    Raises SystemExit where one fails.
    """
    # One curl fetches the URL again and again, by one connection. It does not send the fragment.
    command = curl(peer, path + "#[1-100000]", "--fail", "--fail-early")
    curls = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
        if any(process.poll() is not None for process in curls):
            raise SystemExit(f"{peer.name}{path}: a download has ended")
    finally:
        for process in curls:
            process.terminate()
        for process in curls:
            process.wait(10)


class Connection:
    """A connection to a peer, on which requests follow one another."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._connection = http.client.HTTPConnection(urlsplit(peer.url).netloc, timeout=300)

    def seconds(self, path: str, fields: dict[str, str]) -> float:
        """Ask once. Return the seconds until the whole answer is there."""
        begun = time.perf_counter()
        self._connection.request("GET", urlsplit(self._peer.url).path + path, headers=fields)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{self._peer.name}{path}: {answer.status}")
        return time.perf_counter() - begun

    def paced(self, path: str, accept: str, *, rate: float, seconds: float) -> list[float]:
        """Ask ``rate`` times a second, or as often as answers come. Return each one's seconds."""
        times, until = [], time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            times.append(self.seconds(path, headers(accept)))
            time.sleep(max(0, begun + 1 / rate - time.perf_counter()))
        return times


def run(command: Sequence[str]) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
