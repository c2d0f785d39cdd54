"""Tests of ``sidecar/conformance``."""
