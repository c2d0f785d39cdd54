"""``check`` in front of an EHR that answers a Patient by another record."""

from aiohttp import web

from sidecar.check.run import check
from sidecar.conformance.finding import Finding, State
from tests.check.scripted_site import Pacs, served
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr

MAPPING = {
    "patients": {
        "mapping": "ehr",
        "identifiers": [{"system": "urn:x"}],
        "client": {"method": "none"},
    }
}


class Ehr(ScriptedEhr):
    """Knows one token; ``Patient/<id>`` of its patient, or of anybody (``all``), is answered by
    another record.
    """

    all = False

    def app(self) -> web.Application:
        """With Patients."""
        app = super().app()
        app.router.add_get("/fhir/Patient/{id}", self._patient)
        return app

    async def _introspect(self, request: web.Request) -> web.Response:
        good = (await request.post())["token"] == TOKEN
        return web.json_response(self.answer if good else {"active": False})

    async def _patient(self, request: web.Request) -> web.Response:
        if not self.all and request.match_info["id"] != PATIENT:
            return web.Response(status=404)
        return web.json_response({"resourceType": "Patient", "id": "the-surviving-record"})


async def found(ehr: Ehr) -> dict[str, Finding]:
    """With the patient's token."""
    async with served(ehr, Pacs(), **MAPPING) as settings:
        return {finding.name: finding for finding in await check(settings, TOKEN)}


async def test_the_tokens_patient_was_merged() -> None:
    finding = (await found(Ehr()))["token.search"]
    assert finding.state is State.FAIL
    assert "merged" in finding.text
    assert "If the record was merged, the patient must log in again" in str(finding.hint)


async def test_an_ehr_that_answers_anybody_by_somebodys_record() -> None:
    ehr = Ehr()
    ehr.all = True
    finding = (await found(ehr))["patients.mapping"]
    assert (finding.state, finding.text) == (State.FAIL, "patient_merged")
    assert "Do not serve" in str(finding.hint)
