"""Names of the files in a ZIP, of an instance's numbers and modality (PS3.3 C.7.3.1, C.7.6.1).

No text that somebody typed gets into a name: a SeriesDescription may hold a patient's name.
"""

import re
from collections.abc import Mapping

from sidecar.access.facts import InstanceHeader
from sidecar.dicom.element import Unreadable
from sidecar.dicom.element_runs import TagSelection
from sidecar.dicom.instance_header import HeaderReader
from sidecar.dicom.uid import MAXIMUM_LENGTH

_MODALITY, _SERIES_INSTANCE_UID = 0x0008_0060, 0x0020_000E
_SERIES_NUMBER, _INSTANCE_NUMBER = 0x0020_0011, 0x0020_0013
_NUMBER = re.compile(rb" *\+?([0-9]{1,9}) *\0?")

# PS3.3 C.7.3.1.1.1, with the retired terms. The attribute may have any other word, which is left
# out of a name.
MODALITIES = frozenset(
    "ANN AR AS ASMT AU BDUS BI BMD CD CF CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC"  # noqa: SIM905
    " ECG EEG EMG EOG EPS ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG"
    " MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP"
    " RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SC SD SEG SM"
    " SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC".split()
)


class NumbersReader(HeaderReader):
    """Reads the elements of an instance's file name. Another reader checks its patient."""

    _wanted = TagSelection(
        {
            _MODALITY: b"CS",
            _SERIES_INSTANCE_UID: b"UI",
            _SERIES_NUMBER: b"IS",
            _INSTANCE_NUMBER: b"IS",
        }
    )

    def read(self, data: bytes | memoryview) -> bool:
        """Take the next bytes as ``feed_some`` does. Return whether no more are needed."""
        try:
            self.feed_some(data)
        except Unreadable:
            return True
        return self._walk is not None and self._walk.is_past_wanted

    @property
    def values(self) -> Mapping[int, bytes]:
        """The values that have been read, by tag."""
        return {} if self._walk is None else self._walk.values

    def _look(self) -> InstanceHeader | None:
        return None  # The patient is not among the wanted elements.


class FileNames:
    """Names the instances of a study, each differently, also where case is ignored.

    A name is ``DICOM/<SeriesNumber>-<Modality>/<InstanceNumber>.dcm``. A folder or name that was
    used already gets ``-2``, ``-3`` … at its end.
    """

    def __init__(self) -> None:
        self._folders: dict[bytes, str] = {}
        self._used: dict[str, int] = {}

    def name(self, values: Mapping[int, bytes]) -> str:
        """Return the next instance's name by its ``values``: ASCII, less than 100 characters."""
        series = values.get(_SERIES_INSTANCE_UID, b"")[: MAXIMUM_LENGTH + 1]
        folder = self._folders.get(series)
        if folder is None:
            modality = values.get(_MODALITY, b"")[:20].decode("ascii", "replace").strip(" \0")
            base = f"DICOM/{_number(values.get(_SERIES_NUMBER, b''))}"
            folder = self._unique(f"{base}-{modality}" if modality in MODALITIES else base)
            self._folders[series] = folder
        return self._unique(f"{folder}/{_number(values.get(_INSTANCE_NUMBER, b''))}") + ".dcm"

    def _unique(self, base: str) -> str:
        count = self._used[base] = self._used.get(base, 0) + 1
        return base if count == 1 else f"{base}-{count}"


def _number(value: bytes) -> str:
    """Return an IS value with four digits at least, so that names sort as numbers do."""
    match = _NUMBER.fullmatch(value)
    return f"{int(match[1]):04d}" if match else "unnumbered"
