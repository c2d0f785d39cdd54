"""The embedded archive of the demo."""
