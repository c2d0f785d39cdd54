"""DICOM JSON metadata as it streams: row by row checked, the archive's URLs made ours, memory
bounded.
"""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Part, PatientIdentifier
from sidecar.dicomweb.body_filter import Malformed, Scanner
from sidecar.dicomweb.instance_check import ForeignInstance, scanner_for
from sidecar.dicomweb.metadata import Metadata
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.dicomweb.response_head import ResponseHead
from tests.dicomweb.bodies import feed, feed_all, split
from tests.permits import study_permit

ROOT = "https://us/fhir/Patient/p1/$wado-rs"
STUDY, SERIES = "1.2.3", "1.2.3.4"


def row(
    number: int = 1, more: dict[str, Any] | None = None, *, patient: str = "P-1", study: str = STUDY
) -> dict[str, Any]:
    return {
        "00100020": {"vr": "LO", "Value": [patient]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [SERIES]},
        "00080018": {"vr": "UI", "Value": [f"{SERIES}.{number}"]},
    } | (more or {})


def scanner(part: Part | None = None, row_bytes: int = 2**20) -> Scanner:
    head = ResponseHead("application/dicom+json", "application/dicom+json", None, None)
    permit = study_permit("p1", part or Part(STUDY), known_as=frozenset({PatientIdentifier("P-1")}))
    return scanner_for(
        head,
        Retrieval(Kind.METADATA, permit.part),
        permit,
        root=ROOT,
        verify=True,
        row_bytes=row_bytes,
    )


def run(rows: Any, cuts: list[int], **keywords: Any) -> Any:
    scan = scanner(**keywords)
    data = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    return json.loads(b"".join(feed(scan, chunk) for chunk in split(data, cuts)) + scan.end())


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
CUTS = st.lists(st.integers(0, 2**20), max_size=30)


@given(st.lists(VALUES, min_size=1, max_size=5), CUTS)
def test_any_split_gives_the_same_rows(values: list[Any], cuts: list[int]) -> None:
    rows = [
        row(number, {"00104000": {"vr": "LT", "Value": [value]}})
        for number, value in enumerate(values)
    ]
    assert run(rows, cuts) == rows


@given(
    st.integers(0, 4),
    st.sampled_from([{"patient": "P-2"}, {"study": "1.2.4"}, {"patient": ""}]),
    CUTS,
)
def test_a_foreign_row_is_never_released(
    position: int, change: dict[str, Any], cuts: list[int]
) -> None:
    """Wherever it stands, and whatever came before it."""
    rows = [row(number) for number in range(5)]
    rows[position] = row(position, **change) | {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "FOREIGN"}]}
    }
    chunks: list[bytes] = []
    with pytest.raises(ForeignInstance):
        feed_all(scanner(), split(json.dumps(rows).encode(), cuts), chunks)
    released = b"".join(chunks)
    assert b"FOREIGN" not in released
    assert released.count(b"00080018") <= position


def test_rows_outside_the_series_or_instance_are_foreign() -> None:
    assert run([row(1)], [], part=Part(STUDY, SERIES, f"{SERIES}.1"))
    for part in (Part(STUDY, "1.2.3.5"), Part(STUDY, SERIES, f"{SERIES}.2")):
        with pytest.raises(ForeignInstance):
            run([row(1)], [], part=part)


def test_urls_are_ours() -> None:
    bulk = {
        "vr": "OW",
        "BulkDataURI": f"http://pacs:8042/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata",
    }
    relative = {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"}
    (found,) = run([row(1, {"7FE00010": bulk, "00420011": relative})], [])
    assert (
        found["7FE00010"]["BulkDataURI"]
        == f"{ROOT}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata"
    )
    assert found["00420011"]["BulkDataURI"] == (
        f"{ROOT}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata/7FE00010"
    )


@pytest.mark.parametrize("filler", [0, 200_000])
def test_what_is_left_out_is_counted(filler: int) -> None:
    """In large rows, too, and in their sequences."""
    hashed, foreign = (
        {"vr": "OW", "BulkDataURI": "../../bulkdata/6ab12.mp"},
        {"BulkDataURI": "http://elsewhere/x"},
    )
    item = {"7FE00010": hashed, "00091001": {"vr": "OB", **foreign}}
    scan = scanner()
    rows = [
        row(
            1,
            {
                "00420011": hashed,
                "00081140": {"vr": "SQ", "Value": [item]},
                "0008103E": {"vr": "LO", "Value": ["x" * filler]},
            },
        ),
        row(2),
    ]
    written = feed(scan, json.dumps(rows).encode())
    assert b"elsewhere" not in written
    assert b"6ab12" not in written
    assert isinstance(scan, Metadata)
    assert scan.dropped == {"unattributed": 2, "host": 1}


def test_no_rows_are_no_answer() -> None:
    """What is permitted is there: an empty list of a study with instances would be a silent partial
    answer (SIA-43).
    """
    with pytest.raises(Malformed, match="empty"):
        run(b" [ ] ", [1, 2])


def test_tags_are_read_in_any_case_and_once() -> None:
    small = {tag.lower(): element for tag, element in row(1).items()}
    assert run([small], []) == [row(1)]
    with pytest.raises(Malformed, match="twice"):
        run([row(1) | {"0020000d": {"vr": "UI", "Value": ["9.9.9"]}}], [])


@pytest.mark.parametrize("unit", ['{"00081140":{"vr":"SQ","Value":[', "["])
def test_nesting_costs_no_memory(unit: str) -> None:
    """A megabyte of opening brackets: refused, and nothing grows."""
    opening = b'[{"00081140":{"vr":"SQ","Value":['
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            run(opening + unit.encode() * 40_000, list(range(0, 2**20, 2**14)), row_bytes=2**22)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b"{}",
        b"[{}",
        b"[1]",
        b'["x"]',
        b"[[]]",
        b"null",
        b"<html>",
        b"[] []",
        b"[{]",
        b"[NaN]",
        json.dumps([row(1)]).encode()[:-1],
        json.dumps([row(1)]).encode() + b"x",
        b"\xff[]",
        b'[{"a": 1e999}]',
        b"[" + b"[" * 5_000 + b"]" * 5_000 + b"]",
        json.dumps([row(1)]).replace('"P-1"', '"P-1", 1' + "0" * 400).encode(),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_array_of_rows_is_malformed(data: bytes) -> None:
    """Or foreign, where it says nothing of a patient; never a success."""
    for cuts in ([], list(range(0, 12_000, 3))):
        with pytest.raises((Malformed, ForeignInstance)):
            run(data, cuts)


def test_one_row_is_bounded_and_many_rows_are_not() -> None:
    """50 MB pass through; what waits inside is one row."""
    filler = {"00104000": {"vr": "LT", "Value": ["x" * 50_000]}}
    scan = Metadata(lambda header: None, ROOT, row_bytes=200_000)
    written = json.dumps(row(1, filler)).encode()
    feed(scan, b"[")
    passed = 0
    for _ in range(1_000):
        passed += len(feed(scan, written + b","))
    assert passed > 49_000_000
    assert len(feed(scan, written + b"]") + scan.end()) > 50_000
    with pytest.raises(Malformed, match="metadata_row_too_large"):
        run(
            json.dumps([row(1, {"00104000": {"vr": "LT", "Value": ["x" * 300_000]}})]).encode(),
            list(range(0, 300_000, 10_000)),
            row_bytes=200_000,
        )


def test_a_row_of_countless_objects_is_refused() -> None:
    """Each of them costs time, and all requests wait for it."""
    with pytest.raises(Malformed, match="metadata_row_too_large"):
        run(
            b'[{"00081140":{"vr":"SQ","Value":[' + b"{}," * 600_000, [2**16, 2**18], row_bytes=2**24
        )
