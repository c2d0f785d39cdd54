"""The demo's own routes below ``/demo``, on the page's origin. They want no token."""

from functools import partial
from typing import Any

from aiohttp import web

from sidecar.authorization.capability_urls import CapabilityUrls
from sidecar.demo.ehr.tokens import TokenStore
from sidecar.demo.explain.decisions import OWN_ROUTES, Decisions
from sidecar.demo.explain.guide import DemoGuide
from sidecar.demo.own_names import by_own_names
from sidecar.demo.people import PATIENTS
from sidecar.web.errors import json_response

WAIT_SECONDS = 2.0
_TOKEN_SECONDS = 300
_SCOPE = "patient/ImagingStudy.rs"


def add_explanations(
    app: web.Application,
    decisions: Decisions,
    guide: DemoGuide,
    tokens: TokenStore,
    capabilities: CapabilityUrls | None,
    *,
    host: str,
) -> None:
    """Add the routes to the sidecar's public application, which listens on ``host``.

    ``tokens`` are those of the demo EHR. With what ``/demo/attacks`` gives, the page tries what
    must not work.
    """

    async def decision(request: web.Request) -> web.Response:
        found = await decisions.find(request.match_info["request_id"], seconds=WAIT_SECONDS)
        if found is None:
            return _json({"error": "unknown request"}, status=404)
        return _json(found)

    async def whole_guide(request: web.Request) -> web.Response:
        return _json(guide.document())

    async def attacks(request: web.Request) -> web.Response:
        patient = request.query.get("patient")
        if patient not in {one.id for one in PATIENTS}:
            return _json({"error": "unknown patient"}, status=404)
        return _json(_attacks(patient, guide, tokens, capabilities))

    for name, path, handler in (
        ("decision", "/demo/decisions/{request_id}", decision),
        ("guide", "/demo/guide", whole_guide),
        ("attacks", "/demo/attacks", attacks),
    ):
        named = partial(by_own_names(host), handler=handler)
        app.router.add_get(path, named, name=OWN_ROUTES + name)


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return json_response(body, content_type="application/json", status=status)


def _attacks(
    patient: str, guide: DemoGuide, tokens: TokenStore, capabilities: CapabilityUrls | None
) -> dict[str, Any]:
    """Return what an attacker might have: UIDs of another patient, tokens, an old address."""
    foreign = guide.of_another(patient) or {}
    first = foreign["series"][0] if foreign else {}
    other = foreign.get("patient") or next(one.id for one in PATIENTS if one.id != patient)
    old = None
    if foreign and capabilities is not None:
        old = capabilities.issue("", tokens.clock() - 1, patient, foreign["study"]).root

    def token(of: str | None, scope: str = _SCOPE, seconds: int = _TOKEN_SECONDS) -> str:
        return tokens.issue(patient=of, scope=scope, lifetime_seconds=seconds)

    return {
        "other_patient": other,
        "other_study": foreign.get("study"),
        "other_series": first.get("series"),
        "other_instance": first.get("first"),
        "tokens": {
            "other_patient": token(other),
            "expired": token(patient, seconds=-1),
            "search_only": token(patient, "patient/ImagingStudy.s"),
            "no_patient": token(None),
        },
        "expired_capability": old,
    }
