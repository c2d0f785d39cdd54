"""Tests of ``sidecar/common``, and what the tests of the inner rooms share."""
