"""Many users on a Redis Cluster: appended while processes die, listed, erased; every answer is kept to."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alignx import AlignX, PostInteraction, UserEvents
from tests.live.many import ManySuite
from tests.live.suite import ROOT

pytestmark = pytest.mark.live

USERS = 1_500


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManySuite]:
    with ManySuite(tmp_path_factory.mktemp("users"), cluster=True).running() as suite:
        yield suite


def line(user: str) -> UserEvents:
    return UserEvents(user=user, events=(PostInteraction(text=f"I am {user}."),))


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

    with AlignX(many.url, many.new_key("crowd")) as alignx:
        accepted = [outcome.user for outcome in alignx.append_all(lines()) if outcome.accepted]
        assert len(killed) == 2
        assert sorted(accepted, key=str) == names
        assert [user.user for user in alignx.all_users()] == names
        assert alignx.users(prefix="u000", limit=1).total == 100


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


def test_a_file_goes_in_and_out_by_the_command_line(many: ManySuite, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows = "".join(f"shop-{number},post,I bought number {number}.\n" for number in range(40))
    path.write_text(f"user,type,text\n{rows}shop-x,post,{'x' * 70_000}\n")

    def alignx(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alignx.cli", "--url", many.url, "--key", key, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    key = many.new_key("shop")
    refused = alignx("ingest", str(path))
    assert (refused.returncode, "history.csv, line 42: 70,0" in refused.stderr) == (1, True), refused.stderr
    assert alignx("ingest", str(path), "--skip-bad").returncode == 0
    assert alignx("users", "count").stdout == "40\n"
    assert alignx("users", "list", "--ids").stdout.splitlines() == sorted(f"shop-{number}" for number in range(40))
    assert alignx("users", "erase", "--prefix", "shop-", "--yes").returncode == 0
    assert alignx("users", "count").stdout == "0\n"
