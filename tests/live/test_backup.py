"""A backup of one suite restored in another, with `python -m services.admin` in a process of its own."""

from pathlib import Path

import httpx
import pytest

from tests.live.suite import Suite

pytestmark = pytest.mark.live

WAIT = {"Prefer": "wait=20"}


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
