"""The extension for NumberOfFrames: FHIR R4 and R5 have no element for the frames of an instance.

Clients need it to ask for ``…/frames/1,2,3``. The definition is served at its own URL, without a
token.
"""

from typing import Any

ID = "number-of-frames"


def extension_url(fhir_base: str) -> str:
    """Return the URL of the extension, where its definition is served."""
    return f"{fhir_base}/StructureDefinition/{ID}"


def frames_extension(fhir_base: str, frames: int) -> dict[str, Any]:
    """Return the extension of an instance with this number of frames (PS3.3 C.7.6.6)."""
    return {"url": extension_url(fhir_base), "valueInteger": frames}


def structure_definition(fhir_base: str, released: str) -> dict[str, Any]:
    """Return the extension's definition (https://hl7.org/fhir/R4/defining-extensions.html)."""
    url = extension_url(fhir_base)
    return {
        "resourceType": "StructureDefinition",
        "id": ID,
        "url": url,
        "name": "NumberOfFrames",
        "title": "Number of frames of a DICOM instance",
        "status": "active",
        "date": released,
        "description": "How many frames a multi-frame instance has: DICOM NumberOfFrames "
        "(0028,0008).",
        "fhirVersion": "4.0.1",
        "kind": "complex-type",
        "abstract": False,
        "context": [{"type": "element", "expression": "ImagingStudy.series.instance"}],
        "type": "Extension",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension",
        "derivation": "constraint",
        "differential": {
            "element": [
                {"id": "Extension", "path": "Extension", "min": 0, "max": "1"},
                {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
                {"id": "Extension.url", "path": "Extension.url", "fixedUri": url},
                {
                    "id": "Extension.value[x]",
                    "path": "Extension.value[x]",
                    "min": 1,
                    "type": [{"code": "integer"}],
                },
            ]
        },
    }
