"""dcm4chee's metadata on its way out: its notes dropped, its pixel data where it can be fetched."""

from typing import Any

import pytest

from sidecar.access.facts import Part
from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.rewrite import public_attributes, rewrite_row
from tests.dcm4chee.attributes import CREATOR, notes
from tests.dcm4chee.behaviour import ROOT as PATH

ROOT = "https://imaging.example.org/wado-rs"
INSTANCE = "studies/1.2/series/1.3/instances/1.4"
URIS = BulkDataUris(ROOT, Part("1.2", "1.3", "1.4"))


def pixel_data(uri: str, tag: str = "7FE00010") -> dict[str, Any]:
    return rewrite_row({tag: {"vr": "OW", "BulkDataURI": uri}}, ROOT, uris=URIS)


@pytest.mark.parametrize("host", ["http://pacs.internal:8080", ""])
def test_pixel_data_whose_uri_is_the_instance_becomes_its_pixel_data(host: str) -> None:
    """dcm4chee answers its instance's URL with DICOM or with pixels, as the Accept header says;
    ours are two URLs.
    """
    found = pixel_data(f"{host}{PATH}/{INSTANCE}")
    assert found == {"7FE00010": {"vr": "OW", "BulkDataURI": f"{ROOT}/{INSTANCE}/pixeldata"}}


def test_the_archives_notes_are_no_metadata() -> None:
    """At any level; the instance's own private attributes stay, in that group, too."""
    vendors = {
        "00091001": {"vr": "LO", "Value": ["x"]},
        "00090010": {"vr": "LO", "Value": ["VENDOR"]},
        "77770011": {"vr": "LO", "Value": ["VENDOR"]},
        "77771101": {"vr": "LO", "Value": ["y"]},
    }
    item = {"vr": "SQ", "Value": [{**notes(), **vendors}]}
    row = {"00081110": item, **vendors, **notes()}
    assert rewrite_row(row, ROOT) == {"00081110": {"vr": "SQ", "Value": [vendors]}, **vendors}


def test_the_archives_notes_are_known_whatever_their_case_and_padding() -> None:
    row = {
        "77770010": {"vr": "LO", "Value": [CREATOR + " "]},
        "777710ab": {"vr": "LO", "Value": ["secret"]},
    }
    assert rewrite_row(row, ROOT) == {}


def test_a_query_row_names_no_application_entity() -> None:
    """RetrieveAETitle is the archive's address in the other protocol."""
    assert public_attributes(
        {"00080054": {"vr": "AE", "Value": ["DCM4CHEE"]}, "00080056": {"vr": "CS"}}
    ) == {"00080056": {"vr": "CS"}}
