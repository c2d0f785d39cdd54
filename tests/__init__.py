"""The tests; folders mirror ``sidecar/``, ``real/`` needs real servers."""
