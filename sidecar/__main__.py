"""``python -m sidecar`` is the command."""

from sidecar.cli import main

main()
