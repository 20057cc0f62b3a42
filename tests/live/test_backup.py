"""Backup and restore of a whole suite at work, with `python -m services.admin` in a process of its own."""

from pathlib import Path

import httpx
import orjson
import pytest

from tests.live.suite import Suite

pytestmark = pytest.mark.live

WAIT = {"Prefer": "wait=20"}


def exported(suite: Suite, tenant: str, user: str) -> bytes:
    with suite.client(tenant) as client:
        answer = client.get(f"/v1/users/{user}/export")
        assert answer.status_code == 200, answer.text
        head, *rest = answer.content.splitlines(keepends=True)
    return b"".join([orjson.dumps(orjson.loads(head) | {"exported_at": ""}), b"\n", *rest])


def test_what_was_asked_for_comes_back_and_nothing_else(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "all.alignx.gz"
    for tenant in ("backup-a", "backup-b"):
        for user in ("ada", "bob"):
            with suite.client(tenant) as client:
                for text in (f"I am {user} of {tenant}.", "I like short answers."):
                    body = {"events": [{"type": "statement", "text": text}]}
                    client.post(f"/v1/users/{user}/events", json=body, headers=WAIT).raise_for_status()
    before = {user: exported(suite, "backup-b", user) for user in ("ada", "bob")}
    assert "users with" in suite.admin("backup", file)

    with suite.client("backup-a") as client:
        assert client.delete("/v1/users/ada").status_code == 204
    with suite.client("backup-b") as client:
        for user in ("ada", "bob"):
            assert client.delete(f"/v1/users/{user}").status_code == 204
    untouched = exported(suite, "backup-a", "bob")

    assert "2 new" in suite.admin("restore", file, "--tenant", "backup-b")
    assert {user: exported(suite, "backup-b", user) for user in ("ada", "bob")} == before
    assert exported(suite, "backup-a", "bob") == untouched
    with suite.client("backup-a") as client:
        assert client.get("/v1/users/ada/preferences").status_code == 404

    # The restored users live on: what they send next becomes their next version.
    with suite.client("backup-b") as client:
        body = {"events": [{"type": "statement", "text": "I moved to Oslo."}]}
        accepted = client.post("/v1/users/ada/events", json=body, headers=WAIT).json()
        assert accepted["version"] == orjson.loads(before["ada"].splitlines()[0])["version"] + 1
    assert "exist already" in suite.admin("restore", file, code=1)


def test_an_empty_suite_gets_everything_back_keys_included(tmp_path: Path) -> None:
    file = tmp_path / "all.alignx.gz"
    first, second = Suite(folder(tmp_path / "first")), Suite(folder(tmp_path / "second"))
    body = {"events": [{"type": "statement", "text": "I like short answers."}]}
    try:
        key = first.up().new_key("acme")
        with httpx.Client(base_url=first.url, headers={"Authorization": f"Bearer {key}"}) as client:
            client.post("/v1/users/ada/events", json=body, headers=WAIT, timeout=30).raise_for_status()
            before = client.get("/v1/users/ada/export").content.splitlines()[1:]
        first.admin("backup", file)
        first.down()
        second.up()
        assert "1 new" in second.admin("restore", file)
        with httpx.Client(base_url=second.url, headers={"Authorization": f"Bearer {key}"}) as client:
            assert client.get("/v1/users/ada/export").content.splitlines()[1:] == before
    finally:
        first.down()
        second.down()


def folder(path: Path) -> Path:
    path.mkdir()
    return path
