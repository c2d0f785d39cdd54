"""The check of each instance and each metadata row before it leaves (SIA-42, 43).

``scanner_for`` chooses the scanner of a retrieval's body; ``pacs.response.scan`` feeds it.
"""

from sidecar.access.decision import decide_instance
from sidecar.access.facts import InstanceHeader, PatientIdentifier
from sidecar.access.permits import StudyPermit
from sidecar.access.reasons import Reason
from sidecar.dicomweb.body_filter import Check, PassThrough, Scanner, SingleInstance
from sidecar.dicomweb.metadata import Metadata
from sidecar.dicomweb.multipart import Multipart
from sidecar.dicomweb.paths import OBJECTS, Kind, Retrieval
from sidecar.dicomweb.response_head import ResponseHead
from sidecar.dicomweb.single_part import SinglePart
from sidecar.dicomweb.zip_archive import ZipArchive


class ForeignInstance(Exception):
    """The PACS sent an instance or a row that is not the permitted patient's.

    ``what`` is ``instance`` or ``metadata``.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class ExcludedInstance(Exception):
    """The PACS sent an instance or a row of the patient's that is not shown (SIA-43)."""


def scanner_for(
    head: ResponseHead,
    resource: Retrieval,
    permit: StudyPermit,
    *,
    root: str,
    verify: bool,
    row_bytes: int,
    unwrap: bool = False,
    zipped: bool = False,
) -> Scanner:
    """Return the scanner of the body of an answer with this head.

    ``unwrap``: a multipart's only part leaves without the multipart. ``zipped``: the parts leave as
    the files of a ZIP. Without ``verify``, instances are not checked (``pacs.verify_instances``).
    ``row_bytes`` is the limit of a metadata row.
    """
    kind = resource.kind
    if kind is Kind.METADATA:
        return Metadata(instance_check(permit, "metadata"), root, row_bytes=row_bytes)
    check = instance_check(permit, "instance") if verify and kind in OBJECTS else None
    if head.boundary is not None:
        if zipped:
            return ZipArchive(head.boundary, kind, root, check)
        one_part = kind is Kind.INSTANCE or len(resource.frames) == 1
        return (SinglePart if unwrap else Multipart)(
            head.boundary, kind, root, check, one_part=one_part
        )
    return PassThrough() if check is None else SingleInstance(check)


def instance_check(permit: StudyPermit, what: str) -> Check:
    """Return the check of the instances, or rows, of a retrieval. ``what``: for the refusal."""
    permitted: tuple[PatientIdentifier, str, str] | None = None

    def check(header: InstanceHeader) -> None:
        nonlocal permitted
        facts = header.patient, header.study, header.series
        # Most instances have the facts of the one before; any instance of that series may pass.
        if facts == permitted and permit.part.instance is None:
            return
        refusal = decide_instance(permit, header)
        if refusal is not None:
            raise ExcludedInstance if refusal.reason is Reason.NOT_SHOWN else ForeignInstance(what)
        permitted = facts

    return check
