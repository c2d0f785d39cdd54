"""WADO-RS of the embedded archive with the real ``dicomweb-client`` and with plain requests."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from tests.data import ct_study
from tests.demo.archive.retrieval import (
    BUNDLED,
    MADE_STUDY,
    get,
    parts,
    uids_of,
)
from tests.demo.archive_server import STORED, archive_over, instance_url

EXPLICIT = f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    """By SOPInstanceUID."""
    return {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path
        for path in folder.iterdir()
    }


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
