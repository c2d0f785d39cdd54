"""The demo EHR's logout: revocation (RFC 7009), and OpenID Connect RP-Initiated Logout 1.0."""

from urllib.parse import urlencode

from aiohttp import web

from sidecar.demo.ehr.authorize import redirect_origin
from sidecar.demo.ehr.consent import error_page
from sidecar.demo.ehr.form import (
    OAuthError,
    error_answer,
    json_answer,
    parse_fields,
    read_form,
    require,
    single,
)
from sidecar.demo.ehr.token_endpoint import refuse_credentials
from sidecar.demo.ehr.tokens import TokenStore


class Logout:
    """Handlers of ``/revoke`` and ``/logout``.

    ``page_origin``: where a browser may be sent beside this machine.
    """

    def __init__(self, store: TokenStore, *, page_origin: str) -> None:
        self._store = store
        self._page_origin = page_origin

    async def revoke(self, request: web.Request) -> web.Response:
        """Answer the ``POST`` of a token, which ends with all that came with it.

        An unknown token gets the same answer (RFC 7009 2.2).
        """
        try:
            form = single(await read_form(request))
            refuse_credentials(request, form)
            self._store.end(require(form, "token"), client_id=require(form, "client_id"))
        except OAuthError as error:
            return error_answer(error)
        return json_answer({})

    async def end_session(self, request: web.Request) -> web.Response:
        """Redirect a browser back to the app. Nobody stays logged in here, so nothing ends."""
        try:
            fields = single(parse_fields(request.rel_url.raw_query_string))
        except OAuthError as error:
            return error_page(error.description, status=error.status)
        back = fields.get("post_logout_redirect_uri", "")
        if redirect_origin(back, self._page_origin) is None:
            return error_page(
                "The post_logout_redirect_uri is missing, or leads elsewhere than to this machine "
                "or the demo's own page.",
                status=400,
            )
        state = {"state": fields["state"]} if "state" in fields else {}
        separator = "&" if "?" in back else "?"
        location = back + (separator + urlencode(state) if state else "")
        return web.Response(status=303, headers={"Location": location})
