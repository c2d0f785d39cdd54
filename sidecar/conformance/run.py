"""All checks of conformance in their order. A failed check does not stop the others."""

from dataclasses import dataclass, field, replace

from sidecar.conformance import discovery, tokens
from sidecar.conformance.client import Client, Limits, connected
from sidecar.conformance.context import Check, RunContext
from sidecar.conformance.filters import FILTERS
from sidecar.conformance.finding import Finding, State
from sidecar.conformance.further_tokens import FURTHER
from sidecar.conformance.levels import SHALL, Guide, NotTested, RequirementLevel, Violated, level_in
from sidecar.conformance.reading import patient_in
from sidecar.conformance.refusals import REFUSALS
from sidecar.conformance.representations import REPRESENTATIONS
from sidecar.conformance.requirements import REQUIREMENTS
from sidecar.conformance.resources import RESOURCES
from sidecar.conformance.retrieval import RETRIEVAL
from sidecar.conformance.search import FIND, SEARCH
from sidecar.conformance.whole_run import BEYOND, WHOLE_RUN

_LIMITS = Limits()
_REACHABLE = "Is the URL of --conformance right, and can it be reached from here?"

CHECKS: tuple[Check, ...] = (
    *discovery.DISCOVERY,
    *FIND,
    *RESOURCES,
    *discovery.LATER,
    *tokens.TOKENS,
    *SEARCH,
    *FILTERS,
    *RETRIEVAL,
    *REPRESENTATIONS,
    *REFUSALS,
    *FURTHER,
    *tokens.LAST,
    *WHOLE_RUN,
    *BEYOND,
)
"""A check may use what earlier checks have stored in the ``RunContext``."""


@dataclass(frozen=True, slots=True)
class ServerUnderTest:
    """What is checked, with what: FHIR base, tokens, and what cannot be learnt from these.

    - ``token``: a patient's access token; ``patient``: the patient's FHIR id
    - ``other_token``, ``other_patient``: a second patient's
    - ``backend_token``: a Backend Services client's, which takes the place of a missing ``token``
    - ``expired_token``: one that was good once
    - ``origin``: that of an app's pages, for CORS, where not every origin is allowed
    - ``guide``: the text of the guide
    """

    base: str
    token: str | None = field(default=None, repr=False)
    patient: str | None = None
    other_token: str | None = field(default=None, repr=False)
    other_patient: str | None = None
    backend_token: str | None = field(default=None, repr=False)
    expired_token: str | None = field(default=None, repr=False)
    origin: str = "https://app.example.org"
    guide: Guide = Guide.SEPTEMBER

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens that were given."""
        given = (self.token, self.other_token, self.backend_token, self.expired_token)
        return tuple(token for token in given if token is not None)


async def conformance(server: ServerUnderTest, *, limits: Limits = _LIMITS) -> list[Finding]:
    """Check a server from outside, as an app would see it."""
    token = server.token or server.backend_token
    async with connected(server.base.rstrip("/"), token, limits) as client:
        run = _context(client, server)
        findings = {
            check: await _finding(check, level, run)
            for check in CHECKS
            if (level := level_in(server.guide, check.levels)) is not None
        }
        if not client.record.was_reached:
            findings = {check: _not_reached(check, finding) for check, finding in findings.items()}
    # The sort is stable: checks of the same requirement stay in their order.
    ordered = sorted(findings, key=lambda check: check.number)
    return [_without(server.tokens, findings[check]) for check in ordered]


def _context(client: Client, server: ServerUnderTest) -> RunContext:
    def holding(token: str | None) -> Client | None:
        return None if token is None else client.holding(token)

    return RunContext(
        client,
        server.patient or patient_in(server.token),
        guide=server.guide,
        origin=server.origin,
        other=holding(server.other_token),
        other_patient=server.other_patient or patient_in(server.other_token),
        backend=holding(server.backend_token),
        expired=holding(server.expired_token),
        is_service=server.token is None and server.backend_token is not None,
    )


async def _finding(check: Check, level: RequirementLevel, run: RunContext) -> Finding:
    name = f"SIA-{check.number} {check.title}"
    requirement = check.requirement or REQUIREMENTS[check.number]
    try:
        return Finding(name, State.OK, await check.function(run), level=level)
    except NotTested as error:
        return Finding(name, State.SKIP, f"not tested, because {error}", level=level)
    except Violated as error:
        hint = " ".join(filter(None, (error.hint, requirement)))
        return _broken(name, str(error), hint, error.level or level)
    except Exception as error:  # Any answer of a server must become a finding.
        text = f"the answer cannot be read ({type(error).__name__})"
        return _broken(name, text, requirement, level)


def _broken(name: str, text: str, hint: str, level: RequirementLevel) -> Finding:
    state = State.FAIL if level is SHALL else State.WARN
    return Finding(name, state, text, hint, level)


def _not_reached(check: Check, finding: Finding) -> Finding:
    """Return the finding as that of a server that was not reached."""
    if finding.state is State.SKIP and check not in BEYOND:
        return replace(finding, text="not tested, because the server was not reached")
    if finding.state is State.WARN:
        return replace(finding, state=State.FAIL, hint=_REACHABLE)
    return finding


def _without(tokens: tuple[str, ...], finding: Finding) -> Finding:
    """Return the finding without any of the tokens in its text."""
    text = finding.text
    for token in tokens:
        text = text.replace(token, "(the token)")
    return replace(finding, text=text)
