"""A walk through everything that can be asked: no address of the archive, none of its notes reaches
the client.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dcm4chee.attributes import CREATOR, SECRET
from tests.dcm4chee.behaviour import Behaviour, Mode
from tests.dcm4chee.retrieve import STORAGE
from tests.dcm4chee.site import ARCHIVE_HOST, STORED, SYSTEM_A, Site, site_with
from tests.dcm4chee.studies import COMPRESSED, LARGE, MANY, MRN
from tests.fakes.site import PUBLIC_URL
from tests.journey.forms import forms
from tests.journey.multipart import parts_of

ROOTS = ["/wado-rs", "/fhir/Patient/alice/$wado-rs"]
PATIENTS = {"alice": [(SYSTEM_A, MRN)]}
ACCEPTED = [
    {"Accept": "*/*"},
    STORED,
    {"Accept": 'multipart/related; type="application/octet-stream"'},
    {"Accept": "application/dicom+json"},
    {"Accept": "image/png"},
]


def secrets(port: int) -> list[re.Pattern[bytes]]:
    """What names the archive: its host and port, its paths and files, its AE title in a row, its
    notes, its errors.
    """
    return [
        re.compile(pattern)
        for pattern in (
            rb":%d\b" % port,
            ARCHIVE_HOST.encode(),
            rb"dcm4chee-arc",
            rb"/aets/",
            STORAGE.encode(),
            rb"java\.",
            rb"\[PARAMETER\]",
            rb"Access-Control-",  # The archive's; ours come with an Origin alone.
            b'"00080054"',
            rb'"7777[0-9A-Fa-f]{4}"',
            CREATOR.encode(),
            SECRET.encode(),
            rb"other\.internal",
        )
    ]


def paths(root: str, study: str, series: str, instance: str) -> Iterator[str]:
    """Every form at every level, queries with everything."""
    below = [
        *forms(study, series, instance).values(),
        f"studies/{study}/instances",
        "studies",
        "series",
        "instances",
    ]
    for path in below:
        yield f"{root}/{path}"
        if path.endswith(("studies", "series", "instances")):
            yield f"{root}/{path}?includefield=all"
            yield f"{root}/{path}?includefield=77770010"
            yield f"{root}/{path}?includefield=RetrieveAETitle,RetrieveURL"
    yield "/fhir/ImagingStudy?patient=alice&_include=ImagingStudy:endpoint"
    yield f"/fhir/ImagingStudy/{study}"
    yield "/fhir/metadata"


async def walk(site: Site, root: str, study: str) -> tuple[int, set[int | None]]:
    """Ask for everything; returns the number of answers and their statuses. Each is looked through.

    ``None`` is the status of a 200 that breaks off.
    """
    row = (await site.json("alice", f"/wado-rs/studies/{study}/instances"))[-1]
    series, instance = row["0020000E"]["Value"][0], row["00080018"]["Value"][0]
    patterns, count = secrets(site.port), 0
    statuses: set[int | None] = set()
    for path, headers in itertools.product(paths(root, study, series, instance), ACCEPTED):
        response, body, is_whole = await site.get_to_break("alice", path, headers)
        lines = b"\n".join(name + b": " + value for name, value in response.raw_headers)
        for pattern in patterns:
            assert not pattern.search(lines), (path, pattern.pattern)
            assert not pattern.search(body), (path, pattern.pattern)
        if is_whole and response.status == 200 and response.content_type == "multipart/related":
            for part, _ in parts_of(response.headers["Content-Type"], body):
                assert part.get("content-location", PUBLIC_URL).startswith(PUBLIC_URL)
        statuses.add(response.status if is_whole else None)
        count += 1
    return count, statuses


@pytest.mark.parametrize(
    ("mode", "bulkdata_uris", "pixel_data_uri", "root"),
    [
        ("measured", "absolute", "instance", ROOTS[0]),
        ("measured", "path", "frames", ROOTS[1]),
        ("documented", "relative", "bulkdata", ROOTS[0]),
        pytest.param("documented", "absolute", "instance", ROOTS[1], marks=pytest.mark.exhaustive),
        pytest.param("measured", "absolute", "instance", ROOTS[1], marks=pytest.mark.exhaustive),
        pytest.param("documented", "absolute", "instance", ROOTS[0], marks=pytest.mark.exhaustive),
        pytest.param("measured", "path", "frames", ROOTS[0], marks=pytest.mark.exhaustive),
        pytest.param("documented", "relative", "bulkdata", ROOTS[1], marks=pytest.mark.exhaustive),
    ],
)
async def test_nothing_of_the_archive_reaches_the_client(
    many: Path, mode: Mode, bulkdata_uris: str, pixel_data_uri: str, root: str
) -> None:
    behaviour = Behaviour(mode, bulkdata_uris=bulkdata_uris, pixel_data_uri=pixel_data_uri)  # type: ignore[arg-type]
    async with site_with(many, behaviour, PATIENTS, fhir={"detail": "instance"}) as site:
        count, statuses = await walk(site, root, MANY[0])
        assert count > 125
        assert statuses == {200, 404, 406, 502 if mode == "documented" else None}
        # The archive did say it all.
        base = f"http://{ARCHIVE_HOST}:{site.port}/dcm4chee-arc/aets/DCM4CHEE/rs/studies/{MANY[0]}"
        said = b""
        for path, headers in (("/metadata", {}), ("", STORED), ("/series?includefield=all", {})):
            async with site.client.get(base + path, headers=headers) as response:
                said += await response.read()
        for word in (f":{site.port}", "/aets/", "00080054", "777710", CREATOR, SECRET):
            assert word.encode() in said, word


@pytest.mark.parametrize(
    ("mode", "study", "root"),
    [
        ("measured", LARGE, ROOTS[0]),
        ("documented", COMPRESSED, ROOTS[1]),
        pytest.param("measured", COMPRESSED, ROOTS[1], marks=pytest.mark.exhaustive),
        pytest.param("documented", LARGE, ROOTS[1], marks=pytest.mark.exhaustive),
        pytest.param("measured", LARGE, ROOTS[1], marks=pytest.mark.exhaustive),
        pytest.param("measured", COMPRESSED, ROOTS[0], marks=pytest.mark.exhaustive),
        pytest.param("documented", LARGE, ROOTS[0], marks=pytest.mark.exhaustive),
        pytest.param("documented", COMPRESSED, ROOTS[0], marks=pytest.mark.exhaustive),
    ],
)
async def test_nor_when_it_fails(many: Path, mode: Mode, study: str, root: str) -> None:
    """Errors, redirects, what is partial or breaks off, and what it refuses."""
    behaviour = Behaviour(mode, redirects={COMPRESSED: "http://other.internal/rs"})
    async with site_with(many, behaviour, PATIENTS) as site:
        row = (await site.json("alice", f"/wado-rs/studies/{LARGE}/instances"))[0]
        behaviour.not_accessible.add(row["00080018"]["Value"][0])
        _, statuses = await walk(site, root, study)
        assert 502 in statuses
        assert (None in statuses) is (mode == "measured" and study == LARGE)
        behaviour.query_maximum = 1
        _, body = await site.get("alice", "/wado-rs/studies")
        assert not any(pattern.search(body) for pattern in secrets(site.port))
