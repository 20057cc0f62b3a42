"""What an operator sees is there: a real Prometheus scrapes the suite and vLLM under traffic.

Every query of every dashboard, every recording rule and what every alert looks at give figures; under
real faults alerts fire, and they end with the fault. With WRITE_DOCS=1 in the environment the figures
are written into docs/how-to/operations.md.
"""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from alignx import AlignX, ClientError, RetryPolicy, VersionEvent
from alignx.schemas.interactions import ClickInteraction, ComparisonInteraction, Interaction, StatementInteraction
from docker.grafana.write import DASHBOARDS
from docs import write_operations
from docs.write_operations import Reading
from tests.conftest import wait_until
from tests.containers.exported import VLLM_SERIES, rules
from tests.containers.promql import measured, selectors
from tests.live.prometheus import Prometheus
from tests.live.relay import Relay
from tests.live.suite import SERVICES, Suite

pytestmark = pytest.mark.live

WINDOW = "5m"
ROUNDS = 2
LATE_CHATS = 60
CHAT = ({"role": "user", "content": "What should I cook tonight?"},)
SETTINGS = {
    "ALIGNX_SUMMARY__MAX_TOKENS": "48",
    "ALIGNX_SUMMARY__WORKERS": "1",  # one hung update is enough to keep all others waiting
    "ALIGNX_ENGINE__BREAKER_COOLDOWN_S": "1",
    "ALIGNX_QUEUE__BACKOFF_MAX_MS": "1000",
    "ALIGNX_QUEUE__LEASE_MS": "4000",
    "ALIGNX_QUEUE__HEARTBEAT_MS": "500",
    "ALIGNX_METRICS__TENANTS": '["acme"]',
}


@dataclass(frozen=True)
class Watched:
    """The suite, the way to its engine, and who watches both."""

    suite: Suite
    relay: Relay
    prometheus: Prometheus
    engine: str

    def client(self, tenant: str) -> AlignX:
        return AlignX(self.suite.url, self.suite.new_key(tenant), retry=RetryPolicy(retries=0))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> Iterator[Watched]:
    url = httpx.URL(engine_url)
    relay = Relay(url.port or 80)
    engine = f"http://127.0.0.1:{relay.port}/v1"
    suite = Suite(tmp_path_factory.mktemp("watched"), {**SETTINGS, "ALIGNX_ENGINE__URL": engine})
    targets = {job: f"127.0.0.1:{suite.ports[job]}" for job in ("gateway", "preference", "worker", "response")}
    targets["engine"] = f"127.0.0.1:{url.port}"
    home = tmp_path_factory.mktemp("prometheus")
    with closing(relay), suite.running(), Prometheus(home, targets, suite.metrics_token) as prometheus:
        wait_until(lambda: [sample.value for sample in prometheus.query("up")] == [1.0] * 6, 60)
        yield Watched(suite, relay, prometheus, f"http://127.0.0.1:{url.port}")


@pytest.fixture(scope="module")
def used(watched: Watched) -> Watched:
    """After some rounds of everything that clients do, each seen by a scrape of its own."""
    for number in range(ROUNDS):
        with watched.client("acme") as acme, watched.client("small") as small:
            use(acme, f"ada-{number}")
            use(small, f"bob-{number}")
        refused(watched.suite)
        count = scrapes(watched.prometheus)
        wait_until(lambda count=count: scrapes(watched.prometheus) >= count + 2, 30)
    return watched


def scrapes(prometheus: Prometheus) -> float:
    """How often every process was scraped."""
    return min(sample.value for sample in prometheus.query("count_over_time(up[1h])"))


def choices(count: int) -> list[Interaction]:
    return [
        ComparisonInteraction(query=f"dish {index}?", chosen="Soup.", rejected="A long tale about a roast!")
        for index in range(count)
    ]


def use(client: AlignX, user: str) -> None:
    """A user's life, from the first click to the last."""
    client.append(user, [ClickInteraction(clicked="Soup", shown=("Soup", "Roast")), *choices(4)], wait=30)
    watching = threading.Thread(target=watch, args=(client, user))
    watching.start()
    statement = StatementInteraction(text="I like it short.")
    for _ in range(2):
        client.append(user, [statement, *choices(3)], wait=30, idempotency_key="same")
    client.append(user, choices(3), wait=30)
    watching.join(60)
    list(client.stream_chat(CHAT, user=user, max_tokens=16))
    client.chat(CHAT, user=user, max_tokens=16, learn=True)
    client.select(user, ["Soup", "Roast"], query="dinner?")
    client.recommend(user, ["Soup", "Roast", "Salad"], query="dinner?", k=2)
    client.edit(user, "Prefers soup.", if_match=client.preferences(user).etag)
    client.append(user, choices(2), wait=30)
    client.rollback(user, 1, if_match=client.preferences(user).etag)
    client.rebuild(user)
    client.append(user, choices(2), wait=30)
    client.erase(user)
    with pytest.raises(ClientError):
        client.preferences(user)


def watch(client: AlignX, user: str) -> None:
    """Looks on until the second version is there."""
    for event in client.watch(user):
        if isinstance(event, VersionEvent) and event.preferences.version > 1:
            return


def refused(suite: Suite) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        assert httpx.get(f"{suite.url}/v1/models", headers=headers).status_code == 401


# --- figures -----------------------------------------------------------------------------------


def panel_queries() -> list[tuple[str, str, str]]:
    """(dashboard, panel, query) of everything that is shown."""
    return [
        (dashboard.title, panel.title, dashboard.filled(query.expr, WINDOW))
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
    ]


def test_every_query_of_every_dashboard_gives_figures(used: Watched) -> None:
    def empty() -> list[tuple[str, str, str]]:
        return [(dashboard, panel, expr) for dashboard, panel, expr in queries if not used.prometheus.figures(expr)]

    queries = panel_queries()
    wait_until(lambda: not empty(), 20, empty)  # rules are evaluated after what they look at is scraped
    if os.environ.get("WRITE_DOCS"):
        write_operations.write(readings(used))


def readings(used: Watched) -> Iterator[Reading]:
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            for query in panel.queries:
                figures = used.prometheus.figures(dashboard.filled(query.expr, WINDOW))
                yield Reading(dashboard.name, panel, query, [(sample.labels, sample.value) for sample in figures])


def test_every_rule_is_loaded_well_and_looks_at_figures(used: Watched) -> None:
    loaded = used.prometheus.rules()
    assert [rule["name"] for rule in loaded if rule["health"] != "ok"] == []
    shipped = [str(rule[kind]) for kind in ("alert", "record") for rule in rules(kind)]
    assert sorted(rule["name"] for rule in loaded) == sorted(shipped)
    recorded = [str(rule["record"]) for rule in rules("record")]
    looked_at = [str(selector) for rule in rules("alert") for selector in selectors(str(rule["expr"]))]
    compared = [measured(str(rule["expr"])) for rule in rules("alert") if "absent(" not in str(rule["expr"])]
    assert [expr for expr in (*recorded, *looked_at, *compared) if not used.prometheus.query(expr)] == []


def test_the_list_of_the_engines_series_is_what_it_exports(used: Watched) -> None:
    families = text_string_to_metric_families(httpx.get(f"{used.engine}/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name.startswith("vllm:")]
    exported: dict[str, set[str]] = {}
    for sample in samples:
        exported.setdefault(sample.name, set()).update(sample.labels)
    listed = json.loads(VLLM_SERIES.read_text())
    assert {name: exported.get(name) for name in listed} == {name: set(labels) for name, labels in listed.items()}


# --- faults ------------------------------------------------------------------------------------


def test_nothing_fires_while_all_is_well(used: Watched) -> None:
    assert used.prometheus.query('ALERTS{alertstate="firing"}') == []


def test_updates_that_wait_for_a_hung_engine_are_told(used: Watched) -> None:
    used.relay.freeze()
    with used.client("acme") as client:
        for user in ("hung", "waits"):
            client.append(user, choices(2))
        wait_until(lambda: used.prometheus.firing("UpdatesLate"), 90)
        used.relay.mend()
        wait_until(lambda: not used.prometheus.firing("UpdatesLate"), 60)
        wait_until(lambda: client.preferences("waits").version > 0, 30)


def test_an_engine_that_is_gone_is_told(used: Watched) -> None:
    used.relay.cut()
    with used.client("acme") as client:

        def calls_until_open() -> bool:
            with pytest.raises(ClientError):
                client.chat(CHAT, user="ada", max_tokens=4)
            return used.prometheus.firing("EngineBreakerOpen", job="response")

        wait_until(calls_until_open, 60)
        wait_until(lambda: used.prometheus.firing("ErrorBudgetBurn", severity="critical"), 30)
        used.relay.mend()
        wait_until(lambda: answers(client) and not used.prometheus.firing("EngineBreakerOpen"), 60)


def answers(client: AlignX) -> bool:
    try:
        client.chat(CHAT, user="ada", max_tokens=4)
    except ClientError:
        return False
    return True


def test_a_worker_that_was_killed_is_told(used: Watched) -> None:
    used.suite.kill("worker")
    wait_until(lambda: used.prometheus.firing("TargetDown", job="worker"), 30)
    used.suite.start("worker")
    wait_until(lambda: not used.prometheus.firing("TargetDown"), 60)


def test_chats_that_begin_late_are_told(used: Watched) -> None:
    with used.client("acme") as client, ThreadPoolExecutor(LATE_CHATS) as pool:

        def is_firing() -> bool:
            used.relay.freeze()
            late = [pool.submit(client.chat, CHAT, user="ada", max_tokens=4) for _ in range(LATE_CHATS)]
            wait(late, timeout=4)  # of which a slow machine makes few late
            used.relay.mend()
            assert all(chat.result() for chat in late)
            return used.prometheus.firing("FirstTokenBudgetBurn")

        wait_until(is_firing, 120)


def test_an_update_that_ends_its_worker_again_and_again_is_told(used: Watched) -> None:
    used.relay.freeze()
    with used.client("acme") as client:
        client.append("fatal", choices(1))

        def is_told(alert: str) -> bool:
            if used.prometheus.figures("alignx_updates_in_flight > 0"):
                used.suite.kill("worker")
                used.suite.start("worker")
                wait_until(lambda: used.prometheus.query("alignx_updates_in_flight > 0") == [], 30)
            return used.prometheus.firing(alert)

        wait_until(lambda: is_told("DeadLettersGrow"), 120)
        client.append("fatal too", choices(1))  # the first may have been set aside before the third restart
        wait_until(lambda: is_told("LeaseExpiries"), 120)
    used.relay.mend()


def test_a_full_backlog_is_told(used: Watched) -> None:
    used.relay.freeze()
    with used.client("acme") as client:

        def is_firing() -> bool:
            with pytest.raises(ClientError):
                fill(client, "hurry")
            return used.prometheus.firing("BacklogRejects")

        wait_until(is_firing, 60)
    used.relay.mend()


def fill(client: AlignX, user: str) -> None:
    """Sends events until they are refused."""
    while True:
        client.append(user, choices(500))


def test_keys_that_are_not_accepted_are_told(used: Watched) -> None:
    with httpx.Client(base_url=used.suite.url) as nobody:

        def is_firing() -> bool:
            for _ in range(200):
                assert nobody.get("/v1/models").status_code == 401
            return used.prometheus.firing("AuthFailuresSurge")

        wait_until(is_firing, 60)


def test_a_redis_that_is_gone_is_told(used: Watched) -> None:
    used.suite.kill("redis")
    wait_until(lambda: used.prometheus.firing("RedisDown"), 60)
    used.suite.start("redis")
    used.suite.wait_ready(SERVICES)
    wait_until(lambda: not used.prometheus.firing("RedisDown"), 60)


def test_a_redis_without_room_is_told(used: Watched) -> None:
    """The last test: it loses data."""
    with Redis.from_url(used.suite.redis_url) as redis:

        def is_firing() -> bool:
            redis.config_set("maxmemory", redis.info("memory")["used_memory"] * 101 // 100)
            return used.prometheus.firing("RedisMemoryHigh")

        wait_until(is_firing, 60)
        redis.config_set("maxmemory-policy", "allkeys-random")
        redis.config_set("maxmemory", 1)
        wait_until(lambda: used.prometheus.firing("RedisEvictsKeys"), 60)
