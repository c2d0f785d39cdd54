"""Taking a multipart/related body apart, for tests: by its delimiters and nothing else."""

import re


def parts_of(content_type: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Return each part's headers (names lower-cased) and bytes; ``AssertionError`` for a body that
    is not whole.
    """
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    assert match, content_type
    delimiter = b"--" + match[1].encode()
    assert body.rstrip().endswith(delimiter + b"--"), "no closing delimiter"
    pieces = (b"\r\n" + body).split(b"\r\n" + delimiter)
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n") if line]
        parts.append(
            ({name.decode().lower(): value.strip().decode() for name, _, value in lines}, content)
        )
    return parts
