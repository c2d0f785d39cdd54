"""A test kit for SMART Imaging Access: a client that can check any server of it."""
