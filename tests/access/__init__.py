"""Tests of ``sidecar/access``."""
