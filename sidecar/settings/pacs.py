"""The settings of the archive (``pacs``)."""

from typing import Literal

from sidecar.settings.section import Section
from sidecar.settings.types import CertificatesFile, Url, Wildcards
from sidecar.settings.upstream_auth import NoAuth, UpstreamAuth


class Pacs(Section):
    """The archive's DICOMweb service."""

    url: Url
    """DICOMweb root, for instance http://orthanc:8042/dicom-web."""
    dialect: Literal["generic", "orthanc", "dcm4chee"] = "generic"
    """The product, which decides how the archive is asked."""
    auth: UpstreamAuth = NoAuth(method="none")
    """How we authenticate at the PACS."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for the PACS. null: the system's."""
    changes_url: Url | None = None
    """orthanc: its REST root, for instance http://orthanc:8042.

    What /changes names there is no longer remembered. null: off.
    """
    generated_issuers: tuple[Wildcards, ...] = ()
    """Issuers of patient IDs that the archive makes up itself, for instance `DCM4CHEE.*` (`*`
    and `?` are wildcards). They count as no issuer. Only for an archive whose patient IDs are
    unique.
    """
    verify_instances: bool = True
    """Check the patient in each instance before it leaves."""

    def __post_init__(self) -> None:
        if self.changes_url is not None and self.dialect != "orthanc":
            raise ValueError("changes_url is for dialect orthanc")
