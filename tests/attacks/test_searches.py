"""Made-up searches and reads, with every parameter, modifier and odd value: no 5xx, nothing of
another patient's.
"""

import contextlib
import random
import time
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from sidecar.fhir.search_parameters import PARAMETERS
from tests.attacks.fuzz import archive_of_two
from tests.fakes.ehr import TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.stalls import measured
from tests.tables.fuzz import SECRET
from tests.tables.search_attacks import PATHS, VALUES

SECONDS = 4
NAMES = (*PARAMETERS, "_has:x", "foo")
MODIFIERS = ("", "", ":not", ":missing", ":exact", ":identifier", ":Patient", ":text", ":")
ACCEPTS = (
    "application/fhir+json",
    "*/*",
    "text/html",
    "application/fhir+json; fhirVersion=5.0",
    ";",
)
RULES = {
    "rules": [
        {
            "name": "a",
            "effect": "exclude",
            "study": {"StudyDescription": ["x"]},
            "unknown": "ignored",
        },
        {"name": "b", "effect": "exclude", "series": {"Modality": ["SR"]}, "unknown": "ignored"},
    ]
}


@pytest.mark.parametrize(
    "access",
    [
        pytest.param({}, id="without rules", marks=pytest.mark.exhaustive),
        pytest.param(RULES, id="with rules"),
    ],
)
async def test_made_up_searches(access: dict[str, object], request: pytest.FixtureRequest) -> None:
    """What is asked for is printed when it fails; the seed is the second at which it began."""
    chance = random.Random(seed := int(time.time()))
    caches = {"search_cache_seconds": 0.05}
    async with (
        contextlib.AsyncExitStack() as stack,
        sidecar_between(ScriptedEhr(), archive_of_two(), access=access, limits=caches) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        await (await us.get(url + "/fhir/metadata")).read()
        stack.enter_context(measured(request))
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            query = "&".join(
                f"{quote(chance.choice(NAMES) + chance.choice(MODIFIERS), safe=':._-')}="
                f"{quote(chance.choice(VALUES), safe=chance.choice(['', ',|:']))}"
                for _ in range(chance.randint(1, 4))
            )
            path, headers = (
                chance.choice(PATHS),
                {"Accept": chance.choice(ACCEPTS[:2] * 4 + ACCEPTS)},
            )
            if chance.random() < 0.3:
                headers["Prefer"] = "handling=strict"
            if chance.random() < 0.2:
                headers["If-None-Match"] = chance.choice(["*", '"x"', "W/x"])
            method = chance.choice(["GET", "GET", "HEAD"])
            target = URL(f"{url}{path}?{query}", encoded=True)
            async with us.request(method, target, headers=headers) as answer:
                body = await answer.read()
                said = f"{seed}: {method} {path}?{query} {headers}: {answer.status}"
                assert answer.status < 500, said
                assert SECRET.encode() not in body, said
