"""Failures have the status and FHIR issue type of their names (SIA-16, SIA-23, SIA-45)."""

import pytest

from sidecar.common import errors
from sidecar.common.errors import Problem

FACES: dict[type[Problem], tuple[int, str]] = {
    errors.Problem: (500, "exception"),
    errors.BadRequest: (400, "invalid"),
    errors.NotSupported: (400, "not-supported"),
    errors.Ignorable: (400, "not-supported"),
    errors.Forbidden: (403, "forbidden"),
    errors.NotFound: (404, "not-found"),
    errors.NotAcceptable: (406, "not-supported"),
    errors.UnsupportedMediaType: (415, "not-supported"),
    errors.BadGateway: (502, "exception"),
    errors.Unavailable: (503, "transient"),
    errors.GatewayTimeout: (504, "timeout"),
}


def test_the_table_has_every_failure() -> None:
    """A new one must say what it looks like from outside."""
    found = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Problem)
    }
    assert found == set(FACES)


@pytest.mark.parametrize("kind", FACES)
def test_the_face_of_a_failure(kind: type[Problem]) -> None:
    """Status, issue type and text are for the client; ``str`` is the constant for logs."""
    problem = kind("Text for the client.", reason="a_constant")
    assert (kind.status, kind.code) == FACES[kind]
    assert problem.diagnostics == "Text for the client."
    assert problem.reason == str(problem) == "a_constant"
    assert problem.args == ("a_constant",)


def test_not_now_always_says_when() -> None:
    """SIA-23: 503 comes with Retry-After; others without unless told."""
    assert (errors.Unavailable("x", reason="y").retry_after or 0) > 0
    assert errors.Unavailable("x", reason="y", retry_after=2).retry_after == 2
    assert errors.BadGateway("x", reason="y").retry_after is None
