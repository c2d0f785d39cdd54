"""``check --conformance``: our numbered requirements, asked of any SMART Imaging Access server from outside."""
