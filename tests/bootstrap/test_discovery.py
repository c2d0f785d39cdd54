"""``/readyz`` needs the EHR's smart-configuration only where a member of it is needed."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.bootstrap.build import Sidecar, build
from sidecar.bootstrap.discovery import needed_of_discovery, reads_fhir
from sidecar.server.listener import listen
from sidecar.settings.adapter import ADAPTER
from sidecar.settings.document import Settings
from tests.ehr.backend import EC_KEY, pem
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, patient
from tests.sidecar_process import free_port
from tests.web.tape import Tape

URL = "https://ehr.example.org/fixed"
NONE: dict[str, Any] = {"method": "none"}
FIXED = {"introspection": {"url": URL}}
KEYS = {"validation": "jwt", "audience": ["us"], "client": None}
SIGNED = {"client": {"method": "client_secret_basic", "client_id": "us", "client_secret": "secret"}}
BOTH = {"validation": "jwt_then_introspection", "audience": ["us"]}
JWKS = {"jwt": {"jwks_url": URL}}
ISSUER = {"ehr": {"issuer": URL}}
EHR = {"mapping": "ehr", "identifiers": [{"system": "urn:x"}]}
GROUPS = {"access": {"backend_services": True, "clients": {"app": {"groups": ["g1"]}}}}

# What is configured -> what is needed of discovery, and whether the FHIR server is read.
TABLE: dict[str, tuple[dict[str, Any], set[str], bool]] = {
    "nothing": ({}, {"introspection_endpoint"}, False),
    "introspection": ({"tokens": FIXED}, set(), False),
    "introspection, ehr": ({"tokens": FIXED, "patients": EHR}, set(), True),
    "introspection, groups": ({"tokens": FIXED, **GROUPS}, set(), True),
    "an issuer does not help": (ISSUER, {"introspection_endpoint"}, False),
    "signed answers": (
        {"tokens": {"introspection": {"url": URL, "signed": True}, **SIGNED}},
        {"jwks_uri", "issuer"},
        False,
    ),
    "signed answers, keys": (
        {"tokens": {"introspection": {"url": URL, "signed": True}, **SIGNED, **JWKS}},
        {"issuer"},
        False,
    ),
    "signed answers, keys, issuer": (
        {"tokens": {"introspection": {"url": URL, "signed": True}, **SIGNED, **JWKS}, **ISSUER},
        set(),
        False,
    ),
    "jwt": ({"tokens": KEYS}, {"jwks_uri", "issuer"}, False),
    "jwt, introspection": ({"tokens": KEYS | FIXED}, {"jwks_uri", "issuer"}, False),
    "jwt, keys": ({"tokens": KEYS | JWKS}, {"issuer"}, False),
    "jwt, issuer": ({"tokens": KEYS, **ISSUER}, {"jwks_uri"}, False),
    "jwt, keys, issuer": ({"tokens": KEYS | JWKS, **ISSUER}, set(), False),
    "jwt, keys, issuer, ehr": ({"tokens": KEYS | JWKS, "patients": EHR, **ISSUER}, set(), True),
    "both": ({"tokens": BOTH | JWKS, **ISSUER}, {"introspection_endpoint"}, False),
    "both, introspection": ({"tokens": BOTH | JWKS | FIXED, **ISSUER}, set(), False),
    "backend introspection": ({"tokens": FIXED | {"client": "backend"}}, {"token_endpoint"}, False),
    "backend, but jwt": ({"tokens": KEYS | JWKS | {"client": "backend"}, **ISSUER}, set(), False),
    "backend patients": (
        {"tokens": FIXED, "patients": EHR | {"client": "backend"}},
        {"token_endpoint"},
        True,
    ),
    "backend patients, but direct": (
        {"tokens": FIXED, "patients": {"client": "backend"}},
        set(),
        False,
    ),
    "backend groups": (
        {"tokens": FIXED, "patients": {"client": "backend"}, **GROUPS},
        {"token_endpoint"},
        True,
    ),
}


def settings(changes: dict[str, Any], key: Path, fhir: str, pacs: str) -> Settings:
    """The configuration of a row of the table."""
    backend = {
        "method": "backend_services",
        "client_id": "us",
        "private_key_file": str(key),
        "algorithm": "ES384",
    }
    document: dict[str, Any] = {
        "server": {"public_url": "http://sidecar.example.org"},
        "ehr": {"fhir_url": fhir},
        "tokens": {"client": NONE},
        "patients": {},
        "pacs": {"url": pacs},
        "access": {},
    }
    for section, values in changes.items():
        document[section] |= values
    for section in ("tokens", "patients"):
        if document[section].get("client") == "backend":
            document[section]["client"] = backend
    return ADAPTER.validate_python(document)


@contextlib.asynccontextmanager
async def running(
    changes: dict[str, Any], key: Path, ehr: web.Application | None
) -> AsyncIterator[tuple[Sidecar, str]]:
    """A sidecar before an EHR, ``None``: nobody listens there; and its URL."""
    async with contextlib.AsyncExitStack() as stack:
        port = (
            free_port()
            if ehr is None
            else await stack.enter_async_context(listen(ehr, "127.0.0.1", 0))
        )
        pacs = await stack.enter_async_context(ScriptedPacs(Tape()).serve())
        fhir = f"http://127.0.0.1:{port}/fhir"
        if changes.get("tokens") == FIXED:
            changes = changes | {
                "tokens": {"introspection": {"url": f"http://127.0.0.1:{port}/introspect"}}
            }
        sidecar = await stack.enter_async_context(build(settings(changes, key, fhir, pacs)))
        own_port = await stack.enter_async_context(listen(sidecar.public, "127.0.0.1", 0))
        yield (
            sidecar,
            f"http://127.0.0.1:{own_port}",
        )


def without_discovery() -> web.Application:
    """An EHR that introspects, has Patients, and knows nothing of SMART: 404."""
    patients = {PATIENT: patient(PATIENT, ("urn:x", PATIENT))}
    return ScriptedEhr(configuration_status=404, patients=patients).app()


@pytest.mark.parametrize("row", TABLE)
async def test_ready_without_a_smart_configuration_where_nothing_of_it_is_needed(
    row: str, es384_key: Path
) -> None:
    changes, needed, reads = TABLE[row]
    made = settings(changes, es384_key, "http://ehr.example.org/fhir", "http://pacs.example.org")
    assert needed_of_discovery(made) == needed
    assert reads_fhir(made) is reads
    async with running(changes, es384_key, without_discovery()) as (sidecar, _):
        expected = {"ehr": "discovery_unexpected_status (status 404)"} if needed else {}
        assert await sidecar.readiness.problems() == expected


@pytest.mark.parametrize("row", TABLE)
async def test_an_ehr_that_is_not_there_is_a_problem_where_it_is_asked(
    row: str, es384_key: Path
) -> None:
    changes, needed, reads = TABLE[row]
    async with running(changes, es384_key, None) as (sidecar, _):
        expected = {"ehr": "discovery_unreachable (ECONNREFUSED)"} if needed or reads else {}
        assert await sidecar.readiness.problems() == expected


@pytest.mark.parametrize("row", ["introspection", "introspection, ehr"])
async def test_what_is_ready_serves(row: str, es384_key: Path) -> None:
    """Nothing else asks for the smart-configuration on the way of a request."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        running(TABLE[row][0], es384_key, without_discovery()) as (_, url),
        aiohttp.ClientSession(headers=headers) as client,
        client.get(f"{url}/fhir/ImagingStudy?patient={PATIENT}") as response,
    ):
        assert response.status == 200, await response.text()
        assert (await response.json())["total"] == 1


async def test_its_absence_is_logged_once(
    es384_key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(TABLE["introspection, ehr"][0], es384_key, without_discovery()) as (
        sidecar,
        _,
    ):
        for _ in range(3):
            sidecar.readiness.forget()
            assert await sidecar.readiness.problems() == {}
    assert [one.message for one in caplog.records].count("EHR discovery failed") == 1


@pytest.fixture(scope="module")
def es384_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "key.pem"
    file.write_text(pem(EC_KEY))
    return file
