"""The attack table's rows on capability addresses (SIA-51)."""

from dataclasses import replace
from typing import Any

from sidecar.access.permits import Capability, Operation, token_hash
from sidecar.authorization.capability_urls import Sealer
from tests.attacks.raw import request
from tests.attacks.row import FOREIGN, REFUSED, Row, row
from tests.capability_keys import CAPABILITY_KEY
from tests.fakes.archive import STUDY
from tests.fakes.ehr import PATIENT, TOKEN

PUBLIC_URL = "http://sidecar.example.org"


def _sealed(**changes: Any) -> str:
    """A capability for the own study and the token that comes with each row."""
    good = Capability(PATIENT, STUDY, frozenset(Operation), 9e9, token_hash(TOKEN))
    return Sealer([CAPABILITY_KEY], PUBLIC_URL).seal(replace(good, **changes))


def _changed(sealed: str) -> str:
    return f"{sealed[:-5]}{'A' if sealed[-5] != 'A' else 'B'}{sealed[-4:]}"


def capabilities() -> list[Row]:
    """An address is for one study; nothing that is appended, changed or put around it leads to
    another (SIA-51).
    """
    sealed = _sealed()
    root = f"/capability/{sealed}"
    foreign = {
        "another study": f"{root}/studies/{FOREIGN}",
        "another study's series": f"{root}/studies/{FOREIGN}/series",
        "another study after its own": f"{root}/studies/{STUDY}/studies/{FOREIGN}",
        "another study by dots": f"{root}/studies/{STUDY}/../{FOREIGN}",
        "another study by encoded dots": f"{root}/studies/{STUDY}/%2e%2e/{FOREIGN}",
        "a list of studies": f"{root}/studies/{STUDY},{FOREIGN}",
        "a list of studies with a backslash": f"{root}/studies/{STUDY}%5c{FOREIGN}",
        "a wildcard": f"{root}/studies/*",
        "the FHIR side": f"{root}/ImagingStudy",
        "the patient's root": f"{root}/Patient/{PATIENT}/$wado-rs/studies/{STUDY}",
        "a changed character": f"/capability/{_changed(sealed)}/studies/{STUDY}",
        "cut off": f"/capability/{sealed[:-1]}/studies/{STUDY}",
        "padded": f"/capability/{sealed}=/studies/{STUDY}",
        "padded and encoded": f"/capability/{sealed}%3d/studies/{STUDY}",
        "the other alphabet": f"/capability/{sealed.replace('-', '%2b').replace('_', '%2f')}%3d/studies/{STUDY}",
        "its first character encoded": f"/capability/%{ord(sealed[0]):02x}{sealed[1:]}/studies/{STUDY}",
        "without key id": f"/capability/{sealed.partition('.')[2]}/studies/{STUDY}",
        "another key id": f"/capability/other.{sealed.partition('.')[2]}/studies/{STUDY}",
        "upper case": f"/capability/{sealed.upper()}/studies/{STUDY}",
        "twice": f"/capability/{sealed}/capability/{sealed}/studies/{STUDY}",
        "in the query": f"/capability/x/studies/{STUDY}?capability={sealed}",
        "empty": f"/capability//studies/{STUDY}",
        "nothing below it": root,
        "out of time": f"/capability/{_sealed(expires_at=1.0)}/studies/{STUDY}",
        "for another patient than the token's": f"/capability/{_sealed(patient='p2')}/studies/{STUDY}",
        "for no operation": f"/capability/{_sealed(operations=frozenset())}/studies/{STUDY}",
        "of another token": f"/capability/{_sealed(token_hash=token_hash('another'))}/studies/{STUDY}",
    }
    made = [row(f"capability: {name}", request(path), *REFUSED) for name, path in foreign.items()]
    own = f"{root}/studies/{STUDY}"
    return [
        *made,
        row("capability: its own study without a token", request(own, token=False), 401),
        row(
            "capability: its own study with another token",
            request(own, "Authorization: Bearer another", token=False), 403,
        ),
        row(
            "capability: its own study, the token in the query",
            request(f"{own}?access_token={TOKEN}", token=False), 401,
        ),
        row("capability: its own study", request(own), 200, pacs="retrieval"),
        row(
            "capability: a query for another study",
            request(f"{root}/studies?StudyInstanceUID={FOREIGN}"), 200, pacs="queries",
        ),
        row(
            "capability: a query for another patient",
            request(f"{root}/studies?PatientID=p2&00100020=p2"), 200, pacs="queries",
        ),
    ]  # fmt: skip
