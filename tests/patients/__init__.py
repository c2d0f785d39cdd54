"""Tests of ``sidecar/patients``."""
