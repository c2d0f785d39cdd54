"""Check the head of an archive's answer."""

import pytest
from multidict import CIMultiDict

from sidecar.common.errors import Problem
from sidecar.dicomweb.paths import Kind
from sidecar.dicomweb.response_head import ResponseHead, check_head


def check(
    content_type: str | None,
    kind: Kind,
    *,
    status: int = 200,
    length: str | None = "7",
    **more: str,
) -> ResponseHead:
    """The verdict on an answer; ``more`` are header names with ``_`` for ``-``."""
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in more.items()})
    if content_type is not None:
        headers["content-type"] = content_type
    if length is not None:
        headers["CONTENT-LENGTH"] = length
    return check_head(status, headers, kind, chunked=False)


def refusal(
    content_type: str | None,
    kind: Kind,
    *,
    status: int = 200,
    length: str | None = "7",
    **more: str,
) -> Problem:
    """The problem that the client gets."""
    with pytest.raises(Problem) as refused:
        check(content_type, kind, status=status, length=length, **more)
    assert "pacs." not in refused.value.diagnostics
    return refused.value
