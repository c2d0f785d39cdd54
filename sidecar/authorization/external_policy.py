"""Ask an OPA-compatible policy about each study (``access.external``).

``POST {"input": …}`` is answered with ``{"result": …}``. The policy takes away: what it allows must
be permitted here as well. An unclear answer is none, and without an answer nothing is served
(SIA-16).
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import orjson

from sidecar.access.facts import Caller, DescribedStudy, Verdict
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.common.errors import Problem, Unavailable
from sidecar.common.fair_queue import FairQueue, QueueFull, WaitTooLong
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from sidecar.dicom.uid import is_uid

log = logging.getLogger(__name__)

NOBODY = Caller()

LIMIT_BYTES = 1_048_576
AT_ONCE = 32
WAITING = 5_000
MAXIMUM_VERDICTS = 50_000
RETRY_AFTER_SECONDS = 5


class ExternalPolicy:
    """Asks ``url`` and remembers each answer for ``cache_seconds``.

    ``observe(outcome)`` takes ``allow``, ``partly``, ``deny``, ``unavailable``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        timeout_seconds: float,
        cache_seconds: float,
        token: str | None = None,
        observe: Callable[[str], None] = lambda outcome: None,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._observe = observe
        self._queue = FairQueue((AT_ONCE,), waiting=(WAITING,), seconds=timeout_seconds)
        self._verdicts: LoadingCache[bytes, Verdict] = LoadingCache(
            invalidation,
            ForgetOn.INVALIDATE,
            max_entries=MAXIMUM_VERDICTS,
            ttl_seconds=cache_seconds,
            clock=clock,
        )

    async def verdict(
        self, permit: PatientPermit, context: str, uid: str, study: DescribedStudy
    ) -> Verdict:
        """Return the verdict on a study for the permit's caller.

        It is by scopes of this ``context`` alone (SIA-15). Raises ``Unavailable`` (503).
        """
        caller = permit.caller or NOBODY
        return await self._verdict(
            policy_input(caller, permit.interaction, permit.patient, context, uid, study)
        )

    async def _verdict(self, asked: Mapping[str, Any]) -> Verdict:
        body = orjson.dumps({"input": asked}, option=orjson.OPT_SORT_KEYS)
        key = hashlib.blake2b(body, digest_size=32).digest()
        return await self._verdicts.get(key, lambda: self._ask(body))

    async def probe(self) -> Verdict:
        """Ask about nobody and nothing. Raises ``Unavailable``."""
        nothing = DescribedStudy({})
        return await self._verdict(
            policy_input(NOBODY, Interaction.SEARCH, "check", "patient", "2.25.0", nothing)
        )

    async def close(self) -> None:
        """End what is under way."""
        await self._verdicts.close()

    async def _ask(self, body: bytes) -> Verdict:
        try:
            async with self._queue.place():
                verdict = await self._post(body)
        except (QueueFull, WaitTooLong):
            raise self._unavailable(FetchFailed("queue_full")) from None
        except FetchFailed as failure:
            raise self._unavailable(failure) from None
        self._observe(
            "deny" if not verdict.allow else "partly" if verdict.exclude_series else "allow"
        )
        return verdict

    async def _post(self, body: bytes) -> Verdict:
        answer = await fetch(
            self._session,
            "POST",
            self._url,
            limit_bytes=LIMIT_BYTES,
            timeout_seconds=self._timeout_seconds,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                **self._headers,
            },
            form=body,
            name="policy",
        )
        if answer.status != 200:
            raise FetchFailed("unexpected_status", f"status {answer.status}")
        return await answer.read(lambda whole: read_verdict(whole.strict_json_object()))

    def _unavailable(self, failure: FetchFailed) -> Problem:
        self._observe("unavailable")
        log.error(
            "the external policy gave no decision",
            extra={"reason": failure.reason, "detail": failure.detail},
        )
        return Unavailable(
            "The hospital's access policy cannot be asked now; try again.",
            reason="policy_" + failure.reason,
            retry_after=RETRY_AFTER_SECONDS,
        ).because(failure.detail)


def policy_input(
    caller: Caller,
    interaction: Interaction,
    patient: str,
    context: str,
    uid: str,
    study: DescribedStudy,
) -> dict[str, Any]:
    """Return the policy's input: who asks (as validated), for whom, what, and the study."""
    return {
        "interaction": interaction.value,
        "patient": patient,
        "client_id": caller.client_id,
        "subject": caller.subject,
        "issuer": caller.issuer,
        "context": context,
        "study": {"StudyInstanceUID": uid, **_values(study.attributes)},
        "series": [
            {"SeriesInstanceUID": series.uid, **_values(series.attributes)}
            for series in study.series
        ],
    }


def _values(attributes: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {keyword: list(values) for keyword, values in attributes.items()}


def read_verdict(answer: Mapping[str, Any]) -> Verdict:
    """Read an answer. Raises ``FetchFailed`` for one that is not clear.

    That is: no result, another type, an extra member, a series that is no UID.
    """
    result = answer.get("result")
    if result is None:
        raise FetchFailed("undefined")
    if isinstance(result, bool):
        return Verdict(result)
    if not isinstance(result, dict) or not result.keys() <= {"allow", "exclude_series"}:
        raise FetchFailed("wrong_shape")
    allow, excluded = result.get("allow"), result.get("exclude_series", [])
    if not isinstance(allow, bool) or not isinstance(excluded, list):
        raise FetchFailed("wrong_shape")
    if not all(isinstance(uid, str) and is_uid(uid) for uid in excluded):
        raise FetchFailed("wrong_shape")
    return Verdict(allow, frozenset(excluded))
