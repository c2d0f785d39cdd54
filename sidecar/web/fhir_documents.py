"""Answer what describes this server, open and cacheable: CapabilityStatement and others (SIA-3)."""

from typing import Any

from aiohttp import hdrs, web

from sidecar import RELEASED, __version__
from sidecar.common.errors import Problem
from sidecar.dicomweb.media_types import parse_accept
from sidecar.ehr.discovery import Discovery, SmartConfiguration
from sidecar.fhir.capability_statement import (
    OfferedFeatures,
    capability_statement,
    smart_configuration,
)
from sidecar.fhir.frames import structure_definition
from sidecar.fhir.r5 import DEFAULT_VERSION, VERSIONS
from sidecar.web.errors import FHIR_JSON, json_response
from sidecar.web.negotiate import answer, how_to_read

_PUBLIC = {"Cache-Control": "public, max-age=300"}


class FhirDocuments:
    """The handlers. ``fhir_base``: our FHIR base URL."""

    def __init__(self, discovery: Discovery, offered: OfferedFeatures, *, fhir_base: str) -> None:
        self._discovery = discovery
        self._offered = offered
        self._fhir_base = fhir_base

    async def metadata(self, request: web.Request) -> web.Response:
        """Answer ``GET [base]/metadata``."""
        statement = capability_statement(
            fhir_base=self._fhir_base,
            version=__version__,
            released=RELEASED,
            smart=await self._smart(),
        )
        return _public(request, statement)

    async def structure_definition(self, request: web.Request) -> web.Response:
        """Answer ``GET [base]/StructureDefinition/number-of-frames``: the extension that we use."""
        return _public(request, structure_definition(self._fhir_base, RELEASED))

    async def versions(self, request: web.Request) -> web.Response:
        """Answer ``GET [base]/$versions`` (R4 capabilitystatement-operation-versions)."""
        if any(
            media_range.name == FHIR_JSON
            for media_range in parse_accept(request.headers.get(hdrs.ACCEPT, ""))
        ):
            values = [*(("version", version) for version in VERSIONS), ("default", DEFAULT_VERSION)]
            parameters = [{"name": name, "valueCode": version} for name, version in values]
            return json_response(
                {"resourceType": "Parameters", "parameter": parameters}, headers=_PUBLIC
            )
        body = {"versions": list(VERSIONS), "default": DEFAULT_VERSION}
        return json_response(body, content_type="application/json", headers=_PUBLIC)

    async def smart_configuration(self, request: web.Request) -> web.Response:
        """Answer ``GET [base]/.well-known/smart-configuration``."""
        return json_response(await self._smart(), content_type="application/json", headers=_PUBLIC)

    async def _smart(self) -> dict[str, Any]:
        try:
            ehr = await self._discovery.configuration()
        except Problem:
            ehr = SmartConfiguration(None, None, None, None)
        return smart_configuration(
            self._offered,
            ehr.authorization_metadata,
            issuer=ehr.issuer,
            authorization=ehr.authorization_endpoint,
            token=ehr.token_endpoint,
        )


def _public(request: web.Request, resource: dict[str, Any]) -> web.Response:
    """Return the answer with a resource that is everybody's."""
    version, result = how_to_read(request)
    response = answer(request, resource, version=version, pretty=result.pretty)
    response.headers.update(_PUBLIC)
    return response
