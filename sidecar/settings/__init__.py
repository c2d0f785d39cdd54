"""The configuration as types, a file a section."""
