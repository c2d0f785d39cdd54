"""Frames, pixel data and drawn images of the demo's archive."""

import io

from dicomweb_client.web import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames

from tests.demo.archive.retrieval import (
    BUNDLED,
    MADE_STUDY,
    get,
    parts,
    uids_of,
)
from tests.demo.archive_server import instance_url


def test_frames_as_stored_and_decompressed(frames: str, client: DICOMwebClient) -> None:
    dataset = dcmread(BUNDLED / "examples_ybr_color.dcm")
    stored = list(generate_frames(dataset.PixelData, number_of_frames=30))
    as_stored = parts(get(f"{frames}/frames/30,2", 'multipart/related; type="image/jpeg"'))
    assert [content for _, content in as_stored] == [stored[29], stored[1]]
    assert [headers["content-location"] for headers, _ in as_stored] == [
        f"{frames}/frames/30",
        f"{frames}/frames/2",
    ]
    assert as_stored[0][0]["content-type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    for accept in (
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "image/jpeg",
        "image/*",
    ):
        response = get(f"{frames}/frames/2", accept)
        got = response.content if accept.startswith("image") else parts(response)[0][1]
        assert got == stored[1]
    pixels = dataset.Rows * dataset.Columns * 3
    decompressed = client.retrieve_instance_frames(*uids_of(frames), [1, 2])
    assert [len(frame) for frame in decompressed] == [pixels, pixels]
    assert decompressed[0] != decompressed[1]
    by_type = client.retrieve_instance_frames(*uids_of(frames), [2], media_types=("image/jpeg",))
    assert by_type == [stored[1]]


def test_frames_of_uncompressed_images(root: str, client: DICOMwebClient) -> None:
    url = instance_url(root, client, PatientID="4MR1")
    pixels = dcmread(BUNDLED / "MR_small.dcm").PixelData
    for accept in (
        None,
        'multipart/related; type="application/octet-stream"',
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        'multipart/related; type="*/*"',
    ):
        assert [content for _, content in parts(get(f"{url}/frames/1", accept))] == [pixels]
    assert get(f"{url}/frames/1", "application/octet-stream").content == pixels
    assert [content for _, content in parts(get(url + "/pixeldata"))] == [pixels]
    dose = instance_url(root, client, Modality="RTDOSE")
    whole = dcmread(BUNDLED / "rtdose.dcm").PixelData
    listed = ",".join(str(number) for number in range(1, 16))
    assert b"".join(content for _, content in parts(get(f"{dose}/frames/{listed}"))) == whole
    for accept in ("image/jpeg", 'multipart/related; type="image/jp2"', "text/html"):
        get(f"{url}/frames/1", accept, status=406)
    get(f"{dose}/frames/1,2", "application/octet-stream", status=406)


def test_pixel_data_of_a_study(root: str, rle: str, plan: str, frames: str) -> None:
    study = "/".join(rle.split("/")[:6])
    found = parts(get(f"{root}/studies/{MADE_STUDY}/pixeldata"))
    assert [len(content) for _, content in found] == [8 * 8 * 2] * 5
    assert len(parts(get(study + "/pixeldata"))) > 10
    assert len(parts(get(frames + "/pixeldata", 'multipart/related; type="image/jpeg"'))) == 30
    assert len(parts(get(frames + "/bulkdata/7FE00010"))) == 30
    get(plan + "/pixeldata", status=404)
    get(plan + "/bulkdata", status=404)
    get(plan + "/frames/1", status=404)


def test_drawn_images(root: str, client: DICOMwebClient, frames: str, plan: str) -> None:
    study, series, instance = uids_of(frames)
    below = f"{root}/studies/{study}"
    for url in (below, f"{below}/series/{series}", frames, f"{frames}/frames/3"):
        for accept, form in {
            None: "JPEG",
            "image/png": "PNG",
            "image/*;q=0.5, image/png": "PNG",
        }.items():
            rendered = Image.open(io.BytesIO(get(url + "/rendered", accept).content))
            assert (rendered.format, rendered.size) == (form, (320, 240))
            assert max(Image.open(io.BytesIO(get(url + "/thumbnail", accept).content)).size) == 128
    small = client.retrieve_instance_rendered(
        study, series, instance, media_types=("image/png",), params={"viewport": "32,32"}
    )
    assert Image.open(io.BytesIO(small)).size == (32, 24)
    one = client.retrieve_instance_frames_rendered(
        study, series, instance, [3], media_types=("image/png",)
    )
    assert one != client.retrieve_instance_rendered(
        study, series, instance, media_types=("image/png",)
    )
    assert (
        client.retrieve_series_rendered(study, series, media_types=("image/jpeg",))[:2]
        == b"\xff\xd8"
    )
    several = parts(get(f"{frames}/frames/1,3/rendered", 'multipart/related; type="image/png"'))
    assert [content[:4] for _, content in several] == [b"\x89PNG"] * 2
    assert several[1][1] == one
    get(f"{frames}/frames/1,3/rendered", "image/png", status=406)
    get(frames + "/rendered", status=400, window="1")
    get(frames + "/rendered", "application/dicom", status=406)
    get(plan + "/rendered", status=406)
    get(plan + "/thumbnail", status=406)


def test_the_accept_parameter_takes_the_headers_place(frames: str) -> None:
    """PS3.18 8.3.3.1."""
    response = get(frames + "/rendered?accept=image/png", "image/jpeg")
    assert response.headers["Content-Type"] == "image/png"


def test_a_series_is_drawn_by_the_image_in_its_middle(root: str, client: DICOMwebClient) -> None:
    middle = client.search_for_instances(MADE_STUDY)[2]
    url = instance_url(root, client, SOPInstanceUID=middle["00080018"]["Value"][0])
    assert get(f"{root}/studies/{MADE_STUDY}/rendered").content == get(url + "/rendered").content


def test_frames_that_are_not_there(frames: str, rle: str) -> None:
    for suffix in ("", "/rendered", "/thumbnail"):
        get(f"{frames}/frames/31{suffix}", status=404)
        get(f"{frames}/frames/1,31{suffix}", status=404)
        get(f"{rle}/frames/2{suffix}", status=404)
        for malformed in ("0", "x", "1,", "-1", "1.5"):
            get(f"{frames}/frames/{malformed}{suffix}", status=400)
