"""Each kind of file as our walk, pydicom and dcmdump read it: what passes names one patient to all
(SIA-42).
"""

import io
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import InstanceHeader
from sidecar.dicom import dataset_walker
from sidecar.dicom.dataset_walker import LIMIT_BYTES
from sidecar.dicom.element import Unreadable
from sidecar.dicom.header_cache import HeaderPatternCache
from sidecar.dicom.instance_header import HeaderReader
from tests.dicom.encodings import SEQUENCE_END, explicit, implicit, item
from tests.dicom.file_kinds import (
    EVIL,
    ICON,
    ISSUER,
    OWN,
    PATIENT_ID,
    SERIES,
    STUDY,
    File,
    Kind,
    Names,
    behind,
    implicit_behind,
    sequence,
)
from tests.tables.file_kinds import KINDS, NAMES

PASSING = [name for name, kind in KINDS.items() if not kind.rule]
REFUSED = [name for name, kind in KINDS.items() if kind.rule]
SMALL = 2**16
SIZES = {name: sum(map(len, kind.file.pieces(NAMES[name]))) for name, kind in KINDS.items()}
LARGE = {name for name, size in SIZES.items() if size > SMALL}
HUGE = "2,100,000 elements"
SEEN_BY_WITNESSES = [
    pytest.param(name, marks=pytest.mark.exhaustive) if name == HUGE else name for name in KINDS
]
# Large ones are not read in small steps, which would be the same test twice.
STEPS = [
    pytest.param(step, name, marks=pytest.mark.exhaustive if name == HUGE else ())
    for step in (1, 997, 2**20)
    for name in KINDS
    if step != 997 or name not in LARGE
]
SMALL_PASSING = [name for name in PASSING if SIZES[name] < SMALL]


def written(name: str) -> bytes:
    file = KINDS[name].file
    return file.data(file.pieces(NAMES[name]))


def read(data: bytes, step: int, patterns: HeaderPatternCache | None = None) -> InstanceHeader:
    reader = HeaderReader(patterns)
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        passed = reader.pass_over(len(piece)) if start else 0
        list(reader.steps(piece[passed:]))
    return reader.end()


def by_pydicom(data: bytes) -> str:
    """The PatientID that pydicom finds, before the pixels if it cannot read all; empty: none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for is_head in (False, True):
            try:
                image = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=is_head)
            except Exception:
                continue
            if found := str(image.get("PatientID") or "").strip(" \0"):
                return found
    return ""


def by_dcmdump(images: Iterable[bytes], directory: Path, tag: int = PATIENT_ID) -> list[str]:
    """The PatientID, or another text, that dcmdump finds in each outside of sequences; empty: none.

    One process reads all images.
    """
    name = f"{tag >> 16:04x},{tag & 0xFFFF:04x}"
    files = []
    for number, data in enumerate(images):
        files.append(directory / f"{number}.dcm")
        files[-1].write_bytes(data)
    found = subprocess.run(
        ["dcmdump", "+F", "+L", "+E", "+uc", "+p", "+P", name, *map(str, files)],
        check=False,
        capture_output=True,
        timeout=600,
    )
    _, *outputs = re.split(
        r"^# dcmdump \(\d+/\d+\): .*$", found.stdout.decode("latin-1"), flags=re.MULTILINE
    )
    assert len(outputs) == len(files)
    return [_value(output.splitlines(), name) for output in outputs]


def _value(lines: list[str], name: str) -> str:
    values = [
        line.partition("#")[0].partition(")")[2][3:].strip()
        for line in lines
        if line.startswith(f"({name})")
    ]
    (value,) = [
        value[1:-1].strip(" \0") if value.startswith("[") else value for value in values
    ] or [""]
    return "" if value == "(no value available)" else value


@pytest.mark.parametrize(("step", "name"), STEPS)
def test_it_passes_or_is_refused_by_its_rule(name: str, step: int) -> None:
    data, kind = written(name), KINDS[name]
    if name in LARGE:
        step = max(step, 2**14)
    if kind.rule:
        with pytest.raises(Unreadable) as refused:
            read(data, step)
        assert refused.value.rule in kind.rule.split(" or ")
    else:
        names = NAMES[name]
        header = read(data, step)
        assert header.patient.patient_id == OWN
        assert (header.study, header.series, header.instance) == (
            names.study,
            names.series,
            names.instance,
        )


def test_too_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As two million are; the walk over those takes seconds."""
    monkeypatch.setattr(dataset_walker, "LIMIT_ALL_ELEMENTS", 10_000)
    for count, is_refused in ((9_900, False), (10_100, True)):
        file = behind(explicit(0x0029_1010, "LO") * count)
        data = file.data(file.pieces(NAMES[HUGE]))
        if is_refused:
            with pytest.raises(Unreadable, match="too_many_elements"):
                read(data, 2**14)
        else:
            assert read(data, 2**14).patient.patient_id == OWN


@pytest.mark.parametrize("name", SEEN_BY_WITNESSES)
def test_pydicom_as_a_witness(name: str) -> None:
    assert by_pydicom(written(name)) == KINDS[name].pydicom


def test_dcmdump_as_a_witness(tmp_path: Path) -> None:
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed: apt-get install dcmtk")
    names = [name for name in KINDS if name != HUGE]
    found = dict(zip(names, by_dcmdump(map(written, names), tmp_path), strict=True))
    assert found == {name: KINDS[name].dcmdump for name in names}


@pytest.mark.exhaustive
def test_dcmdump_as_a_witness_of_many_elements(tmp_path: Path) -> None:
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed: apt-get install dcmtk")
    assert by_dcmdump([written(HUGE)], tmp_path) == [KINDS[HUGE].dcmdump]


@pytest.mark.parametrize("name", PASSING)
def test_all_who_read_what_passes_find_one_patient(name: str) -> None:
    """The table itself may not claim anything else."""
    assert (KINDS[name].pydicom, KINDS[name].dcmdump) == (OWN, OWN)


VRS = ("LO", "SH", "ST", "LT", "UN", "PN")
FOREIGN = [(PATIENT_ID, vr, EVIL) for vr in VRS] + [
    (STUDY, "UI", "9.9.9.9"),
    (SERIES, "UI", "9.9.9.9"),
]


def other(kind: Kind, tag: int, vr: str, value: str) -> bytes:
    """One more element, as this kind's are written."""
    if kind.file.write is explicit or vr != "UN":
        return kind.file.write(tag, vr, value)
    # UN says nothing where no VR is written, or has another length.
    return kind.file.write(tag, "LO", value)


@pytest.mark.parametrize("name", SMALL_PASSING)
@pytest.mark.parametrize(
    "foreign",
    [
        # SH, ST, LT and PN are written as LO is.
        pytest.param(
            one,
            id=f"{one[0]:08X} {one[1]}",
            marks=() if one[1] in ("LO", "UN", "UI") else pytest.mark.exhaustive,
        )
        for one in FOREIGN
    ],
)
def test_another_patient_anywhere_in_what_passes_is_refused(
    name: str, foreign: tuple[int, str, str]
) -> None:
    """Before, between and behind all elements, in one piece and byte by byte."""
    kind = KINDS[name]
    pieces = kind.file.pieces(NAMES[name])
    for place in range(len(pieces) + 1):
        data = kind.file.data([*pieces[:place], other(kind, *foreign), *pieces[place:]])
        for step in (7, len(data)):
            with pytest.raises(Unreadable):
                read(data, step)


def outcome(data: bytes, patterns: HeaderPatternCache | None) -> object:
    try:
        return read(data, len(data), patterns)
    except Unreadable as refused:
        return refused.rule


@pytest.mark.parametrize("name", SMALL_PASSING)
def test_one_of_two_values_is_another_in_the_next_instance(name: str) -> None:
    """What was learnt from an instance with the same value twice lets nothing pass that differs
    (header_cache.py).
    """
    kind, pieces = KINDS[name], KINDS[name].file.pieces(NAMES[name])
    own, evil = OWN.encode(), b"e9"
    for place, piece in enumerate(pieces):
        for found in range(len(piece)):
            if not piece.startswith(own, found):
                continue
            patterns = HeaderPatternCache()
            for _ in range(3):
                assert outcome(kind.file.data(pieces), patterns) == outcome(
                    kind.file.data(pieces), None
                )
            damaged = piece[:found] + evil + piece[found + len(own) :]
            data = kind.file.data([*pieces[:place], damaged, *pieces[place + 1 :]])
            came = outcome(data, patterns)
            assert came == outcome(data, None)
            if isinstance(came, InstanceHeader):
                assert came.patient.patient_id == by_pydicom(data)
            else:
                assert came == "patient_id_twice"


VALUE = b"a value that has no item"
EARLY = (SEQUENCE_END + implicit(ISSUER, "LO", EVIL)).ljust(len(VALUE), b"\0")
SHORT = len(ICON) - 24


@pytest.mark.parametrize(
    ("file", "other", "rule"),
    [
        (
            implicit_behind(implicit(0x0029_1041, "LO", VALUE)),
            implicit_behind(implicit(0x0029_1041, "LO", EARLY)),
            "no_item_in_sequence",
        ),
        (
            behind(explicit(0x0029_1041, "UN", VALUE)),
            behind(explicit(0x0029_1041, "UN", EARLY)),
            "no_item_in_sequence",
        ),
        (
            behind(sequence(0x0088_0200, item(ICON, SHORT), SHORT + 32)),
            behind(
                sequence(
                    0x0088_0200, item(ICON[:-24] + SEQUENCE_END + bytes(16), SHORT), SHORT + 32
                )
            ),
            "element_overruns_item",
        ),
    ],
    ids=["implicit", "UN", "icon"],
)
def test_values_that_are_looked_into_are_so_in_each_instance(
    file: File, other: File, rule: str
) -> None:
    """Whatever the instances before had there (header_pattern.py, header_cache.py)."""
    names, patterns = Names(999), HeaderPatternCache()
    for _ in range(3):
        assert isinstance(outcome(file.data(file.pieces(names)), patterns), InstanceHeader)
    assert outcome(other.data(other.pieces(names)), patterns) == rule


@pytest.mark.parametrize(
    "name", [name for name in KINDS if "delimiter" in name and "header" in name]
)
def test_dcmdump_finds_another_issuer_behind_an_early_delimiter(name: str, tmp_path: Path) -> None:
    """Behind the header, where it would not take another PatientID."""
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed: apt-get install dcmtk")
    assert by_dcmdump([written(name)], tmp_path, ISSUER) == [EVIL]


changes = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4)), max_size=3)


@given(name=st.sampled_from(SMALL_PASSING), changes=changes, known=st.sampled_from(SMALL_PASSING))
def test_damaged_files_are_read_alike_whatever_came_before(
    name: str, changes: list[tuple[float, bytes, int]], known: str
) -> None:
    patterns = HeaderPatternCache()
    for one in (name, known):
        read(written(one), SMALL, patterns)
    data = written(name)
    for where, what, without in changes:
        position = int(where * len(data))
        data = data[:position] + what + data[position + without :]
    assert outcome(data, patterns) == outcome(data, None)


def test_what_is_held_before_the_patient_is_known_is_bounded() -> None:
    data, reader = written("over 4 MiB of private data first"), HeaderReader()
    held = LIMIT_BYTES + SMALL - LIMIT_BYTES % SMALL
    for start in range(0, held - SMALL, SMALL):
        list(reader.steps(data[start : start + SMALL]))
    with pytest.raises(Unreadable):
        list(reader.steps(data[held - SMALL : held + SMALL]))


def test_a_refusal_names_the_place_and_no_patient() -> None:
    """UIDs as far as they had come, and only what is a UID."""
    with pytest.raises(Unreadable) as refused:
        read(written("VR ?? behind the header"), SMALL)
    names = NAMES["VR ?? behind the header"]
    assert refused.value.uids == {
        "study": names.study,
        "series": names.series,
        "instance": names.instance,
    }
    with pytest.raises(Unreadable) as refused:
        read(written("PatientID twice, another one"), SMALL)
    assert refused.value.uids == {"instance": NAMES["PatientID twice, another one"].instance}


@pytest.mark.parametrize(
    "uid", ["DOE^JANE", "123456", "1.2.3.4", "1.2.a", "1..2", "1." + "2" * 127, ".1", ""]
)
def test_what_is_no_uid_or_may_be_a_patient_is_not_named(uid: str) -> None:
    """Of an instance whose PatientID is 1.2.3.4."""
    body = [(PATIENT_ID, "LO", "1.2.3.4"), (STUDY, "UI", uid), (PATIENT_ID, "LO", EVIL)]
    with pytest.raises(Unreadable) as refused:
        read(written_meta() + b"".join(explicit(*one) for one in body), SMALL)
    assert refused.value.rule == "patient_id_twice"
    assert refused.value.uids == {}


def written_meta() -> bytes:
    """A file meta alone."""
    return KINDS["explicit"].file.pieces(NAMES["explicit"])[0]
