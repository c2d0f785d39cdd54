"""Answer QIDO-RS searches with the rows of one patient, by pages (PS3.18 10.6)."""

import logging
from dataclasses import dataclass, replace

import orjson
from aiohttp import hdrs, web
from multidict import CIMultiDict

from sidecar.access.decision import is_own_row
from sidecar.access.facts import AnswerKind, KnownAs, Part, PatientIdentifier, Token
from sidecar.access.permits import ALL_STUDIES, PatientPermit
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.row_filter import shown_rows
from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.common.invalidation import Invalidation
from sidecar.common.slices import in_slices, let_go
from sidecar.common.spans import span
from sidecar.dicom.json_model import Row, tag, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.media_types import DICOM_JSON, accepts_json
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import Matching, not_supported, parse_matching
from sidecar.dicomweb.rewrite import TooDeep, public_attributes, rewrite_row
from sidecar.dicomweb.row_matching import RowFilter
from sidecar.dicomweb.upstream_errors import QueryRefused, unusable
from sidecar.pacs.client import PacsClient
from sidecar.telemetry.metrics import Metrics
from sidecar.web.dicomweb_request import AskedFor, QueryRequest
from sidecar.web.middleware import RECORD, hold_place
from sidecar.web.negotiate import is_strict, query_warnings
from sidecar.web.pieces import accepts_gzip, in_pieces
from sidecar.web.query_pages import QueryKey, QueryPages, RowPage, RowSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Search:
    """One search: the ``request``, and by what its rows have to match.

    ``checked``: the search is of one study, whose owners have just been looked at.
    """

    request: QueryRequest
    matching: Matching
    checked: bool

    @property
    def query(self) -> Query:
        """What is searched."""
        return self.request.asked.resource


class QidoHandlers:
    """Answer the searches of all DICOMweb roots, once a patient is permitted."""

    def __init__(
        self,
        authorizer: Authorizer,
        pacs: PacsClient,
        limits: RequestLimits,
        metrics: Metrics,
        invalidation: Invalidation,
    ) -> None:
        self._authorizer = authorizer
        self._pacs = pacs
        self._limits = limits
        self._metrics = metrics
        self._pages = QueryPages(invalidation)

    async def search(
        self,
        http: web.Request,
        token: Token,
        permit: PatientPermit,
        asked: AskedFor[Query],
        *,
        only: str | None = None,
    ) -> web.Response:
        """Return the patient's rows with URLs below ``asked.root``.

        ``only``: those of this study (SIA-50). Raises the ``Problem`` that the client gets instead.
        """
        if not accepts_json(asked.accept):
            raise NotAcceptable("Searches are answered in application/dicom+json.", reason="accept")
        query, record = asked.resource, http[RECORD]
        matching = parse_matching(asked.parameters, strict=is_strict(http))
        await hold_place(http, self._limits.search(token))
        study = query.study or only
        if study is not None:
            record.part = Part(study, query.series)
        request = await self._authorizer.authorize(record, token, permit, asked, study=study)
        foreign = _foreign_keys(matching, request.known_as)
        if foreign and is_strict(http):
            raise not_supported()
        if study is not None:
            await self._authorizer.study(request, Part(study, query.series), AnswerKind.LISTED)
        if query.study is None and only is not None:
            matching = matching.of_study(only)
        search = _Search(request, matching, checked=study is not None)
        with span("fetch"):
            page, others = await self._page(search)
        if others:
            await self._note_others(search, others)
        try:
            written = await in_slices(
                b"," + orjson.dumps(rewrite_row(public_attributes(row), asked.root))
                if only in (None, text(row, "StudyInstanceUID"))
                else None
                for row in page.rows
            )
        except TooDeep:
            log.error("a row of the PACS is nested too deep")
            raise unusable("query_too_deep") from None
        await let_go(page.rows)
        written[:1] = [b"[" + line[1:] for line in written[:1]] or [b"["]
        headers = CIMultiDict({hdrs.CONTENT_TYPE: DICOM_JSON})
        ignored = (*matching.ignored, *foreign)
        headers.extend((hdrs.WARNING, line) for line in query_warnings(ignored, more=page.more))
        return in_pieces([*written, b"]"], headers, gzip=accepts_gzip(http))

    async def _page(self, search: _Search) -> tuple[RowPage, int]:
        """Return the page that was asked for, of the rows under every identifier, in one order.

        With it: how many rows came that are not the patient's, and were left out.
        """
        query, matching = search.query, search.matching
        others, row_filter = 0, RowFilter(query, matching)
        identifiers = sorted(
            search.request.known_as, key=lambda known: (known.patient_id, known.issuer or "")
        )

        async def read(offset: int, limit: int | None) -> tuple[int, list[Row]]:
            nonlocal others
            count, others, own = 0, 0, list[Row]()
            for identifier in identifiers:
                if limit is not None and count >= limit:
                    break
                left = None if limit is None else limit - count
                rows = await self._found(search, row_filter, identifier, left, offset)
                alone = frozenset({identifier})
                mine = await in_slices(row if _is_own(row, query, alone) else None for row in rows)
                count += len(rows)
                others += len(rows) - len(mine)
                own += await in_slices(row if row_filter.is_wanted(row) else None for row in mine)
                await let_go(rows)
            return count, own

        # Where others come as well and are left out, a limit would cut the patient's own.
        exact = search.request.visible is ALL_STUDIES and all(
            self._pacs.dialect.writes_exactly(identifier.patient_id + (identifier.issuer or ""))
            for identifier in identifiers
        )
        source = RowSource(
            read,
            lambda own: self._visible(search, own),
            lambda own: self._visible_still(search, own),
            takes_limit=exact,
            takes_offset=exact and len(identifiers) == 1,
        )
        key = QueryKey(
            search.request.record.token_hash,
            search.request.permit.patient,
            search.request.known_as,
            query,
            matching.parameters,
        )
        page = await self._pages.page(
            key, source, offset=matching.offset, limit=matching.limit, peek=matching.is_capped
        )
        return page, others

    async def _found(
        self,
        search: _Search,
        row_filter: RowFilter,
        identifier: PatientIdentifier,
        limit: int | None,
        offset: int,
    ) -> list[Row]:
        """Return what the archive finds under one identifier.

        Raises what ``PacsClient.search`` raises.
        """
        who = [("PatientID", identifier.patient_id)]
        if identifier.issuer is not None:
            who.append(("IssuerOfPatientID", identifier.issuer))
        asked = search.matching.parameters
        parameters = (*who, *asked, ("includefield", _checked_fields(search.query, row_filter)))
        try:
            return await self._pacs.search(
                search.query, parameters, permit=search.request.search, limit=limit, offset=offset
            )
        except QueryRefused:
            if not asked:
                raise
            raise BadRequest(
                "The archive refuses a value of this search.", reason="pacs_query_refused"
            ) from None

    async def _visible(self, search: _Search, own: list[Row]) -> list[tuple[Row, Row]]:
        """Return those of the patient's ``own`` rows that may be seen.

        They are of studies that a read does not refuse, each with the row that is shown of it.
        """
        view = search.request.visible
        if view is not ALL_STUDIES:
            if view.listing.shared:
                listed = await in_slices(text(row, "StudyInstanceUID") or "" for row in own)
                shared = view.listing.shared.intersection(listed)
                self._authorizer.decisions.left_out(search.request.record, shared)
            # It may end at once.
            shown = zip(own, shown_rows(own, search.query, search.matching, view), strict=False)
            return await in_slices(
                None if shown_row is None else (row, shown_row) for row, shown_row in shown
            )
        if not search.checked:
            own = await self._unrefused(search, own)
        return await in_slices((row, row) for row in own)

    async def _visible_still(self, search: _Search, own: list[Row]) -> list[tuple[Row, Row]]:
        """Return what ``_visible`` returns, for rows that were read for an earlier page.

        Their study may have been moved to another patient since.
        """
        return await self._visible(
            replace(search, checked=True), await self._unrefused(search, own)
        )

    async def _unrefused(self, search: _Search, own: list[Row]) -> list[Row]:
        """Return those of the rows whose studies a read does not refuse by their owners."""
        named = await in_slices(
            (uid, row) if (uid := text(row, "StudyInstanceUID")) else None for row in own
        )
        studies = await self._authorizer.unrefused(search.request, (uid for uid, _ in named))
        return await in_slices(row if uid in studies else None for uid, row in named)

    async def _note_others(self, search: _Search, rows: int) -> None:
        """Count ``rows`` that were left out; after a correction of the archive decide again.

        Raises ``Denied`` if the study is refused now.
        """
        query = search.query
        if query.study is not None:
            part = Part(query.study, query.series)
            if await self._authorizer.is_corrected(search.request, part):
                log.warning(
                    "a study was corrected at the PACS while it was remembered",
                    extra={"rows": rows},
                )
                await self._authorizer.decide_again(search.request, part, AnswerKind.LISTED)
                return
        log.warning(
            "the PACS returned rows that were not asked for; they are left out",
            extra={"rows": rows},
        )
        self._metrics.observe_foreign(query.level + "_row", rows)


def _is_own(row: Row, query: Query, known_as: KnownAs) -> bool:
    return (
        is_own_row(owner_of(row), known_as, unnamed=False)
        and query.study in (None, text(row, "StudyInstanceUID"))
        and query.series in (None, text(row, "SeriesInstanceUID"))
    )


def _checked_fields(query: Query, row_filter: RowFilter) -> str:
    """Return the attributes that a row is checked by; a study's row has no series."""
    keywords = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
    always = map(tag, keywords if query.level == "studies" else [*keywords, "SeriesInstanceUID"])
    return ",".join(dict.fromkeys((*always, *row_filter.fields)))


def _foreign_keys(matching: Matching, known_as: KnownAs) -> list[str]:
    """Return the names of keys that ask for somebody else than the patient.

    Viewers send the patient's own number, which asks for what they get; so does an empty value
    or ``*`` (PS3.4 C.2.2.2.3, universal matching).
    """
    own: dict[str, set[str | None]] = {
        tag("PatientID"): {identifier.patient_id for identifier in known_as},
        tag("IssuerOfPatientID"): {identifier.issuer for identifier in known_as},
    }
    return list(
        dict.fromkeys(
            key.name
            for key in matching.patient_keys
            if key.value.strip(" ") not in {"", "*", *own.get(key.attribute, ())}
        )
    )
