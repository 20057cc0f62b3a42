"""The header by which a router keeps a user's requests together."""

import asyncio

import pytest

from services.engine.conventions.sessions import HEADER, session_header, session_of
from services.engine.limits import Engine
from tests.unit.services.engine.fake_engine import MESSAGES, SAMPLING, FakeEngine, chat_bytes
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


@with_settings(session_secret="a secret")
async def test_requests_of_a_user_carry_one_hash_and_no_id(fake: FakeEngine, engine: Engine) -> None:
    with session_of("acme", "ada"):
        await engine.complete(MESSAGES, **SAMPLING)
        await asyncio.create_task(chat_bytes(engine, {"messages": MESSAGES}))
    with session_of("other", "ada"):
        await engine.complete(MESSAGES, **SAMPLING)
    await engine.complete(MESSAGES, **SAMPLING)
    first, again, other, nobody = [headers.get(HEADER) for headers in fake.headers]
    assert first == again
    assert len({first, other, nobody, None}) == 3
    assert nobody is None
    assert first
    assert len(first) == 32
    assert "ada" not in str(fake.headers)


async def test_without_the_setting_nothing_is_sent(fake: FakeEngine, engine: Engine) -> None:
    with session_of("acme", "ada"):
        await engine.complete(MESSAGES, **SAMPLING)
    assert HEADER not in fake.headers[0]


def test_the_hash_depends_on_the_secret_and_both_names() -> None:
    def header(secret: str, tenant: str, user: str) -> str:
        with session_of(tenant, user):
            return session_header(secret)[HEADER]

    hashes = {header("s", "a", "bc"), header("s", "ab", "c"), header("t", "a", "bc")}
    assert len(hashes) == 3
    with session_of("a", None):
        assert session_header("s") == {}
