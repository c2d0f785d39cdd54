"""What dcm4chee cannot deliver whole, or not itself: an error for the client, as docs/api.md says
(SIA-43).
"""

import json
from pathlib import Path

import pytest

from tests.dcm4chee.behaviour import MODES, Behaviour, Mode
from tests.dcm4chee.site import STORED, SYSTEM_A, Site, site_with
from tests.dcm4chee.studies import COMPRESSED, LARGE, MANY, MRN, SEVERAL_FRAMES, UNDECODABLE
from tests.journey.multipart import parts_of

PATIENTS = {"alice": [(SYSTEM_A, MRN)]}
EXPLICIT = {
    "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'
}
OCTETS = {"Accept": 'multipart/related; type="application/octet-stream"'}


async def instances(site: Site, study: str) -> list[tuple[str, str]]:
    """The series and instance UIDs of a study, as the client sees them."""
    rows = await site.json("alice", f"/wado-rs/studies/{study}/instances")
    return [(row["0020000E"]["Value"][0], row["00080018"]["Value"][0]) for row in rows]


async def expect(site: Site, path: str, status: int, headers: dict[str, str] | None = None) -> None:
    """An OperationOutcome with this status, and nothing of the archive."""
    response, body = await site.get("alice", path, headers or STORED)
    assert response.status == status, (path, response.status)
    outcome = json.loads(body)
    assert outcome["resourceType"] == "OperationOutcome"
    assert not {"Warning", "Location", "ETag", "Last-Modified"} & set(response.headers)
    for word in (b"objects", b"internal", b"accessible", str(site.port).encode()):
        assert word not in body


async def expect_not_whole(site: Site, path: str, headers: dict[str, str]) -> None:
    """What a client can take for no complete answer: an error, or a connection that breaks off
    (SIA-43).
    """
    response, _, is_whole = await site.get_to_break("alice", path, headers)
    if is_whole:
        await expect(site, path, 502, headers)
    else:
        assert response.status == 200


@pytest.mark.parametrize("mode", MODES)
async def test_a_whole_study_is_whole(many: Path, mode: Mode) -> None:
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        response, body = await site.get("alice", f"/wado-rs/studies/{LARGE}", STORED)
        assert response.status == 200
        assert len(parts_of(response.headers["Content-Type"], body)) == 20


async def test_a_study_of_which_some_is_gone_is_an_error(many: Path) -> None:
    """206 is a body that looks whole and is not; what is there can be had one by one."""
    async with site_with(many, Behaviour("documented"), PATIENTS) as site:
        (series, gone), *_, (other_series, there) = await instances(site, LARGE)
        site.behaviour.not_accessible.add(gone)
        for path in ("", f"/series/{series}", "/metadata", f"/series/{series}/metadata"):
            await expect(
                site,
                f"/wado-rs/studies/{LARGE}{path}",
                502,
                STORED if "metadata" not in path else {"Accept": "*/*"},
            )
        await expect(site, f"/wado-rs/studies/{LARGE}/series/{series}/instances/{gone}", 404)
        path = f"/wado-rs/studies/{LARGE}/series/{other_series}/instances/{there}"
        assert (await site.get("alice", path, STORED))[0].status == 200


@pytest.mark.parametrize("fault", ["not_accessible", "cut"])
@pytest.mark.parametrize("at", [0, 5, 19])
async def test_a_200_without_its_closing_delimiter_is_never_whole(
    many: Path, fault: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Measured: a file that is gone or cut ends the body as if it were whole, wherever in the study
    it is.
    """
    async with site_with(many, Behaviour(), PATIENTS) as site:
        listed = await site.json("alice", f"/wado-rs/studies/{LARGE}/metadata")
        series, uid = listed[at]["0020000E"]["Value"][0], listed[at]["00080018"]["Value"][0]
        getattr(site.behaviour, fault).add(uid)
        study = f"/wado-rs/studies/{LARGE}"
        for path in (study, f"{study}/series/{series}"):
            for headers in (STORED, {"Accept": "application/zip"}, EXPLICIT):
                await expect_not_whole(site, path, headers)
        # The log says of which instance there was no more.
        broken = [one for one in caplog.records if getattr(one, "position", None) is not None]
        assert {one.__dict__["position"] for one in broken if one.__dict__["kind"] == "study"} == {
            at + 1
        }
        if fault == "not_accessible":
            for path in (f"{study}/metadata", f"{study}/series/{series}/metadata"):
                await expect_not_whole(site, path, {"Accept": "*/*"})
            await expect_not_whole(site, f"{study}/bulkdata", OCTETS)
            await expect_not_whole(
                site, f"{study}/rendered", {"Accept": 'multipart/related; type="image/png"'}
            )
        for headers in (STORED, {"Accept": "application/dicom; transfer-syntax=*"}):
            await expect(site, f"{study}/series/{series}/instances/{uid}", 502, headers)
        others = [row for row in listed if row["0020000E"]["Value"][0] != series]
        response, body = await site.get(
            "alice", f"{study}/series/{others[0]['0020000E']['Value'][0]}", STORED
        )
        assert (response.status, len(parts_of(response.headers["Content-Type"], body))) == (
            200,
            len(others),
        )


@pytest.mark.parametrize(("mode", "status"), [("measured", 502), ("documented", 404)])
async def test_a_study_of_which_all_is_gone_is_not_delivered(
    many: Path, mode: Mode, status: int
) -> None:
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        site.behaviour.not_accessible |= {
            instance for _, instance in await instances(site, MANY[0])
        }
        await expect(site, f"/wado-rs/studies/{MANY[0]}", status)


@pytest.mark.parametrize(("mode", "status"), [("measured", 502), ("documented", 406)])
async def test_instances_that_are_not_acceptable(many: Path, mode: Mode, status: int) -> None:
    """Some of a study, or all that was asked for: an error; in its own transfer syntax it can be
    had.
    """
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        await expect_not_whole(site, f"/wado-rs/studies/{COMPRESSED}", EXPLICIT)
        path = f"/wado-rs/studies/{COMPRESSED}/series/{COMPRESSED}.9/instances/{UNDECODABLE}"
        await expect(site, path, status, EXPLICIT)
        await expect(
            site, path, status, {"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"}
        )
        response, _ = await site.get(
            "alice", path, {"Accept": "application/dicom; transfer-syntax=*"}
        )
        assert (response.status, response.headers["Content-Type"]) == (200, "application/dicom")
        response, body = await site.get("alice", f"/wado-rs/studies/{COMPRESSED}", STORED)
        assert response.status == 200
        assert len(parts_of(response.headers["Content-Type"], body)) == 2


async def test_a_study_that_another_archive_has(many: Path) -> None:
    """The redirect is not followed, and where it leads is not passed on."""
    other = Behaviour()
    async with site_with(many, other, PATIENTS) as site:
        other.redirects[LARGE] = f"http://127.0.0.1:{site.port}/internal/studies/{LARGE}"
        await expect(site, f"/wado-rs/studies/{LARGE}", 502)
        assert not [one for one in other.asked if "/internal/" in one.target]


@pytest.mark.parametrize("mode", MODES)
async def test_frames_that_are_not_there(many: Path, mode: Mode) -> None:
    """Some of those that were asked for: no whole answer; none: 404."""
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        ((series, instance),) = await instances(site, MANY[0])
        path = f"/wado-rs/studies/{MANY[0]}/series/{series}/instances/{instance}/frames"
        assert (await site.get("alice", f"{path}/1", OCTETS))[0].status == 200
        await expect_not_whole(site, f"{path}/1,2", OCTETS)
        await expect(site, f"{path}/2", 404, OCTETS)
        # Its 206 is no answer to a range, though one was asked for.
        await expect_not_whole(site, f"{path}/1,2", OCTETS | {"Range": "bytes=0-9"})


async def test_what_the_client_has_already(many: Path) -> None:
    """The archive's 304; of somebody else's study not even that."""
    async with site_with(many, Behaviour(), PATIENTS | {"bob": [(SYSTEM_A, "0815")]}) as site:
        path = f"/wado-rs/studies/{MANY[0]}"
        response, _ = await site.get("alice", path, STORED)
        condition = {"If-None-Match": response.headers["ETag"]}
        again, body = await site.get("alice", path, STORED | condition)
        assert (again.status, body) == (304, b"")
        assert (await site.get("bob", path, STORED | condition))[0].status == 404


@pytest.mark.parametrize("mode", MODES)
async def test_rejected_instances_never_show(many: Path, mode: Mode) -> None:
    behaviour = Behaviour(mode, rejected=frozenset({UNDECODABLE}))
    async with site_with(many, behaviour, PATIENTS, fhir={"detail": "instance"}) as site:
        below = f"/wado-rs/studies/{COMPRESSED}"
        found = b""
        for path in (
            "/fhir/ImagingStudy?patient=alice",
            "/wado-rs/instances",
            f"{below}/instances",
            f"{below}/metadata",
        ):
            response, body = await site.get("alice", path)
            assert response.status == 200
            found += body
        assert COMPRESSED.encode() in found
        assert UNDECODABLE.encode() not in found
        response, body = await site.get("alice", below, STORED)
        assert len(parts_of(response.headers["Content-Type"], body)) == 1
        for form in ("", "/metadata", "/frames/1", "/rendered", "/pixeldata"):
            await expect(
                site,
                f"{below}/series/{COMPRESSED}.9/instances/{UNDECODABLE}{form}",
                404,
                {"Accept": "*/*"},
            )


@pytest.mark.parametrize("uri", ["instance", "frames", "bulkdata"])
@pytest.mark.parametrize("uris", ["absolute", "path", "relative"])
async def test_pixel_data_that_metadata_point_to_can_be_fetched(
    many: Path, uris: str, uri: str
) -> None:
    """As bulk data, whichever way dcm4chee writes it."""
    behaviour = Behaviour(bulkdata_uris=uris, pixel_data_uri=uri)  # type: ignore[arg-type]
    async with site_with(many, behaviour, PATIENTS) as site:
        ((series, instance),) = await instances(site, MANY[0])
        path = f"/wado-rs/studies/{MANY[0]}/series/{series}/instances/{instance}/metadata"
        (row,) = await site.json("alice", path)
        url = row["7FE00010"]["BulkDataURI"]
        response, body = await site.get(
            "alice", url.removeprefix("http://sidecar.example.org"), OCTETS
        )
        assert response.status == 200
        ((_, pixels),) = parts_of(response.headers["Content-Type"], body)
        assert len(pixels) == 16 * 16 * 2


@pytest.mark.parametrize("mode", MODES)
async def test_drawn_images(many: Path, mode: Mode) -> None:
    """Of one image alone; of several dcm4chee has a multipart only, for those who ask for one."""
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        png = {"Accept": "image/png"}
        series, instance = (await instances(site, LARGE))[0]
        below = f"/wado-rs/studies/{LARGE}/series/{series}/instances/{instance}"
        drawn = [
            f"{below}/rendered",
            f"{below}/frames/1/rendered",
            f"{below}/thumbnail",
            f"/wado-rs/studies/{LARGE}/thumbnail",
            f"/wado-rs/studies/{MANY[0]}/rendered",
        ]
        for path in drawn:
            response, body = await site.get("alice", path, png)
            assert (response.status, body[:4]) == (200, b"\x89PNG"), path
        ((series, instance),) = await instances(site, SEVERAL_FRAMES)
        frames = f"/wado-rs/studies/{SEVERAL_FRAMES}/series/{series}/instances/{instance}/rendered"
        for accept in ("*/*", "image/*", "image/gif", "image/png, */*;q=0.1"):
            response, body = await site.get("alice", frames, {"Accept": accept})
            assert response.status == 200, accept
            assert body.startswith(
                b"GIF8" if mode == "measured" else (b"GIF8", b"\xff\xd8", b"\x89PNG")
            )
        several = f"/wado-rs/studies/{LARGE}/rendered"
        await expect(site, several, 406, png)
        response, body = await site.get(
            "alice", several, {"Accept": 'multipart/related; type="image/png"'}
        )
        parts = parts_of(response.headers["Content-Type"], body)
        assert len(parts) == len(await instances(site, LARGE))
        assert all(content[:4] == b"\x89PNG" for _, content in parts)
        await expect(
            site,
            f"/wado-rs/studies/{LARGE}/thumbnail",
            406,
            {"Accept": 'multipart/related; type="image/png"'},
        )
