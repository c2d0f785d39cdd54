"""The patient and the UIDs of an instance, read from a DICOM file as it goes by, in any split.

A walk over the data elements (PS3.5 section 7) takes some microseconds an instance. It refuses what
two readers could read differently: two values of one element, sequences whose items overrun, file
meta that does not add up. It never guesses a patient. docs/files.md has the rules,
tests/dicom/file_kinds.py a file for each.
"""

import re
import zlib
from collections.abc import Iterator

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.dataset_walker import Walk
from sidecar.dicom.element import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NeedMore,
    TwoReadings,
    Unreadable,
    looks_like_a_vr,
)
from sidecar.dicom.file_meta import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    MAXIMUM_META_BYTES,
    read_file_meta,
)
from sidecar.dicom.header_cache import FileMeta, HeaderPatternCache
from sidecar.dicom.header_pattern import header_pattern
from sidecar.dicom.header_values import PATIENT_ID, UIDS, WANTED, read_values
from sidecar.dicom.uid import MAXIMUM_LENGTH

INFLATE_BYTES = 2**13
"""Limit in bytes of the output of one step of inflating."""
STEP_BYTES = 2**13
"""Limit in bytes of the input of a step of ``HeaderReader.steps``: 1,024 empty items at most."""
_CHECKSUM_BYTES = 8
_META_BYTES = 4_096

# A number without a point may be a PatientID.
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)+")


class HeaderReader:
    """Reads one instance.

    ``steps`` takes its bytes in order, and ``header`` is set as soon as it is known. A megabyte of
    nested items is 130,000 elements, and a deflated megabyte may become a thousand megabytes. So
    ``steps`` and ``feed_some`` work for some milliseconds at a time. ``patterns`` are those of the
    instance's stream.
    """

    _wanted = WANTED

    def __init__(self, patterns: HeaderPatternCache | None = None) -> None:
        self._patterns = patterns
        self.header: InstanceHeader | None = None
        self._inflate: zlib._Decompress | None = None
        self._encoding = EXPLICIT_LITTLE
        self._walk: Walk | None = None
        self._meta = b""
        self._trailing = b""
        self._compressed = b""  # Input that has not been inflated yet.
        self._is_full = False  # Whether zlib may have more without more input.

    @property
    def elements(self) -> int:
        """Number of elements that the walk has passed."""
        return 0 if self._walk is None else self._walk.elements

    @property
    def has_more(self) -> bool:
        """Whether ``feed_some`` must be called again, without new bytes."""
        return self._is_full or bool(self._compressed)

    def steps(self, data: bytes | memoryview) -> Iterator[None]:
        """Take the next bytes, some at a time. Raises as ``feed_some`` does."""
        view = memoryview(data)
        while view := view[self.pass_over(len(view)) :]:
            self.feed_some(view[:STEP_BYTES])
            view = view[STEP_BYTES:]
            yield
            while self.has_more:
                self.feed_some(b"")
                yield

    def feed_some(self, data: bytes | memoryview) -> InstanceHeader | None:
        """Take the next bytes, and inflate at most ``INFLATE_BYTES``: see ``has_more``.

        Return the header if it is known. Raises ``Unreadable``, also when another value of an
        element of the header comes behind it.
        """
        try:
            return self._feed(data)
        except Unreadable as failure:
            failure.uids = self._uids()
            raise

    def _uids(self) -> dict[str, str]:
        """Return the UIDs that are known, without what may be a PatientID."""
        values = self._walk.values if self._walk is not None else {}
        uids = {level: values.get(tag, b"").strip(b" \0") for level, tag in UIDS.items()}
        patient_id = values.get(PATIENT_ID, b"").strip(b" \0")
        return {
            level: uid.decode("ascii")
            for level, uid in uids.items()
            if len(uid) <= MAXIMUM_LENGTH and _UID.fullmatch(uid) and uid != patient_id
        }

    def _feed(self, data: bytes | memoryview) -> InstanceHeader | None:
        rest = memoryview(data)
        if self._walk is None and not self._meta:
            rest = self._feed_first(rest)
        while self._walk is None:
            self._meta += rest[:_META_BYTES]
            rest = rest[_META_BYTES:]
            try:
                meta = self._read_meta(self._meta)
            except NeedMore:
                if len(self._meta) > MAXIMUM_META_BYTES:
                    raise Unreadable("meta_length") from None
                if not rest:
                    return None
                continue
            data_set, self._meta = memoryview(self._meta)[meta.end :], b""
            self._pass_on(data_set)
        self._pass_on(rest)
        return self._look()

    def pass_over(self, size: int) -> int:
        """Take up to ``size`` of the next bytes unread; return how many.

        Such bytes are inside a value behind the header.
        """
        if self._inflate is not None or self.header is None or self._walk is None:
            return 0
        return self._walk.pass_over(size)

    def _feed_first(self, data: memoryview) -> memoryview:
        """Take the first bytes, unless the file meta is not whole in them; return what is left."""
        patterns = self._patterns
        header = patterns.header(data) if patterns is not None else None
        if header is not None:
            walk = self._begin(header.meta, data)
            walk.begin_behind(header.run, data[header.meta.end :])
            return data[:0]
        try:
            meta = self._read_meta(data)
        except NeedMore:
            return data
        self._pass_on(data[meta.end :])
        if patterns is None or not patterns.has_room_for_header or not meta.places:
            return data[:0]
        if self._inflate is None and self._look():
            pattern = header_pattern(data, meta, self._encoding, self._wanted)
            if pattern is not None:
                patterns.learn_header(pattern)
        return data[:0]

    def end(self) -> InstanceHeader:
        """Return the header when no more bytes come.

        Raises ``Unreadable`` when the header, or one of its values, did not come whole.
        """
        while self.has_more:
            self.feed_some(b"")
        try:
            walk = self._walk
            if walk is None or not walk.may_be_cut():
                raise Unreadable("cut_short")
            if self.header is None and not walk.is_between_elements():
                raise Unreadable("cut_short")
            self.header = self.header or read_values(walk.values)
        except Unreadable as failure:
            failure.uids = self._uids()
            raise
        return self.header

    def _look(self) -> InstanceHeader | None:
        if self.header is None and self._walk is not None and self._walk.is_past_wanted:
            self.header = read_values(self._walk.values)
        return self.header

    def _pass_on(self, data: memoryview) -> None:
        assert self._walk is not None  # noqa: S101
        if self._inflate is None:
            self._walk.feed(data)
            return
        compressed = self._compressed + data
        if not self._inflate.eof:
            try:
                inflated = self._inflate.decompress(compressed, INFLATE_BYTES)
            except zlib.error:
                raise Unreadable("deflated_data") from None
            self._compressed = self._inflate.unconsumed_tail
            # After a full output zlib may have more of the input that it has taken.
            self._is_full = len(inflated) == INFLATE_BYTES and not self._inflate.eof
            self._walk.feed(memoryview(inflated))
            if not self._inflate.eof:
                return
            compressed = self._inflate.unused_data
        self._compressed = b""
        self._check_behind(compressed)

    def _check_behind(self, data: bytes | memoryview) -> None:
        """Check what stands behind a deflated data set: padding (PS3.5 A.5) or a checksum.

        Raises ``TwoReadings`` for more than a checksum. An image would not fit into so few bytes.
        """
        self._trailing += bytes(data).strip(b"\0")
        if len(self._trailing) > _CHECKSUM_BYTES:
            raise TwoReadings("data_behind_end")

    def _read_meta(self, data: bytes | memoryview) -> FileMeta:
        """Read the File Meta Information (PS3.10 7.1) and begin the walk behind it."""
        patterns = self._patterns
        meta = patterns.meta(data) if patterns is not None else None
        if meta is None:
            meta = read_file_meta(data)
            if patterns is not None and meta.places:
                patterns.learn_meta(meta)
        if len(data) < meta.end + 8:
            raise NeedMore
        self._begin(meta, data)
        return meta

    def _begin(self, meta: FileMeta, data: bytes | memoryview) -> Walk:
        self._encoding = EXPLICIT_BIG if meta.syntax == BIG_ENDIAN else EXPLICIT_LITTLE
        if meta.syntax in DEFLATED:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        elif meta.syntax == IMPLICIT:
            self._encoding = IMPLICIT_LITTLE
            # Some readers take such bytes for a VR, whatever the transfer syntax.
            if looks_like_a_vr(bytes(data[meta.end + 4 : meta.end + 6])):
                raise Unreadable("implicit_looks_explicit")
        self._walk = Walk(self._encoding, self._wanted, self._patterns)
        return self._walk


def read_known(
    patterns: HeaderPatternCache, data: bytes, begin: int, size: int
) -> InstanceHeader | None:
    """Return the header of the instance of ``size`` bytes at ``begin``.

    ``None`` unless its elements are where those of an instance before were, up to its end: then
    no walk over it is needed.
    """
    known = patterns.whole(data, begin, size)
    if known is None:
        return None
    run = known.run
    values = run.values.unpack_from(data, begin + known.meta.end)
    try:
        return read_values(dict(zip(run.tags, values, strict=True)))
    except Unreadable:
        return None  # The reader refuses it, too, by its UIDs.
