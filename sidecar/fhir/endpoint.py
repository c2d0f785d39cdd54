"""Endpoint: where a patient's images are (SIA-31, 32; https://hl7.org/fhir/R4/endpoint.html)."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

REQUIRES_ACCESS_TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token",
    "http://hl7.org/fhir/smart-app-launch/StructureDefinition/requires-access-token",
)
"""The extension of earlier texts, of August 2026 and of 2023. The guide has it no more."""
OPERATION = "$wado-rs"
CONTAINED_ID = "e"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Maker of Endpoints. ``fhir_base`` is our FHIR base URL.

    ``requires_access_token`` adds the extension of earlier texts, in both of its forms.
    """

    fhir_base: str
    contained: bool = False
    requires_access_token: bool = False

    def address(self, patient: str) -> str:
        """Return a patient's (FHIR id) DICOMweb root, to which apps append ``/studies/{uid}``."""
        return f"{self.fhir_base}/Patient/{quote(patient, safe='')}/{OPERATION}"

    def reference(self, patient: str) -> dict[str, str]:
        """Return the reference that an ImagingStudy of the patient carries."""
        return {"reference": f"#{CONTAINED_ID}" if self.contained else f"Endpoint/{patient}"}

    def resource(self, patient: str) -> dict[str, Any]:
        """Return the patient's Endpoint. Its id is the patient's, which the caller's token has."""
        return self._resource(CONTAINED_ID if self.contained else patient, self.address(patient))

    def capability(self, full_url: str, address: str, *, until: str) -> dict[str, Any]:
        """Return an Endpoint of one Bundle alone (SIA-33), which no read finds.

        ``full_url``: ``urn:uuid:``; its UUID is the id, for resources of a search have one.
        ``until``: FHIR instant (SIA-52).
        """
        resource_id = full_url.removeprefix("urn:uuid:")
        return {**self._resource(resource_id, address), "period": {"end": until}}

    def _resource(self, resource_id: str, address: str) -> dict[str, Any]:
        urls = REQUIRES_ACCESS_TOKEN if self.requires_access_token else ()
        extensions = [{"url": url, "valueBoolean": True} for url in urls]
        return {
            "resourceType": "Endpoint",
            "id": resource_id,
            **({"extension": extensions} if extensions else {}),
            "status": "active",
            "connectionType": {
                "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
                "code": "dicom-wado-rs",
            },
            "payloadType": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type",
                            "code": "any",
                        }
                    ],
                    "text": "DICOM",
                }
            ],
            "payloadMimeType": ["application/dicom"],
            "address": address,
        }
