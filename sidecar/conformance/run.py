"""All checks in their order; none stops the others."""

from dataclasses import replace

from sidecar.conformance import discovery, tokens
from sidecar.conformance.afterwards import AFTERWARDS, BEYOND
from sidecar.conformance.client import Limits, NotTested, Violated, connected
from sidecar.conformance.filters import FILTERS
from sidecar.conformance.finding import Finding, State
from sidecar.conformance.forms import FORMS
from sidecar.conformance.refusals import REFUSALS
from sidecar.conformance.requirements import REQUIREMENTS
from sidecar.conformance.resources import RESOURCES
from sidecar.conformance.retrieval import RETRIEVAL
from sidecar.conformance.search import FIND, SEARCH
from sidecar.conformance.visit import Check, Visit, patient_in

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
    *FORMS,
    *REFUSALS,
    *tokens.LAST,
    *AFTERWARDS,
    *BEYOND,
)
"""Each may use what those before it have learnt."""


async def conformance(
    base: str,
    token: str | None,
    patient: str | None,
    origin: str | None = None,
    *,
    limits: Limits = _LIMITS,
) -> list[Finding]:
    """Look at the server whose FHIR base is ``base``, as an app with a patient's ``token`` would.

    ``origin``: of the app's pages, for CORS; else a made-up one.
    """
    async with connected(base.rstrip("/"), token, limits) as client:
        visit = Visit(client, patient or patient_in(token))
        visit.origin = origin or visit.origin
        found = [(check, await _looked(check, visit)) for check in CHECKS]
        # What was not learnt is not the token's, or the patient's, fault.
        if not client.was_reached:
            found = [(check, _not_reached(check, one)) for check, one in found]
    # Stable: those of a number in the order of the checks.
    order = sorted(found, key=lambda one: one[0].number)
    return [_without(token, one) for _, one in order]


async def _looked(check: Check, visit: Visit) -> Finding:
    name, demanded = f"SIA-{check.number} {check.checked}", check.says or REQUIREMENTS[check.number]
    try:
        return Finding(name, State.OK, await check.look(visit))
    except NotTested as error:
        return Finding(name, State.SKIP, str(error))
    except Violated as error:
        return Finding(name, State.FAIL, str(error), demanded)
    except Exception as error:  # Whatever a server answers is a finding.
        text = f"an answer that nothing can be made of ({type(error).__name__})"
        return Finding(name, State.FAIL, text, demanded)


def _not_reached(check: Check, finding: Finding) -> Finding:
    if finding.state is State.SKIP and check not in BEYOND:
        return replace(finding, text="the server was not reached")
    return finding


def _without(token: str | None, finding: Finding) -> Finding:
    """No text has it; should one after all, it is taken out."""
    if token is None or token not in finding.text:
        return finding
    return replace(finding, text=finding.text.replace(token, "(the token)"))
