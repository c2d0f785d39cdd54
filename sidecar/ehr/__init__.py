"""The EHR as an upstream: discovery, our credentials, FHIR reads."""
