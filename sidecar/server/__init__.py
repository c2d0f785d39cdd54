"""The life of a process: start, listening, reload, draining."""
