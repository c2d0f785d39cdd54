"""The life of a process: listening, connections, draining."""
