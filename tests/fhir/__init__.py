"""Tests of ``sidecar/fhir``."""
