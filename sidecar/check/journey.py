"""The requests of an app with a patient's token, through a listener of our own.

They are a search, queries, metadata, a retrieval, and a request that must be refused. The outcomes
are counts, and show nothing of the patient.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import requests
from dicomweb_client.api import DICOMwebClient

from sidecar.bootstrap.build import Sidecar
from sidecar.check.names import FindingName
from sidecar.check.outcome import CheckOutcome, failure, ok, skipped, warning
from sidecar.conformance.finding import State
from sidecar.server.listener import listen

_SECONDS = 60
_MAXIMUM_BYTES = 512 * 2**20
_ABSENT = "2.25.999999999999999999999999999999999999"


async def journey(sidecar: Sidecar, token: str, *, rules: bool) -> dict[FindingName, CheckOutcome]:
    """Serve on a free loopback port, and return the outcome of each step by its name.

    Each step builds on the step before, and a failed step ends the journey. ``rules``: whether
    there are ``access.rules`` that may hide studies.
    """
    async with listen(sidecar.public, "127.0.0.1", 0, drain_seconds=1, name="check") as port:
        url = f"http://127.0.0.1:{port}"
        authorization = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(
                headers=authorization, timeout=aiohttp.ClientTimeout(_SECONDS)
            ) as session,
            session.get(url + "/fhir/ImagingStudy?_count=1") as response,
        ):
            status, bundle = response.status, await response.json(content_type=None)
        if status != 200:
            return {"token.search": failure(_error(status, bundle), _HINTS.get(status, _SEE_LOG))}
        outcomes: dict[FindingName, CheckOutcome] = {
            "token.search": ok(f"{bundle.get('total')} studies as ImagingStudy")
        }
        client = DICOMwebClient(f"{url}/wado-rs", session=_bounded_session(token))
        for name, step in _STEPS.items():
            outcomes[name] = await asyncio.to_thread(_outcome_of, step, client)
            if outcomes[name].state in (State.FAIL, State.SKIP):
                break
        return without_studies(outcomes, rules=rules)


def _query(client: DICOMwebClient) -> CheckOutcome:
    if not client.search_for_studies(limit=1):
        return skipped(_NONE_SHOWN)
    _study(client)
    return ok("QIDO-RS of /wado-rs answers dicomweb-client")


def _study(client: DICOMwebClient) -> str:
    return str(client.search_for_studies(limit=1)[0]["0020000D"]["Value"][0])


def _instance(client: DICOMwebClient) -> tuple[str, str, str]:
    study = _study(client)
    (row, *_) = client.search_for_instances(study, limit=1)
    return study, str(row["0020000E"]["Value"][0]), str(row["00080018"]["Value"][0])


def _metadata(client: DICOMwebClient) -> CheckOutcome:
    rows = client.retrieve_instance_metadata(*_instance(client))
    return ok(f"{len(rows)} attributes of one instance")


def _retrieval(client: DICOMwebClient) -> CheckOutcome:
    dataset = client.retrieve_instance(
        *_instance(client), media_types=(("application/dicom", "*"),)
    )
    return ok(f"one instance, {len(dataset)} attributes, verified as it passed")


def _refusal(client: DICOMwebClient) -> CheckOutcome:
    try:
        client.retrieve_study_metadata(_ABSENT)
    except requests.HTTPError as error:
        if _status(error) == 404:
            return ok("a study that is not this patient's is a 404")
        raise
    return failure("a made-up study was answered", "Do not serve; report this.")


_STEPS: dict[FindingName, Callable[[DICOMwebClient], CheckOutcome]] = {
    "token.qido": _query,
    "token.metadata": _metadata,
    "token.retrieve": _retrieval,
    "token.refusal": _refusal,
}


def _bounded_session(token: str) -> requests.Session:
    session = _BoundedSession()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"
    return session


class _BoundedSession(requests.Session):
    """Session that limits requests to ``_SECONDS`` and ``_MAXIMUM_BYTES`` and repeats none."""

    def send(self, request: requests.PreparedRequest, **keywords: Any) -> requests.Response:
        """Send a request as ``Session`` does, and read the whole answer within the limits."""
        response = super().send(request, **{**keywords, "timeout": _SECONDS, "stream": True})
        body, began = bytearray(), time.monotonic()
        for chunk in response.iter_content(2**16):
            body += chunk
            if len(body) > _MAXIMUM_BYTES or time.monotonic() - began > _SECONDS:
                response.close()
                raise requests.exceptions.ChunkedEncodingError("too long")
        response._content = bytes(body)  # noqa: SLF001 - no public way sets the body
        return response


def _outcome_of(
    step: Callable[[DICOMwebClient], CheckOutcome], client: DICOMwebClient
) -> CheckOutcome:
    """Return the outcome of a step, a failure for any exception."""
    try:
        return step(client)
    except requests.HTTPError as error:
        status = _status(error)
        return failure(_error(status, _body(error)), _HINTS.get(status, _SEE_LOG))
    except requests.RequestException:
        return failure(
            "the transfer was broken off",
            "The archive's answer broke, is endless, unreadable, or not this patient's: see the "
            "log.",
        )
    except Exception as error:
        return failure(f"dicomweb-client cannot use the answer ({type(error).__name__})", _SEE_LOG)


_NONE_SHOWN = (
    "no study is shown: none at the archive, or access.rules, access.clients or access.external "
    "leave it out"
)
_SEE_LOG = "See the log on standard error (--verbose)."
_HINTS = {
    403: "Has the token a patient/ scope with ImagingStudy, and a patient in context "
    "(docs/authorization.md)? If the record was merged, the patient must log in again "
    "(docs/ehr.md)."
}


def _error(status: int, body: Any) -> str:
    try:
        return f"{status}: {body['issue'][0]['diagnostics']}"
    except (KeyError, IndexError, TypeError):
        return str(status)


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code if error.response is not None else 0


def _body(error: requests.HTTPError) -> Any:
    try:
        return error.response.json() if error.response is not None else {}
    except ValueError:
        return {}


def without_studies(
    outcomes: dict[FindingName, CheckOutcome], *, rules: bool
) -> dict[FindingName, CheckOutcome]:
    """Add a warning when the search returns no study, mostly because the mapping is wrong."""
    if not outcomes["token.search"].text.startswith("0 "):
        return outcomes
    hint = (
        "If there should be one: " + ("do access.rules hide it? " if rules else "") + "is "
        "patients.mapping right? Compare Patient.id or its identifiers with the PatientID at the "
        "archive."
    )
    return {**outcomes, "token.studies": warning(_NONE_SHOWN, hint)}
