"""docs/ehr.md, "Token forms": what servers say of their tokens, and what we make of it: a
specification.
"""

import re
from typing import Any

import aiohttp
import pytest

from sidecar.common.errors import Problem
from sidecar.tokens.claims import _ACCESS_TOKEN_TYPES, TokenRequirements
from sidecar.tokens.rejection import TokenRejected
from tests.common.peer import Peer, Reply
from tests.tables.token_forms import FORMS, SECTION, Form
from tests.tables.tokens import with_header
from tests.tokens.introspecting import ACTIVE, introspection
from tests.tokens.signing import claims, jwks, validation


def test_the_table_is_read() -> None:
    assert len(FORMS) == 20
    assert {form.outcome for form in FORMS} == {
        "accepted",
        "`wrong_token_type`",
        "`sender_constrained`",
        "502",
    }


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.server}: {form.token}")
async def test_what_we_make_of_it(peer: Peer, session: aiohttp.ClientSession, form: Form) -> None:
    """By introspection; what stands in a JWT, or in its header, by signature as well."""
    outcomes = []
    if not form.in_header:
        peer.say(Reply(ACTIVE | form.says))
        outcomes.append(
            await _outcome(
                introspection(
                    peer, session, expected=TokenRequirements(lifetime_seconds=60)
                ).introspect
            )
        )
    if form.in_header or "introspected" not in form.token.replace("introspected or as JWT", ""):
        peer.say(Reply(jwks()))
        header = {"alg": "RS256", "kid": "one"} | (form.says if form.in_header else {})
        token = with_header(header, **({} if form.in_header else form.says))
        outcomes.append(await _outcome(validation(session, peer).validate, token))
    assert outcomes
    assert set(outcomes) == {form.outcome}


async def _outcome(validate: Any, token: str = "a-token") -> str:
    try:
        found = await validate(token)
    except TokenRejected as rejected:
        return f"`{rejected.reason}`"
    except Problem as problem:
        return str(problem.status)
    return "accepted" if found is not None else "inactive"


def test_the_list_in_the_text_is_the_allow_list() -> None:
    """Each of them, and none that is not documented."""
    assert SECTION is not None
    text = (
        SECTION[1].partition("must name an access token")[2].partition("in any case of letters")[0]
    )
    assert {name.lower() for name in re.findall(r"`([^`]+)`", text)} == _ACCESS_TOKEN_TYPES


def test_claims_are_as_the_tests_of_signatures_have_them() -> None:
    """The rows change one claim of a token that is good."""
    assert not {"token_type", "token_use", "typ", "cnf"} & (set(claims()) | set(ACTIVE))
