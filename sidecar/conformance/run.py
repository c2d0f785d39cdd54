"""All checks of conformance in their order. A failed check does not stop the others."""

from dataclasses import replace

from sidecar.conformance import discovery, tokens
from sidecar.conformance.client import Limits, NotTested, Violated, connected
from sidecar.conformance.context import Check, RunContext, patient_in
from sidecar.conformance.filters import FILTERS
from sidecar.conformance.finding import Finding, State
from sidecar.conformance.refusals import REFUSALS
from sidecar.conformance.representations import REPRESENTATIONS
from sidecar.conformance.requirements import REQUIREMENTS
from sidecar.conformance.resources import RESOURCES
from sidecar.conformance.retrieval import RETRIEVAL
from sidecar.conformance.search import FIND, SEARCH
from sidecar.conformance.whole_run import BEYOND, WHOLE_RUN

_LIMITS = Limits()

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
    *tokens.LAST,
    *WHOLE_RUN,
    *BEYOND,
)
"""A check may use what earlier checks have stored in the ``RunContext``."""


async def conformance(
    base: str,
    token: str | None,
    patient: str | None,
    origin: str | None = None,
    *,
    limits: Limits = _LIMITS,
) -> list[Finding]:
    """Check the server whose FHIR base is ``base`` from outside, as an app with ``token``.

    ``patient`` is the FHIR id of the token's patient. ``origin`` is that of the app's pages, for
    CORS; without it a made-up origin is used.
    """
    async with connected(base.rstrip("/"), token, limits) as client:
        run = RunContext(client, patient or patient_in(token))
        run.origin = origin or run.origin
        findings = {check: await _finding(check, run) for check in CHECKS}
        if not client.was_reached:
            findings = {check: _not_reached(check, finding) for check, finding in findings.items()}
    # The sort is stable: checks of the same requirement stay in their order.
    ordered = sorted(findings, key=lambda check: check.number)
    return [_without(token, findings[check]) for check in ordered]


async def _finding(check: Check, run: RunContext) -> Finding:
    name = f"SIA-{check.number} {check.title}"
    requirement = check.requirement or REQUIREMENTS[check.number]
    try:
        return Finding(name, State.OK, await check.function(run))
    except NotTested as error:
        return Finding(name, State.SKIP, str(error))
    except Violated as error:
        return Finding(
            name, State.FAIL, str(error), " ".join(filter(None, (error.hint, requirement)))
        )
    except Exception as error:  # Any answer of a server must become a finding.
        text = f"the answer cannot be read ({type(error).__name__})"
        return Finding(name, State.FAIL, text, requirement)


def _not_reached(check: Check, finding: Finding) -> Finding:
    """Return the finding; if it was skipped, say that the server was not reached."""
    if finding.state is State.SKIP and check not in BEYOND:
        return replace(finding, text="the server was not reached")
    return finding


def _without(token: str | None, finding: Finding) -> Finding:
    """Return the finding without the token in its text."""
    if token is None or token not in finding.text:
        return finding
    return replace(finding, text=finding.text.replace(token, "(the token)"))
