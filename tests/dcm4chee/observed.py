"""What the table of ``dcm4chee_dialogue.py`` says of an answer."""

import json
from typing import Any

import aiohttp

from tests.dcm4chee.retrieve import STORAGE
from tests.tables.dcm4chee_dialogue import WATCHED


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def observed(response: aiohttp.ClientResponse, body: bytes, root: str) -> dict[str, Any]:
    """Return what is seen of an answer, by the names that the table uses."""
    headers = response.headers
    media_type, _, boundary = headers.get("Content-Type", "").partition("boundary=")
    seen: dict[str, Any] = {
        "status": response.status,
        "type": media_type.partition(";")[0] if boundary else media_type,
        "space": media_type.endswith("; "),
        "framing": "chunked" if headers.get("Transfer-Encoding") == "chunked" else "length",
        "etag": "ETag" in headers,
        "cache": headers.get("Cache-Control"),
        "ranges": headers.get("Accept-Ranges"),
        "origins": headers.get("Access-Control-Allow-Origin"),
        "warning": headers.get("Warning", "").partition('"')[2].rstrip('"') or None,
        "path_in_text": STORAGE.encode() in body,
        "closed": bool(boundary) and body.endswith(f"--{boundary}--".encode()),
        "body": "empty" if not body else "json" if is_json(body) else "text",
    }
    if boundary:
        lines = body.partition(b"\r\n")[2].partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
        located = [line for line in lines if line.startswith("Content-Location: ")]
        seen["location"] = (
            located[0].removeprefix(f"Content-Location: {root}/") if located else None
        )
        seen["first_line"] = lines[0].partition(":")[0]
        seen["parts"] = body.count(f"--{boundary}\r\n".encode())
    elif seen["body"] == "json" and body.endswith(b"]"):
        rows = json.loads(body)
        seen["rows"] = len(rows)
        seen["tags"] = {name for name in WATCHED if name in rows[0]}
        seen["notes"] = {
            name[4:] for name in rows[0] if name.startswith("7777") and name != "77770010"
        }
    return seen
