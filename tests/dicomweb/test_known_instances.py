"""Instances that are laid out as one before pass without a walk, and are checked as all others."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.decision import decide_instance
from sidecar.access.facts import InstanceHeader, Part, PatientIdentifier
from sidecar.access.permits import ALL_SERIES, StudyPermit
from sidecar.access.reasons import Reason
from sidecar.dicom.element import Unreadable
from sidecar.dicom.header_cache import HeaderPatternCache
from sidecar.dicom.instance_header import HeaderReader
from sidecar.dicomweb.body_filter import Malformed
from sidecar.dicomweb.instance_check import ExcludedInstance, ForeignInstance, instance_check
from sidecar.dicomweb.multipart import Multipart
from tests.dicom.series import SYNTAXES, changed, changes, series
from tests.dicom_instances import SERIES, STUDY, dataset, encoded
from tests.dicomweb.bodies import BOUNDARY, CUTS, PARTS_OF, body, feed, part, split


def outcome(data: bytes, cuts: list[int]) -> tuple[list[InstanceHeader], object]:
    """Return the headers that are checked, and what leaves or why it does not."""
    headers: list[InstanceHeader] = []
    scan = Multipart(BOUNDARY, *PARTS_OF, headers.append)
    try:
        return headers, b"".join(feed(scan, chunk) for chunk in split(data, cuts)) + scan.end()
    except (Malformed, Unreadable) as error:
        return headers, (type(error), str(error), getattr(error, "uids", None))


@given(
    syntax=st.sampled_from(SYNTAXES),
    numbers=st.lists(st.integers(0, 11), min_size=1, max_size=6),
    changes=changes,
    length=st.integers(-3, 3),
    cuts=CUTS,
)
def test_an_instance_passes_as_if_it_were_the_first(
    syntax: str,
    numbers: list[int],
    changes: list[tuple[float, str, bytes]],
    length: int,
    cuts: list[int],
) -> None:
    """However it was damaged, and whatever its part says of its length."""
    *known, last = [series(syntax)[number] for number in [*numbers, numbers[0]]]
    last = changed(last, changes)
    wrong = part(last).replace(
        b"Content-Length: %d" % len(last), b"Content-Length: %d" % (len(last) + length)
    )
    data = body(*map(part, known), wrong, part(known[0]))
    with patch.object(HeaderPatternCache, "whole", return_value=None):
        expected = outcome(data, cuts)
    assert outcome(data, cuts) == expected


@given(data=st.data())
def test_every_single_byte_counts_as_before(data: st.DataObject) -> None:
    good = series(data.draw(st.sampled_from(SYNTAXES)))[data.draw(st.integers(0, 11))]
    damaged = bytearray(good)
    damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    whole = body(part(good), part(bytes(damaged)))
    with patch.object(HeaderPatternCache, "whole", return_value=None):
        expected = outcome(whole, [])
    assert outcome(whole, []) == expected


def test_a_known_instance_is_refused_by_its_uids() -> None:
    """The log names it, as it does an instance that a reader reads."""
    of_nobody = encoded(dataset(PatientID="    ", SOPInstanceUID="1.2.3.4.6"))
    known = encoded(dataset(PatientID="P-01"))
    _, refused = outcome(body(part(known), part(of_nobody)), [])
    uids = {"study": STUDY, "series": SERIES, "instance": "1.2.3.4.6"}
    assert refused == (Unreadable, "no_patient_id", uids)


def test_known_instances_need_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure here is a slow sidecar, not a wrong one."""
    readers: list[None] = []

    class Counted(HeaderReader):
        def __init__(self, patterns: HeaderPatternCache | None = None) -> None:
            super().__init__(patterns)
            readers.append(None)

    monkeypatch.setattr("sidecar.dicomweb.multipart.HeaderReader", Counted)
    pixels = dataset(BitsAllocated=8, PixelData=bytes(9_000))
    outcome(body(*[part(encoded(pixels))] * 9), [])
    assert len(readers) == 1


UIDS = st.sampled_from(["1.2", "1.3"])
PATIENTS = st.sampled_from(["OWN-1", "FOREIGN-1"]).map(PatientIdentifier)


@given(
    permitted=st.builds(Part, UIDS, st.none() | UIDS, st.none() | UIDS),
    shown=st.just(ALL_SERIES) | st.frozensets(UIDS),
    headers=st.lists(st.builds(InstanceHeader, PATIENTS, UIDS, UIDS, UIDS)),
)
def test_each_instance_is_decided_on_as_if_it_were_the_first(
    permitted: Part, shown: frozenset[str], headers: list[InstanceHeader]
) -> None:
    """Whatever has passed before it."""
    permit = StudyPermit("p1", permitted, shown, frozenset({PatientIdentifier("OWN-1")}))
    check = instance_check(permit, "instance")
    for header in headers:
        refusal = decide_instance(permit, header)
        if refusal is None:
            check(header)
        else:
            hidden = refusal.reason is Reason.NOT_SHOWN
            with pytest.raises(ExcludedInstance if hidden else ForeignInstance):
                check(header)
