"""SMART Imaging Access sidecar: the authorization process between a PACS's DICOMweb and the world.

The package is a set of rooms (see ``docs/architecture.md``): ``access`` decides, ``tokens``, ``patients`` and
``pacs`` bring the facts, ``fhir`` speaks to the client, ``web`` joins them, ``telemetry`` records.
"""

__version__ = "0.1.0"
RELEASED = "2026-11-24"
