"""Whether a token reaches a patient, and every reason for a denial (SIA-10..16)."""

import math
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from sidecar.access.facts import Policy, Token
from sidecar.access.permits import Deny, Interaction, Operation
from sidecar.access.reasons import STATUS, Reason
from sidecar.access.scopes import parse_scopes
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.decision_log import Denied
from sidecar.common.invalidation import Invalidation
from sidecar.patients.direct import DirectMapping
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected
from tests.access.decision_cases import NOW, OFF, ON, READ, RETRIEVE, SEARCH, STUDY_DENIALS
from tests.fakes.site import NO_AUDIT, NO_VIEWS
from tests.permits import (
    patient_permit,
    permit_patient,
)
from tests.tables.capability_denials import CAPABILITY_DENIALS
from tests.tables.claims import REJECTIONS
from tests.tables.denials import BACKEND_DENIALS, SHOWN_DENIALS
from tests.tables.tokens import REFUSED


def token(
    scopes: str = "patient/ImagingStudy.rs", *, patient: str | None = "p1", exp: float = NOW + 60
) -> Token:
    """A validated token."""
    return Token(parse_scopes(scopes), exp, patient)


PATIENT_DENIALS: list[tuple[Token, Interaction, str | None, Policy, Reason]] = [
    (token(exp=NOW), SEARCH, "p1", ON, Reason.EXPIRED_TOKEN),
    (token(exp=NOW - 1), RETRIEVE, None, ON, Reason.EXPIRED_TOKEN),
    (token(exp=0), READ, "p1", OFF, Reason.EXPIRED_TOKEN),
    (token(), SEARCH, "p1", OFF, Reason.APP_LAUNCH_OFF),
    (token("system/*.rs"), SEARCH, "p1", OFF, Reason.INSUFFICIENT_SCOPE),
    (token(""), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("openid fhirUser launch/patient"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.r"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.s"), READ, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.s"), RETRIEVE, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (
        token("patient/Observation.rs patient/Patient.rs"),
        SEARCH,
        "p1",
        ON,
        Reason.INSUFFICIENT_SCOPE,
    ),
    (token("system/ImagingStudy.rs"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("system/*.cruds user/*.cruds"), RETRIEVE, None, ON, Reason.INSUFFICIENT_SCOPE),
    (
        token("patient/ImagingStudy.s system/*.rs user/*.rs"),
        RETRIEVE,
        None,
        ON,
        Reason.INSUFFICIENT_SCOPE,
    ),
    (token("patient/ImagingStudy.rs?modality=CT"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token("patient/ImagingStudy.rs?"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (
        token("patient/ImagingStudy.rs?modality=CT&modality=MR"),
        RETRIEVE,
        None,
        ON,
        Reason.CONSTRAINED_SCOPE,
    ),
    (token("patient/*.r?a=b patient/ImagingStudy.s"), RETRIEVE, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token("patient/*.rs?a=b system/*.rs"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token(patient=None), SEARCH, "p1", ON, Reason.NO_PATIENT_CONTEXT),
    (token(patient=None), RETRIEVE, None, ON, Reason.NO_PATIENT_CONTEXT),
    (token(), SEARCH, "p2", ON, Reason.OTHER_PATIENT),
    (token(), READ, "P1", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "p1 ", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "*", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "p1,p2", ON, Reason.OTHER_PATIENT),
]


@pytest.mark.parametrize(("facts", "interaction", "patient", "policy", "reason"), PATIENT_DENIALS)
def test_a_token_that_does_not_reach_the_patient(
    facts: Token, interaction: Interaction, patient: str | None, policy: Policy, reason: Reason
) -> None:
    """SIA-10, 11, 12, 13, 14, 22: refused, and for this reason."""
    assert permit_patient(
        facts, interaction, patient, policy=policy, now=NOW, client=None, understood=frozenset()
    ) == Deny(reason)


@pytest.mark.parametrize("interaction", Interaction)
@pytest.mark.parametrize("patient", ["p1", None])
@pytest.mark.parametrize(
    "scopes",
    [
        "patient/ImagingStudy.rs",
        "patient/*.read",
        "patient/*.*",
        "openid patient/*.rs?a=b patient/*.cruds",
    ],
)
def test_a_token_that_reaches_the_patient(
    scopes: str, patient: str | None, interaction: Interaction
) -> None:
    """SIA-11, 12: the permit is for the token's patient; a constrained scope does not spoil one
    without.
    """
    decision = permit_patient(
        token(scopes), interaction, patient, policy=ON, now=NOW, client=None, understood=frozenset()
    )
    assert decision == patient_permit("p1", interaction)


async def test_every_reason_is_reached() -> None:
    """No refusal is dead code: those of the decision by the tables above, those of the credentials
    by the authorizer.
    """

    async def introspected(bearer: str) -> Token | None:
        return Token((), 9e9, "p1") if bearer == "good" else None

    authorizer = Authorizer(
        TokenCache(introspected),
        DirectMapping(),
        cast("Any", None),
        cast("Any", None),
        cast("Any", None),
        Metrics("0"),
        NO_AUDIT,
        NO_VIEWS,
        policy=ON,
        invalidation=Invalidation(),
    )
    tables = (PATIENT_DENIALS, STUDY_DENIALS, BACKEND_DENIALS, SHOWN_DENIALS, CAPABILITY_DENIALS)
    reached: set[Reason] = {row[-1] for table in tables for row in table}
    for headers in ((), ("Basic eDp5",), ("Bearer junk",)):
        with pytest.raises(Denied) as refused:
            await authorizer.token(AccessRecord("r1"), headers)
        assert STATUS[refused.value.reason] == 401
        reached.add(refused.value.reason)
    # tests/authorization/test_capability_urls.py has those that are on.
    with pytest.raises(Denied) as refused:
        await authorizer.capability(
            AccessRecord("r1"), ("Bearer good",), "x", None, Operation.QUERY
        )
    reached.add(refused.value.reason)
    # tests/tokens/test_claims.py and tests/tokens/test_jwt_validation.py have the tokens that are
    # refused for these.
    for reason in {
        *REJECTIONS,
        *(rejection for rejection in REFUSED if rejection),
        Reason.CONTRADICTORY_TOKEN,
    }:
        authorizer._tokens = TokenCache(AsyncMock(side_effect=TokenRejected(reason)))
        with pytest.raises(Denied) as refused:
            await authorizer.token(AccessRecord("r1"), ("Bearer x",))
        assert refused.value.reason is reason
        reached.add(reason)
    assert reached == set(Reason)


def test_every_reason_has_a_status() -> None:
    """SIA-22, 45: 401 for the token, 403 for what it does not cover, 404 for what is not the
    caller's.
    """
    assert set(STATUS) == set(Reason)
    assert set(STATUS.values()) == {401, 403, 404}
    assert {reason for reason, status in STATUS.items() if status == 404} == {
        Reason.ABSENT,
        Reason.FOREIGN,
        Reason.NOT_IN_STUDY,
        Reason.NOT_SHOWN,
        Reason.SHARED_UID,
    }
    assert STATUS[Reason.OTHER_PATIENT] == 403


@pytest.mark.parametrize(("exp", "now"), [(math.nan, NOW), (NOW + 60, math.nan)])
def test_an_expiry_that_cannot_be_compared_permits_nothing(exp: float, now: float) -> None:
    """SIA-16: the reading of the answer refuses NaN already; the decision must not rest on that."""
    assert permit_patient(
        token(exp=exp), SEARCH, "p1", policy=ON, now=now, client=None, understood=frozenset()
    ) == Deny(Reason.EXPIRED_TOKEN)


def test_two_scopes_that_permit_the_same_are_one_path() -> None:
    decision = permit_patient(
        token("patient/*.rs patient/*.s"),
        SEARCH,
        None,
        policy=ON,
        now=NOW,
        client=None,
        understood=frozenset(),
    )
    assert decision == patient_permit("p1", SEARCH)
