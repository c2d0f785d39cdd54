"""Sidecars that share introspection answers in a real Redis: one question for all, no older answer
than without it, and no answer from it that was not sealed by one of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from sidecar.bootstrap.build import Sidecar, build
from sidecar.check.shared_cache import shared_cache
from sidecar.conformance.finding import State
from sidecar.server.listener import listen
from sidecar.tokens import redis_client
from tests.certificates import certificate
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active, to_the_token
from tests.fakes.site import site_settings
from tests.real.redis_server import RedisProcess, redis_server
from tests.waiting import WAIT_SECONDS, wait_until_async

pytestmark = pytest.mark.redis

ROW = {
    "00100020": {"vr": "LO", "Value": [PATIENT]},
    "0020000D": {"vr": "UI", "Value": [STUDY]},
}
JUNK = "a-token-of-nobody"


@pytest.fixture(scope="module")
def running() -> Iterator[RedisProcess]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def redis(running: RedisProcess) -> RedisProcess:
    async with database(running.url) as client:
        await client.flushall()
    return running


@pytest.fixture
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given up early on a busy machine, where time is not the subject."""
    monkeypatch.setattr(redis_client, "SECONDS", 3)


@contextlib.asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    """The server as an operator, or a thief, sees it."""
    client = Redis.from_url(url, protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


class Caller:
    """An app at one of the sidecars."""

    def __init__(self, url: str, sidecar: Sidecar, session: aiohttp.ClientSession) -> None:
        self._url = f"{url}/fhir/ImagingStudy"
        self._sidecar = sidecar
        self._session = session

    async def status(self, token: str = TOKEN, **headers: str) -> int:
        """Search, and return the status."""
        async with self._session.get(
            self._url,
            params={"patient": PATIENT},
            headers={"Authorization": f"Bearer {token}", **headers},
        ) as response:
            return response.status

    def count(self, name: str, **labels: str) -> float:
        """Return a metric."""
        value = self._sidecar.metrics.registry.get_sample_value("smart_imaging_" + name, labels)
        return value or 0

    def invalidate(self) -> None:
        """Forget everything, as ``/admin/invalidate`` does."""
        self._sidecar.invalidation.invalidate()


@contextlib.asynccontextmanager
async def callers(
    ehr: ScriptedEhr, tmp_path: Path, count: int, *caches: dict[str, Any]
) -> AsyncIterator[list[Caller]]:
    """Run sidecars at one EHR; ``caches`` are their ``tokens.cache``, the last of all others.

    An ``audience`` among them is ``tokens.audience``.
    """
    key = tmp_path / "key"
    key.write_text("k" * 64)
    archive = RowArchive(ROW, filters=False)
    async with contextlib.AsyncExitStack() as stack:

        async def serve(app: web.Application) -> int:
            return await stack.enter_async_context(listen(app, "127.0.0.1", 0, drain_seconds=0))

        ehr_port, root = await serve(ehr.app()), await serve(archive.app())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = []
        for number in range(count):
            cache = {"key_file": str(key), **caches[min(number, len(caches) - 1)]}
            tokens = {"audience": cache.pop("audience", []), "cache": cache}
            settings = site_settings(
                ehr_port,
                f"http://127.0.0.1:{root}/rs",
                {"tokens": tokens, "fhir": {"detail": "study"}},
            )
            sidecar = await stack.enter_async_context(build(settings))
            port = await serve(sidecar.public)
            made.append(Caller(f"http://127.0.0.1:{port}", sidecar, session))
        yield made


@pytest.fixture
def ehr() -> ScriptedEhr:
    return ScriptedEhr(answer=to_the_token(active(PATIENT)))


@pytest.mark.usefixtures("patient_client")
@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_one_introspection_for_all(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path, way: str
) -> None:
    """Good tokens and bad ones: the first asks, the others take it over, then each has it."""
    url = redis.url if way == "tcp" else f"unix://{redis.socket}"
    async with callers(ehr, tmp_path, 3, {"url": url}) as all_of_them:
        for _ in range(2):
            assert [await one.status() for one in all_of_them] == [200] * 3
            assert [await one.status(JUNK) for one in all_of_them] == [401] * 3
        assert ehr.introspections == 2
        for number, one in enumerate(all_of_them):
            found = {
                result: one.count("token_cache_lookups_total", result=result)
                for result in ("miss", "shared_hit", "shared_negative_hit", "hit", "negative_hit")
            }
            misses, shared = (2, 0) if number == 0 else (0, 1)
            assert found == {
                "miss": misses,
                "shared_hit": shared,
                "shared_negative_hit": shared,
                "hit": 1,
                "negative_hit": 1,
            }
        assert all_of_them[0].count("shared_token_cache_total", outcome="stored") == 2


@pytest.mark.usefixtures("patient_client")
async def test_a_thief_of_the_database_learns_nothing(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path
) -> None:
    """Neither token, patient, app nor user; and everything there ends in time."""
    ehr.answer = to_the_token(active(PATIENT, sub="dr-recognizable", client_id="the-viewer"))
    async with callers(ehr, tmp_path, 1, {"url": redis.url, "ttl_seconds": 60}) as (one,):
        assert await one.status() == 200
        assert await one.status(JUNK) == 401
        async with database(redis.url) as client:
            names = sorted(await client.keys("*"))
            everything = b"".join([name + await client.get(name) for name in names])
            lives = sorted([await client.pttl(name) for name in names])
    assert len(names) == 2
    assert all(name.startswith(b"smart-imaging-sidecar:token:") for name in names)
    for secret in (TOKEN, JUNK, PATIENT, "recognizable", "viewer", "Imaging", "active"):
        assert secret.encode() not in everything.removeprefix(b"smart-imaging")
    assert 0 < lives[0] <= 10_000 < lives[1] <= 60_000


@pytest.mark.usefixtures("patient_client")
async def test_a_revoked_token_ends_at_all_within_the_ttl(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path
) -> None:
    ttl = 8
    async with callers(ehr, tmp_path, 2, {"url": redis.url, "ttl_seconds": ttl}) as both:
        assert [await one.status() for one in both] == [200, 200]
        ehr.answer, revoked_at = {"active": False}, monotonic()
        last_good = 0.0

        async def statuses() -> set[int]:
            nonlocal last_good
            began = monotonic()
            found = {await one.status() for one in both}
            last_good = began if 200 in found else last_good
            return found

        await wait_until_async("the end", statuses, lambda found: found == {401})
    assert last_good < revoked_at + ttl
    assert ehr.introspections <= 4


@pytest.mark.usefixtures("patient_client")
async def test_what_was_flushed_is_asked_for_again(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path
) -> None:
    async with callers(ehr, tmp_path, 2, {"url": redis.url}) as (one, other):
        assert await one.status() == 200
        async with database(redis.url) as client:
            await client.flushall()
        assert await other.status() == 200
        assert ehr.introspections == 2


@pytest.mark.usefixtures("patient_client")
async def test_no_cache_and_invalidate_reach_no_tokens(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path
) -> None:
    """As without the shared cache: revocation has a bound of its own (docs/limits.md)."""
    for cache in ({"url": redis.url}, {"key_file": None}):
        before = ehr.introspections
        async with callers(ehr, tmp_path, 2, cache) as both:
            for one in both:
                assert await one.status() == 200
                one.invalidate()
                assert await one.status(**{"Cache-Control": "no-cache"}) == 200
        assert ehr.introspections == before + (1 if "url" in cache else 2)


async def test_a_stopped_server_stops_nobody(
    ehr: ScriptedEhr, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server() as server:
        async with callers(ehr, tmp_path, 2, {"url": server.url}) as both:
            server.stop()
            for number in range(10):
                assert [await one.status(f"{JUNK}{number}") for one in both] == [401, 401]
                assert [await one.status() for one in both] == [200, 200]
            assert ehr.introspections == 22
            for one in both:
                failures = one.count("shared_token_cache_total", outcome="unavailable")
                assert failures >= 3
                assert one.count("shared_token_cache_total", outcome="circuit_open") > 10
            assert caplog.text.count("the shared token cache cannot be used") == 2
            assert TOKEN not in caplog.text
            server.start()
            numbers = iter(range(100_000))

            async def shared() -> float:
                token = f"again{next(numbers)}"
                assert [await one.status(token) for one in both] == [401, 401]
                return both[1].count("token_cache_lookups_total", result="shared_negative_hit")

            await wait_until_async("the server", shared)


async def test_a_frozen_server_stops_nobody(ehr: ScriptedEhr, tmp_path: Path) -> None:
    """After a few short waits nobody waits for it; then it is used again, and says nothing old."""
    with redis_server() as server:
        async with callers(ehr, tmp_path, 2, {"url": server.url}) as both:
            numbers = iter(range(100_000))
            assert [await one.status(f"first{next(numbers)}") for one in both] == [401, 401]
            with server.frozen():
                for _ in range(20):
                    async with asyncio.timeout(WAIT_SECONDS):
                        token = f"frozen{next(numbers)}"
                        found = await asyncio.gather(*(one.status(token) for one in both))
                        assert found == [401, 401]
                    assert await both[0].status() == 200
                for one in both:
                    opened = one.count("shared_token_cache_total", outcome="circuit_open")
                    failed = one.count("shared_token_cache_total", outcome="unavailable")
                    assert failed >= 3
                    assert opened > failed

            async def shared() -> float:
                token = f"again{next(numbers)}"
                assert [await one.status(token) for one in both] == [401, 401]
                return both[1].count("token_cache_lookups_total", result="shared_negative_hit")

            await wait_until_async("the server", shared)
            assert [await one.status() for one in both] == [200, 200]


@pytest.mark.usefixtures("patient_client")
@pytest.mark.parametrize(
    "forgery", ["swapped", "truncated", "flipped", "garbage", "pickle", "long", "list", "endless"]
)
async def test_a_forged_entry_lets_nobody_in(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path, forgery: str
) -> None:
    """Whoever can write there makes questions, no answers."""
    async with callers(ehr, tmp_path, 2, {"url": redis.url}) as (one, other):
        assert (await one.status(), await one.status(JUNK)) == (200, 401)
        async with database(redis.url) as client:
            entries = {name: await client.get(name) for name in await client.keys("*")}
            names = list(entries)
            for name, value in entries.items():
                forged: bytes | None = {
                    "swapped": entries[names[1 - names.index(name)]],
                    "truncated": value[:-1],
                    "flipped": value[:20] + bytes([value[20] ^ 1]) + value[21:],
                    "garbage": b"{}",
                    "pickle": b"\x80\x04cos\nsystem\n.",
                    "long": b"x" * 2**20,
                    "endless": value,
                }.get(forgery)
                await client.delete(name)
                if forged is None:
                    await client.rpush(name, value)
                else:
                    await client.set(name, forged, px=None if forgery == "endless" else 60_000)
        ehr.answer = {"active": False}
        assert (await other.status(), await other.status(JUNK)) == (401, 401)
        assert ehr.introspections == 4
        assert not other.count("token_cache_lookups_total", result="shared_hit")


@pytest.mark.usefixtures("patient_client")
@pytest.mark.parametrize(("differs", "statuses"), [("key", [200, 200]), ("audience", [200, 401])])
async def test_another_key_or_configuration_shares_nothing(
    ehr: ScriptedEhr, redis: RedisProcess, tmp_path: Path, differs: str, statuses: list[int]
) -> None:
    """In the middle of a change nobody is let in by those who do not have it yet."""
    other_key = tmp_path / "other-key"
    other_key.write_text("K" * 64)
    changes: dict[str, dict[str, Any]] = {
        "key": {"key_file": str(other_key)},
        "audience": {"audience": ["somebody"]},
    }
    caches = ({"url": redis.url}, {"url": redis.url, **changes[differs]})
    async with callers(ehr, tmp_path, 2, *caches) as both:
        assert [await one.status() for one in both] == statuses
    assert ehr.introspections == 2


@pytest.mark.usefixtures("patient_client")
async def test_a_server_that_is_full_is_read_and_stops_nobody(
    ehr: ScriptedEhr, tmp_path: Path
) -> None:
    with redis_server("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        async with callers(ehr, tmp_path, 2, {"url": server.url}) as both:
            assert [await one.status() for one in both] == [200, 200]
            assert both[0].count("shared_token_cache_total", outcome="unavailable") == 1
            assert both[1].count("shared_token_cache_total", outcome="miss") == 1


@pytest.mark.usefixtures("patient_client")
async def test_a_user_with_the_least_permissions_is_enough(
    ehr: ScriptedEhr, tmp_path: Path
) -> None:
    """Those of docs/operations.md. With a wrong password nothing is shared, and nobody stopped."""
    secret, wrong = tmp_path / "secret", tmp_path / "wrong"
    secret.write_text("s3cret-word")
    wrong.write_text("another-word")
    rules = "on >s3cret-word ~smart-imaging-sidecar:token:* +set +getrange +pttl +select"
    users = ("--user", "sidecar", *rules.split(), "--user", "default", "off")
    with redis_server(*users) as server:
        cache = {"url": server.url, "username": "sidecar", "password_file": str(secret)}
        async with callers(ehr, tmp_path, 2, cache) as both:
            assert [await one.status() for one in both] == [200, 200]
        assert ehr.introspections == 1
        broken = {**cache, "password_file": str(wrong)}
        async with callers(ehr, tmp_path, 2, broken) as both:
            assert [await one.status() for one in both] == [200, 200]
        assert ehr.introspections == 3
        for password, state, says in (
            (secret, State.OK, server.url),
            (wrong, State.FAIL, "AuthenticationError"),
        ):
            found = {**cache, "password_file": str(password), "key_file": str(tmp_path / "key")}
            settings = site_settings(1, "http://127.0.0.1:1", {"tokens": {"cache": found}})
            outcome = await shared_cache(settings)
            assert (outcome.state, says in outcome.text) == (state, True)
            assert "word" not in f"{outcome.text}{outcome.hint}".replace("password", "")


@pytest.mark.usefixtures("patient_client")
async def test_tls(ehr: ScriptedEhr, tmp_path: Path) -> None:
    ours, other = certificate(tmp_path, "ours"), certificate(tmp_path, "other")
    files = ("--tls-cert-file", str(ours[0]), "--tls-key-file", str(ours[1]))
    tls = ("--tls-port", "0", *files, "--tls-ca-cert-file", str(ours[0]))
    with redis_server(*tls, "--tls-auth-clients", "no") as server:
        port = server.port
        async with database(server.url) as client:
            await client.config_set("port", 0)
            await client.config_set("tls-port", port)
        url = f"rediss://localhost:{port}"
        async with callers(ehr, tmp_path, 2, {"url": url, "ca_file": str(ours[0])}) as both:
            assert [await one.status() for one in both] == [200, 200]
        assert ehr.introspections == 1
        async with callers(ehr, tmp_path, 1, {"url": url, "ca_file": str(other[0])}) as (one,):
            assert await one.status() == 200
            assert one.count("shared_token_cache_total", outcome="unavailable") == 2
