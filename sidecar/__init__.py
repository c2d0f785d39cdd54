"""SMART Imaging Access sidecar: the authorization process between a PACS's DICOMweb and the world.

The package is a set of rooms (see ``docs/architecture.md``): ``access`` decides, ``tokens``,
``patients`` and ``pacs`` bring the facts, ``authorization`` enforces the decision, ``fhir`` and
``dicomweb`` speak to the client, ``web`` joins them, ``audit`` and ``telemetry`` record,
``bootstrap`` builds it all.
"""

__version__ = "1.0.0rc1"
RELEASED = "2026-11-30"
