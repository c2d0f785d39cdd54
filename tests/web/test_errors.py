"""Failures as answers: each a valid OperationOutcome that reveals nothing (SIA-22, SIA-45; RFC
6750).
"""

import importlib
import json
import pkgutil
import re
from typing import Any

import pytest
from aiohttp import web
from fhir.resources.R4B.operationoutcome import OperationOutcome

import sidecar
from sidecar.access.reasons import INVALID_TOKEN, STATUS, Reason
from sidecar.common.errors import NotFound, Problem, Unavailable
from sidecar.web import errors
from tests.tables.issue_types import ISSUE_TYPES

REALM = "SMART Imaging Access"


def _all_problems() -> list[type[Problem]]:
    """Every kind of Problem in the product."""
    for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[Problem]] = [Problem]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return [kind for kind in found if kind.__module__.startswith("sidecar.")]


def outcome(answer: web.Response) -> dict[str, Any]:
    """The body, after checking that it is a valid OperationOutcome with one issue."""
    assert answer.content_type == "application/fhir+json"
    assert answer.charset == "utf-8"
    assert isinstance(answer.body, bytes)
    body: dict[str, Any] = json.loads(answer.body)
    OperationOutcome.model_validate(body)
    (issue,) = body["issue"]
    assert issue["code"] in ISSUE_TYPES
    assert issue["severity"] == "error"
    assert issue["diagnostics"].endswith((".", "…"))
    return body


def code_and_text(answer: web.Response) -> tuple[str, str]:
    """The issue type and what is shown."""
    issue = outcome(answer)["issue"][0]
    return issue["code"], issue["diagnostics"]


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_an_answer(reason: Reason) -> None:
    """401, 403 and 404 as ``STATUS`` says, with a text for each that the caller may know."""
    answer = errors.denial(reason)
    assert answer.status == STATUS[reason]
    code, text = code_and_text(answer)
    assert code == {401: "login", 403: "forbidden", 404: "not-found"}[answer.status]
    assert (text == errors._NOT_FOUND) is (answer.status == 404)
    assert reason.value not in text


def test_texts_tell_the_reasons_that_are_said_apart() -> None:
    reasons = [reason for reason in Reason if STATUS[reason] != 404 and reason not in INVALID_TOKEN]
    said = [code_and_text(errors.denial(reason))[1] for reason in (*reasons, Reason.INACTIVE_TOKEN)]
    assert len(set(said)) == len(said) == 16


def test_whatever_is_wrong_with_a_token_the_app_gets_one_answer() -> None:
    """RFC 6750 3.1 ``invalid_token``: why is for operators."""
    one = errors.denial(Reason.INACTIVE_TOKEN)
    assert one.status == 401
    for reason in INVALID_TOKEN:
        other = errors.denial(reason)
        assert (other.status, other.body, other.headers) == (one.status, one.body, one.headers)


# RFC 6750 3: no error code without credentials; invalid_token with 401; insufficient_scope with
# 403.
SCOPE_CHALLENGE = (
    f'Bearer realm="{REALM}", error="insufficient_scope", scope="patient/ImagingStudy.rs"'
)
CHALLENGES: dict[Reason, str] = {
    Reason.MISSING_TOKEN: f'Bearer realm="{REALM}"',
    Reason.MALFORMED_TOKEN: f'Bearer realm="{REALM}", error="invalid_token"',
    **dict.fromkeys(INVALID_TOKEN, f'Bearer realm="{REALM}", error="invalid_token"'),
    Reason.INSUFFICIENT_SCOPE: SCOPE_CHALLENGE,
    Reason.CONSTRAINED_SCOPE: SCOPE_CHALLENGE,
}


@pytest.mark.parametrize("reason", Reason)
def test_the_challenge(reason: Reason) -> None:
    """Every 401 has one (RFC 9110 11.6.1); a 404 never, which would tell that there is something to
    have.
    """
    assert errors.denial(reason).headers.get("WWW-Authenticate") == CHALLENGES.get(reason)


def _as_sent(answer: web.Response) -> tuple[int, dict[str, str], Any]:
    return answer.status, dict(answer.headers), answer.body


def test_all_404_are_the_same_to_the_byte() -> None:
    """SIA-45: absent, foreign, not in the study, not at the PACS, no such path: nobody can tell
    them apart.
    """
    answers = [
        errors.denial(reason) for reason in (Reason.ABSENT, Reason.FOREIGN, Reason.NOT_IN_STUDY)
    ]
    answers += [
        errors.problem(NotFound(text, reason=text))
        for text in ("There is no such resource.", "Something else.")
    ]
    answers.append(errors.http_error(web.HTTPNotFound(text="Something else.", reason="Elsewhere")))
    assert [_as_sent(answer) for answer in answers] == [_as_sent(answers[0])] * len(answers)
    assert answers[0].status == 404


@pytest.mark.parametrize("kind", _all_problems(), ids=lambda kind: kind.__name__)
def test_each_problem_has_an_answer(kind: type[Problem]) -> None:
    """Its status, issue type and text; its reason is for the logs alone."""
    answer = errors.problem(kind("A text for the client.", reason="a_secret_reason"))
    assert answer.status == kind.status
    assert answer.status >= 400
    code, text = code_and_text(answer)
    assert code == kind.code
    assert text == (errors._NOT_FOUND if kind.status == 404 else "A text for the client.")
    assert isinstance(answer.body, bytes)
    assert b"a_secret_reason" not in answer.body
    assert "a_secret_reason" not in str(answer.headers)
    assert ("Retry-After" in answer.headers) is (kind.status == 503)
    assert "WWW-Authenticate" not in answer.headers


def test_when_to_come_back() -> None:
    """SIA-23: whole seconds."""
    assert (
        errors.problem(Unavailable("x.", reason="y", retry_after=17)).headers["Retry-After"] == "17"
    )
    assert errors.problem(Problem("x.", reason="y", retry_after=3)).headers["Retry-After"] == "3"


HTTP_ERRORS: dict[type[web.HTTPException], str] = {
    web.HTTPBadRequest: "invalid",
    web.HTTPForbidden: "invalid",
    web.HTTPNotFound: "not-found",
    web.HTTPNotAcceptable: "invalid",
    web.HTTPRequestTimeout: "invalid",
    web.HTTPLengthRequired: "invalid",
    web.HTTPExpectationFailed: "invalid",
    web.HTTPUnsupportedMediaType: "invalid",
    web.HTTPRequestHeaderFieldsTooLarge: "invalid",
    web.HTTPInternalServerError: "invalid",
}


@pytest.mark.parametrize("kind", HTTP_ERRORS, ids=lambda kind: kind.__name__)
def test_what_the_http_library_refused(kind: type[web.HTTPException]) -> None:
    """Its status; none of its text, which may quote the request."""
    answer = errors.http_error(kind(text="a secret text"))
    assert answer.status == kind.status_code
    assert code_and_text(answer)[0] == HTTP_ERRORS[kind]
    assert isinstance(answer.body, bytes)
    assert b"secret" not in answer.body


def test_a_method_that_is_not_allowed_says_which_are() -> None:
    answer = errors.http_error(web.HTTPMethodNotAllowed("PUT", ["GET", "HEAD"]))
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert code_and_text(answer) == ("not-supported", "Method Not Allowed.")


def test_a_body_that_is_too_large() -> None:
    answer = errors.http_error(web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2))
    assert answer.status == 413
    assert code_and_text(answer)[0] == "too-long"


@pytest.mark.parametrize("status", [400, 414, 431, 500, 408, 505])
def test_what_is_not_even_http(status: int) -> None:
    """Answered before any handler: the same kind of body."""
    answer = errors.malformed(status)
    assert answer.status == status
    assert outcome(answer)
    assert answer.headers["Server"] == "smart-imaging-sidecar"


def test_a_fault_of_our_own_says_nothing() -> None:
    answer = errors.internal_error()
    assert answer.status == 500
    assert code_and_text(answer) == ("exception", "An internal error occurred.")


def test_no_text_has_anything_to_fill_in() -> None:
    """Constants: what is shown cannot carry what a peer or a client sent."""
    for text in (*errors._TEXT.values(), errors._NOT_FOUND):
        assert not re.search(r"[{}%]|https?:|\d{3,}", text)
