"""The downstream's language: FHIR R4 searches, ImagingStudy, Endpoint, Bundle, OperationOutcome."""
