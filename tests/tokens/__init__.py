"""Tests of ``sidecar/tokens``."""
