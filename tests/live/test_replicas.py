"""Two of each service at work together, on one Redis and on a cluster of three primaries; there many users are appended
while processes die, listed and erased, and every answer is kept to."""

import re
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from alignx import AlignX, PostInteraction, UserEvents
from tests.conftest import wait_until
from tests.live.many import ManySuite
from tests.live.suite import run

pytestmark = pytest.mark.live

SHORT = "Yes: use DNS."
CANARY = "a canary nobody else says"
WAIT = {"Prefer": "wait=30"}
USERS = 1_500
LONG = "Great question! Let us dive deep into the wonderful and endless world of DNS today!!!"


@pytest.fixture(scope="module", params=[True, False], ids=["cluster", "server"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManySuite]:
    with ManySuite(tmp_path_factory.mktemp("many"), cluster=request.param).running() as suite:
        yield suite


CLUSTER = pytest.mark.parametrize("many", [True], indirect=True, ids=["cluster"])
"""For tests that one server would tell nothing of."""


def comparisons(count: int) -> list[dict[str, str]]:
    return [{"type": "comparison", "query": f"q{i}", "chosen": SHORT, "rejected": LONG} for i in range(count)]


def test_the_main_job_by_either_door(many: ManySuite) -> None:
    with many.doors("spine") as (first, second):
        sent = first.post("/v1/users/ada/events", json={"events": comparisons(8)}, headers=WAIT)
        assert (sent.status_code, sent.json()["version"], sent.json()["pending"]) == (202, 1, 0)
        current = second.get("/v1/users/ada/preferences").json()
        assert (current["source"], current["quality"]["profile"]["comparisons"]) == ("profile", 8)
        chosen = second.post("/v1/users/ada/select", json={"query": "and TLS?", "items": [LONG, SHORT]}).json()
        assert chosen["choice"] == 1
        assert chosen["items"][1]["probability"] > 0.6
        assert second.get("/v1/quality").json()["profile"]["comparisons"] == 8


def test_a_rate_is_one_for_all_doors(many: ManySuite) -> None:
    with many.doors("slow", rate=0.001, burst=10) as doors:
        statuses = [doors[call % 2].get("/v1/users/nobody/preferences").status_code for call in range(20)]
        assert sorted(statuses) == [404] * 10 + [429] * 10


def test_a_key_is_scoped_rotated_and_revoked_at_every_gateway(many: ManySuite) -> None:
    path = "/v1/users/ann/preferences"

    def ask(credential: str, method: str, path: str, gateway: str = many.url, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {credential}"}
        return httpx.request(method, gateway + path, headers=headers, timeout=30, **more)

    def statuses(*credentials: str) -> list[int]:
        """What both gateways answer, each credential in turn."""
        return [ask(each, "GET", path, gateway).status_code for each in credentials for gateway in many.gateways]

    def rotate(**body: Any) -> str:
        return str(ask(many.admin_key, "POST", f"/admin/keys/{key_id}/rotate", json=body).json()["key"])

    def mint(key: str) -> str:
        body = {"user": "ann", "scopes": ["preferences:read"]}
        return str(ask(key, "POST", "/v1/tokens", json=body).json()["token"])

    first = many.new_key("life", scopes=["events:write", "preferences:read", "tokens:mint"])
    key_id = first.split("_")[1]
    ask(first, "POST", "/v1/users/ann/events", json={"events": comparisons(1)}).raise_for_status()
    assert statuses(first) == [200] * 2
    refused = ask(first, "PUT", path, json={"text": "Likes coffee."})
    assert (refused.status_code, refused.json()["scope"]) == (403, "preferences:write")
    assert refused.headers["content-type"] == "application/problem+json"
    token, second = mint(first), rotate()
    assert statuses(first, second, token) == [200] * 6
    third = rotate(overlap_s=0)
    assert statuses(first, second, token, third) == [401] * 6 + [200] * 2
    token = mint(third)
    assert statuses(token) == [200] * 2
    assert ask(many.admin_key, "DELETE", f"/admin/keys/{key_id}").is_success
    assert statuses(third, token) == [401] * 4


def test_an_idempotency_key_holds_for_all_replicas(many: ManySuite) -> None:
    with many.doors("again") as doors:

        def send(call: int) -> httpx.Response:
            headers = {"Idempotency-Key": "one"}
            return doors[call % 2].post("/v1/users/ada/events", json={"events": comparisons(2)}, headers=headers)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(send, range(16)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({tuple(answer.json()["ids"]) for answer in answers}) == 1
        assert sum(not answer.json()["replayed"] for answer in answers) == 1
        assert len(doors[0].get("/v1/users/ada/events").json()["events"]) == 2


def test_a_tenant_comes_back_from_a_backup(many: ManySuite, tmp_path: Path) -> None:
    file = tmp_path / "kept.alignx.gz"
    users = [f"user-{number}" for number in range(12)]  # in several shards
    with many.doors("kept") as (first, second), many.doors("gone") as (elsewhere, _):
        for user in users:
            for door in (first, elsewhere):
                sent = door.post(f"/v1/users/{user}/events", json={"events": comparisons(2)}, headers=WAIT)
                assert sent.json()["pending"] == 0
        before = [events_and_versions(first, user) for user in users]
        many.admin("backup", file)
        left = events_and_versions(elsewhere, users[0])
        for user in users:
            assert first.delete(f"/v1/users/{user}").status_code == 204
        for user in users[1:]:
            assert elsewhere.delete(f"/v1/users/{user}").status_code == 204
        assert f"{len(users)} new" in many.admin("restore", file, "--tenant", "kept")
        assert [events_and_versions(second, user) for user in users] == before
        assert events_and_versions(elsewhere, users[0]) == left, "what nobody asked for stays as it is"
        assert {elsewhere.get(f"/v1/users/{user}/preferences").status_code for user in users[1:]} == {404}
        sent = first.post(f"/v1/users/{users[0]}/events", json={"events": comparisons(1)}, headers=WAIT)
        assert sent.json()["version"] == 2, "the restored live on"
        assert "exist already" in many.admin("restore", file, code=1)


def events_and_versions(door: httpx.Client, user: str) -> list[bytes]:
    exported = door.get(f"/v1/users/{user}/export")
    assert exported.status_code == 200
    return exported.content.splitlines()[1:]  # the header names the time


def test_a_stream_shows_what_a_worker_elsewhere_writes(many: ManySuite) -> None:
    with many.doors("live") as (door, _):
        door.post("/v1/users/ada/events", json={"events": comparisons(1)}, headers=WAIT)
        for url in many.urls("preference"):
            with many.inside(url, "live") as client, client.stream("GET", "/v1/users/ada/preferences/stream") as stream:
                lines = stream.iter_lines()
                before = next_version(lines)
                door.post("/v1/users/ada/events", json={"events": comparisons(1)}).raise_for_status()
                assert next_version(lines) == before + 1


def next_version(lines: Iterator[str]) -> int:
    for line in lines:
        if line == "event: version":
            match = re.search(r'"version":(\d+)', next(lines))
            assert match
            return int(match[1])
    raise AssertionError("the stream ended")


def test_workers_share_the_users_and_double_nothing(many: ManySuite) -> None:
    with many.doors("crowd") as doors:

        def send(user: int) -> None:
            for part in range(4):
                door = doors[(user + part) % 2]
                door.post(f"/v1/users/u{user}/events", json={"events": comparisons(3)}).raise_for_status()
            door.post(f"/v1/users/u{user}/events", json={"events": comparisons(1)}, headers={"Prefer": "wait=30"})

        before = updates(many)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(60)))
        for user in range(60):
            current = doors[user % 2].get(f"/v1/users/u{user}/preferences").json()
            assert (current["pending"], current["events_total"]) == (0, 13)
            assert current["quality"]["profile"]["comparisons"] == 13
            assert sum(version["events"]["count"] for version in versions(doors[0], user)) == 13
        worked = [after - then for after, then in zip(updates(many), before, strict=True)]
        assert min(worked) > 0, worked


def versions(client: httpx.Client, user: int) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = client.get(f"/v1/users/u{user}/preferences/versions").json()["versions"]
    return page


def updates(many: ManySuite) -> list[float]:
    """Updates that each worker committed."""
    pages = [httpx.get(f"{url}/metrics").text for url in many.urls("worker")]
    matches = [re.search(r'^alignx_updates_total\{outcome="committed"\} (\S+)', page, re.MULTILINE) for page in pages]
    return [float(match[1]) if match else 0.0 for match in matches]


def on_disk(home: Path) -> bool:
    """A file that is replaced while it is looked at is looked at again."""
    try:
        return any(CANARY.encode() in path.read_bytes() for path in home.rglob("*") if path.is_file())
    except FileNotFoundError:
        return True


# --- many users --------------------------------------------------------------------------------


def line(user: str) -> UserEvents:
    return UserEvents(user=user, events=(PostInteraction(text=f"I am {user}."),))


@CLUSTER
def test_whoever_is_acknowledged_is_listed_though_services_die(many: ManySuite) -> None:
    names = [f"u{number:05}" for number in range(USERS)]
    killed = []

    def lines() -> Iterator[UserEvents]:
        for number, name in enumerate(names):
            if number in (USERS // 3, 2 * USERS // 3):  # the other replica is at work, and this one comes back
                service = f"preference-{len(killed)}"
                many.kill(service, signal.SIGKILL)
                killed.append(service)
                many.start(service)
                many.wait_ready([service])
            yield line(name)

    with AlignX(many.url, many.new_key("thousands")) as alignx:
        accepted = [outcome.user for outcome in alignx.append_all(lines()) if outcome.accepted]
        assert len(killed) == 2
        assert sorted(accepted, key=str) == names
        assert [user.user for user in alignx.all_users()] == names
        assert alignx.users(prefix="u000", limit=1).total == 100


@CLUSTER
def test_erasures_by_two_callers_end_with_nobody_and_each_in_the_audit_log(many: ManySuite) -> None:
    key = many.new_key("leaving")
    with (
        AlignX(many.url, key) as first,
        AlignX(many.gateways[1], key) as second,
        AlignX(many.url, many.admin_key) as root,
    ):
        list(first.append_all(line(f"t{number}") for number in range(300)))
        list(first.append_all([line("stays")]))

        def erase(client: AlignX) -> list[str]:
            erased: list[str] = []
            while True:
                done = client.erase_users(prefix="t", limit=40)
                erased += done.erased
                if not done.left:
                    return erased

        with ThreadPoolExecutor(2) as threads:
            by_first, by_second = threads.map(erase, (first, second))
        assert sorted([*by_first, *by_second]) == sorted(f"t{number}" for number in range(300))
        assert [user.user for user in first.all_users()] == ["stays"]
        logged = root.audit(tenant="leaving", limit=1_000)
        assert sum(entry.action == "user.erased" for entry in logged.entries) == 300


@CLUSTER
def test_a_file_goes_in_and_out_by_the_command_line(many: ManySuite, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows = "".join(f"shop-{number},post,I bought number {number}.\n" for number in range(40))
    path.write_text(f"user,type,text\n{rows}shop-x,post,{'x' * 70_000}\n")

    alignx = partial(run, sys.executable, "-m", "alignx.cli", "--url", many.url, "--key", many.new_key("shop"))
    assert "history.csv, line 42: 70,0" in alignx("ingest", path, code=1).stderr
    alignx("ingest", path, "--skip-bad")
    assert alignx("users", "count").stdout == "40\n"
    assert alignx("users", "list", "--ids").stdout.splitlines() == sorted(f"shop-{number}" for number in range(40))
    alignx("users", "erase", "--prefix", "shop-", "--yes")
    assert alignx("users", "count").stdout == "0\n"


# --- shards ------------------------------------------------------------------------------------


def test_a_cluster_with_fewer_shards_than_primaries(tmp_path: Path) -> None:
    settings = {"ALIGNX_QUEUE__SHARDS": "2", "ALIGNX_REDIS__REWRITE_AFTER_ERASE_S": "0.1"}
    canary = {"type": "statement", "text": CANARY}
    with ManySuite(tmp_path, settings, replicas=1, cluster=True).running() as few, few.doors("few") as (client,):
        for user in range(8):
            sent = client.post(f"/v1/users/u{user}/events", json={"events": comparisons(2)}, headers=WAIT)
            assert (sent.status_code, sent.json()["version"]) == (202, 1)
            client.post(f"/v1/users/u{user}/events", json={"events": [canary]}).raise_for_status()
        assert on_disk(tmp_path)
        for user in range(8):
            assert client.delete(f"/v1/users/u{user}").status_code == 204
        wait_until(lambda: not on_disk(tmp_path), 120, "a primary has not written its file anew")
