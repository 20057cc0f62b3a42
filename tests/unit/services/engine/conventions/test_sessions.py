"""The header by which a router keeps a user's requests together; test_chat.py of the response service sends it."""

from services.engine.conventions.sessions import HEADER, session_header, session_of


def test_the_hash_depends_on_the_secret_and_both_names() -> None:
    def header(secret: str, tenant: str, user: str) -> str:
        with session_of(tenant, user):
            assert session_header(None) == {}
            return session_header(secret)[HEADER]

    hashes = {header("s", "a", "bc"), header("s", "ab", "c"), header("t", "a", "bc")}
    assert [len(value) for value in hashes] == [32] * 3
    with session_of("a", None):
        assert session_header("s") == {}
