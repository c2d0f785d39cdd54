"""WADO-RS of the embedded archive with the real ``dicomweb-client`` and with plain requests."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian

from sidecar.demo.samples import fill
from tests.data import ct_study
from tests.demo.archive_server import STORED, archive_over, instance_url
from tests.journey.multipart import parts_of

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
MADE_STUDY = "1.2.826.0.1.3680043.8.498.78"
EXPLICIT = f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("images")
    fill(made)
    ct_study(
        made,
        instances=5,
        series=2,
        patient_id="7",
        study_instance_uid=MADE_STUDY,
        rows=8,
        columns=8,
    )
    return made


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    """By SOPInstanceUID."""
    return {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path
        for path in folder.iterdir()
    }


@pytest.fixture(scope="module")
def root(folder: Path) -> Iterator[str]:
    with archive_over(folder) as url:
        yield url


@pytest.fixture(scope="module")
def client(root: str) -> DICOMwebClient:
    return DICOMwebClient(root)


@pytest.fixture(scope="module")
def rle(root: str, client: DICOMwebClient) -> str:
    """A color image compressed with RLE."""
    return instance_url(
        root,
        client,
        SOPInstanceUID="1.2.826.0.1.3680043.8.498.49043964482360854182530167603505525116",
    )


@pytest.fixture(scope="module")
def frames(root: str, client: DICOMwebClient) -> str:
    """30 frames in JPEG."""
    return instance_url(root, client, PatientID="204")


@pytest.fixture(scope="module")
def plan(root: str, client: DICOMwebClient) -> str:
    """A radiotherapy plan, which has no image."""
    return instance_url(root, client, Modality="RTPLAN")


def get(
    url: str, accept: str | None = None, status: int = 200, **parameters: str
) -> requests.Response:
    headers = {"Accept": accept} if accept else {}
    response = requests.get(url, headers=headers, params=parameters, timeout=60)
    assert response.status_code == status, (url, response.status_code, response.text[:200])
    return response


def parts(response: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    return parts_of(response.headers["Content-Type"], response.content)


def uids_of(url: str) -> tuple[str, str, str]:
    found = re.fullmatch(r".*/studies/([^/]+)/series/([^/]+)/instances/([^/]+)", url)
    assert found
    return found[1], found[2], found[3]


def test_every_study_comes_as_stored_byte_for_byte(
    root: str, client: DICOMwebClient, files: dict[str, Path]
) -> None:
    retrieved = set()
    for study in client.search_for_studies():
        response = get(f"{root}/studies/{study['0020000D']['Value'][0]}", STORED)
        assert re.fullmatch(
            r'multipart/related; type="application/dicom"; boundary=[0-9a-f]+',
            response.headers["Content-Type"],
        )
        for headers, content in parts(response):
            syntax = dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID
            assert headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
            assert headers["content-length"] == str(len(content))
            assert headers["content-location"].startswith(root + "/studies/")
            retrieved.add(hashlib.sha256(content).hexdigest())
    assert retrieved == {hashlib.sha256(path.read_bytes()).hexdigest() for path in files.values()}


def test_the_client_retrieves_study_series_and_instance(client: DICOMwebClient) -> None:
    study = client.retrieve_study(MADE_STUDY)
    assert len(study) == 5
    assert [int(dataset.InstanceNumber) for dataset in client.iter_study(MADE_STUDY)] == [
        1,
        2,
        3,
        1,
        2,
    ]
    series = str(study[-1].SeriesInstanceUID)
    assert len(client.retrieve_series(MADE_STUDY, series)) == 2
    instance = client.retrieve_instance(MADE_STUDY, series, str(study[-1].SOPInstanceUID))
    assert instance == study[-1]


def test_metadata_at_every_level(client: DICOMwebClient) -> None:
    of_study = client.retrieve_study_metadata(MADE_STUDY)
    assert len(of_study) == 5
    first = Dataset.from_json(of_study[0], bulk_data_uri_handler=lambda _: b"")
    of_series = client.retrieve_series_metadata(MADE_STUDY, str(first.SeriesInstanceUID))
    assert of_series == of_study[:3]
    of_instance = client.retrieve_instance_metadata(
        MADE_STUDY, str(first.SeriesInstanceUID), str(first.SOPInstanceUID)
    )
    assert of_instance == of_study[0]
    assert first.PatientName == "Doe^Jane"
    assert first.PixelSpacing == [0.75, 0.75]


def bulkdata_uris(row: dict[str, Any]) -> Iterator[str]:
    for element in row.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        elif element["vr"] == "SQ":
            for item in element.get("Value", ()):
                yield from bulkdata_uris(item)


def test_metadata_and_bulk_data_are_the_data_set(
    root: str, client: DICOMwebClient, files: dict[str, Path]
) -> None:
    """What a client puts together from both is what is stored; pixels may come decompressed."""
    for uid, path in files.items():
        url = instance_url(root, client, SOPInstanceUID=uid)
        (row,) = get(url + "/metadata", "application/dicom+json").json()
        stored = dcmread(path)
        values = {uri: parts(get(uri)) for uri in bulkdata_uris(row)}
        assert all(uri.startswith(url + "/bulkdata/") for uri in values)
        if stored.file_meta.TransferSyntaxUID.is_compressed:
            row.pop("7FE00010", None)
            stored.pop("PixelData", None)
        read = Dataset.from_json(row, bulk_data_uri_handler=lambda uri: values[uri][0][1])  # noqa: B023
        for element in stored:
            if element.keyword != "SpecificCharacterSet" and element.tag.group < 0x7FE1:
                assert read[element.tag].value == element.value, (path.name, element)
        # Only what follows the pixels is not read, such as padding.
        assert len(read) - ("SpecificCharacterSet" not in stored) == len(
            [one for one in stored if one.tag.group < 0x7FE1]
        )


def test_bulk_data_with_the_client(root: str, client: DICOMwebClient) -> None:
    """Large values in sequences, too."""
    url = instance_url(root, client, Modality="ECG")
    (row,) = get(url + "/metadata").json()
    uris = list(bulkdata_uris(row))
    assert [uri.split("/bulkdata/")[1] for uri in uris] == [
        "54000100/1/54001010",
        "54000100/2/54001010",
    ]
    ecg = dcmread(BUNDLED / "waveform_ecg.dcm")
    for uri, item in zip(uris, ecg.WaveformSequence, strict=True):
        assert client.retrieve_bulkdata(uri) == [item.WaveformData]
        alone = get(uri, "application/octet-stream")
        assert alone.headers["Content-Type"] == "application/octet-stream"
        assert alone.content == item.WaveformData
    everything = parts(get(url + "/bulkdata"))
    assert [headers["content-location"] for headers, _ in everything] == uris
    for path in (
        "54000100",
        "54000100/3/54001010",
        "54000100/0/54001010",
        "00100020",
        "00420011",
        "54000100/1",
    ):
        get(f"{url}/bulkdata/{path}", status=404)


def test_compressed_instances_are_converted_when_asked(
    root: str, rle: str, files: dict[str, Path]
) -> None:
    """PS3.18 8.7.3.5: Explicit VR Little Endian, also when nothing is said; with the same UIDs."""
    stored = dcmread(files[uids_of(rle)[2]])
    for accept in (EXPLICIT, 'multipart/related; type="application/dicom"', "*/*", None):
        ((headers, content),) = parts(get(rle, accept))
        converted = dcmread(io.BytesIO(content))
        assert converted.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (
            headers["content-type"]
            == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
        )
        assert headers["content-length"] == str(len(content))
        assert (
            converted.SOPInstanceUID
            == stored.SOPInstanceUID
            == converted.file_meta.MediaStorageSOPInstanceUID
        )
        assert (converted.pixel_array == stored.pixel_array).all()
    alone = get(rle, "application/dicom; transfer-syntax=*")
    assert alone.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.5"
    assert alone.content == files[uids_of(rle)[2]].read_bytes()
    assert alone.headers["Content-Length"] == str(len(alone.content))


def test_what_cannot_be_converted_is_406_or_stays_as_it_is(
    root: str, client: DICOMwebClient, rle: str
) -> None:
    """JPEG of twelve bits, for which there is no decoder."""
    url = instance_url(
        root, client, SOPInstanceUID="1.3.6.1.4.1.5962.1.1.8.1.5.20040826185059.5457"
    )
    get(url, EXPLICIT, status=406)
    ((headers, _),) = parts(get(url, 'multipart/related; type="application/dicom"'))
    assert headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.51"
    get(f"{url}/frames/1", 'multipart/related; type="application/octet-stream"', status=406)
    ((headers, _),) = parts(get(f"{url}/frames/1"))
    assert headers["content-type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.51"
    get(url + "/rendered", status=406)
    # There is a decoder for this one, but nothing here compresses.
    get(
        rle,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90',
        status=406,
    )


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


@pytest.mark.parametrize(
    "suffix", ["", "/metadata", "/rendered", "/thumbnail", "/bulkdata", "/pixeldata"]
)
def test_the_path_is_checked_at_every_level(root: str, frames: str, plan: str, suffix: str) -> None:
    study, series, instance = uids_of(frames)
    other_study, other_series, other_instance = uids_of(plan)
    for path in (
        "studies/1.2.3",
        f"studies/{study}/series/1.2.3",
        f"studies/{study}/series/{other_series}",
        f"studies/{other_study}/series/{series}",
        f"studies/{study}/series/{series}/instances/{other_instance}",
        f"studies/{study}/series/{other_series}/instances/{instance}",
        f"studies/{other_study}/series/{series}/instances/{instance}",
    ):
        get(f"{root}/{path}{suffix}", status=404)


def test_frames_that_are_not_there(frames: str, rle: str) -> None:
    for suffix in ("", "/rendered", "/thumbnail"):
        get(f"{frames}/frames/31{suffix}", status=404)
        get(f"{frames}/frames/1,31{suffix}", status=404)
        get(f"{rle}/frames/2{suffix}", status=404)
        for malformed in ("0", "x", "1,", "-1", "1.5"):
            get(f"{frames}/frames/{malformed}{suffix}", status=400)


def test_what_is_no_resource(root: str, frames: str) -> None:
    for path in ("", "patients", "studies/1.2.3/frames/1", "studies/1.2.3/nothing"):
        get(f"{root}/{path}", status=404)
    get(root.removesuffix("/dicom-web") + "/", status=404)
    get(f"{root}/studies/made-up", status=400)
    get(frames + "/metadata", 'multipart/related; type="application/dicom+xml"', status=406)
    get(frames, "application/zip", status=406)
    get(frames.rsplit("/instances/", 1)[0], "application/dicom", status=406)
    get(frames, "multipart/related; type", status=400)


def test_head_says_what_get_would(root: str, frames: str) -> None:
    for url, accept in {
        f"{root}/studies": None,
        f"{root}/studies/{MADE_STUDY}": STORED,
        frames: "application/dicom; transfer-syntax=*",
        frames + "/metadata": None,
        frames + "/rendered": "image/png",
    }.items():
        headers = {"Accept": accept} if accept else {}
        head = requests.head(url, headers=headers, timeout=60)
        assert head.status_code == 200
        assert head.content == b""
        whole = get(url, accept)
        assert (
            head.headers["Content-Type"].split("boundary")[0]
            == whole.headers["Content-Type"].split("boundary")[0]
        )


def test_the_archive_is_read_only(root: str, folder: Path, frames: str) -> None:
    before = sorted(folder.iterdir())
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for url in (f"{root}/studies", frames):
            assert requests.request(method, url, data=b"x", timeout=60).status_code == 405
    assert sorted(folder.iterdir()) == before


def test_a_study_that_cannot_be_read_to_its_end_does_not_look_whole(tmp_path: Path) -> None:
    """The first file that goes away is an error status; a later one resets the connection."""
    paths = ct_study(
        tmp_path, instances=3, patient_id="1", study_instance_uid=MADE_STUDY, rows=64, columns=64
    )
    with archive_over(tmp_path) as root:
        paths[2].unlink()
        with pytest.raises(requests.exceptions.RequestException):
            get(f"{root}/studies/{MADE_STUDY}", STORED)
        paths[0].unlink()
        get(f"{root}/studies/{MADE_STUDY}", STORED, status=500)
        # The archive lives on.
        get(f"{root}/studies")
