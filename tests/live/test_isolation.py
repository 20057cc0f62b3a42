"""What one user wrote reaches no other user, and neither logs nor metrics; then a bounded part of `make security`:
tenants, scopes, generated requests, injections, canaries. On real processes, with an engine that keeps every prompt.
A canary is a string that occurs nowhere else.
"""

from collections.abc import Iterator, Sequence

import httpx
import pytest

from tests.conftest import wait_until
from tests.live.suite import SERVICES, Suite
from tests.security import injections, run
from tests.security.operations import CannotFill, Document
from tests.security.run import Row

pytestmark = pytest.mark.live

SEED = 20
CANARY = "u7001n1"
"""A marker of the mock engine, so that it also goes through summaries."""
NAME = "veiled.person@example.org"


@pytest.fixture(scope="module")
def obeyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, str]]:
    with run.obeyed(tmp_path_factory.mktemp("security")) as running:
        yield running


def tell(client: httpx.Client, user: str, word: str) -> None:
    events = [
        {"type": "comparison", "query": f"{word} which?", "chosen": f"good {word}", "rejected": f"bad {word}"},
        {"type": "post", "text": f"I wrote {word}."},
    ]
    for event in events:  # two updates: the second has a past summary, and tests it
        answer = client.post(f"/v1/users/{user}/events", json={"events": [event]}, headers={"Prefer": "wait=20"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["version"], answer.text


def everything(client: httpx.Client, user: str) -> str:
    """All that is served for a user."""
    chat = {"model": "mock", "messages": [{"role": "user", "content": "hello"}], "user": user, "stream": True}
    paths = ("preferences", "preferences/versions", "events", "dead-letters", "export")
    pages = [client.get(f"/v1/users/{user}/{path}").text for path in paths]
    modes = ("summary", "ica", "pba", "direct", "none")
    chats = [client.post("/v1/chat/completions", json={**chat, "personalization": {"mode": mode}}) for mode in modes]
    assert [answer.status_code for answer in chats] == [200] * len(modes)
    chosen = client.post(f"/v1/users/{user}/select", json={"query": "q", "items": ["good tea", "milk"]}).text
    ranked = client.post(f"/v1/users/{user}/recommend", json={"candidates": ["good tea", "milk"], "explain": True}).text
    return "\n".join([*pages, *(answer.text for answer in chats), chosen, ranked])


def test_a_canary_stays_with_its_user(obeyed: tuple[Suite, str]) -> None:
    suite, engine = obeyed
    with suite.client("acme") as acme, suite.client("rival") as rival:
        tell(acme, NAME, CANARY)
        tell(acme, "bob", "u7002n1")
        tell(rival, NAME, "u7003n1")
        assert CANARY in everything(acme, NAME)
        for client, user in ((acme, "bob"), (rival, NAME), (acme, "nobody")):
            assert CANARY not in everything(client, user)
        assert rival.get(f"/v1/users/{NAME}/preferences").json()["text"].count("u7003n1") == 4
    report = httpx.get(f"{engine}/seen", params={"prompts": "1"}).json()
    assert report["foreign"] == 0
    prompts = [prompt for prompt in report["prompts"] if CANARY in prompt]
    assert prompts
    assert not [prompt for prompt in prompts if "u7002n1" in prompt or "u7003n1" in prompt]


def test_prequential_quality_is_kept_apart_by_tenant(obeyed: tuple[Suite, str]) -> None:
    suite, _ = obeyed
    with suite.client("judged") as client, suite.client("elsewhere") as other:
        for number in range(3):
            tell(client, "ada", f"u7004n{number}")
        # A summary's trial is counted behind the commit that a caller waits for.
        wait_until(lambda: client.get("/v1/quality").json().get("engine", {}).get("comparisons") == 2)
        current = client.get("/v1/users/ada/preferences").json()
        quality = client.get("/v1/quality").json()
        assert quality == {scorer: own | {"recent": None} for scorer, own in current["quality"].items()}
        assert quality["engine"] == {
            "comparisons": 2,
            "accuracy": 1.0,
            "low": 0.3424,
            "high": 1.0,
            "mean_probability": quality["engine"]["mean_probability"],
            "recent": None,
        }
        assert quality["engine"]["mean_probability"] > 0.8
        assert quality["profile"]["comparisons"] == 3
        assert other.get("/v1/quality").json() == {}
        version = client.get("/v1/users/ada/preferences/versions/2").json()
        assert (version["source"], version["template"], version["parent"]) == ("llm:mock-1", "update/2", 1)
        assert version["tokens"] == {"prompt": 9, "completion": 3, "cached": 4}


def test_logs_and_metrics_hold_no_user(obeyed: tuple[Suite, str]) -> None:
    suite, _ = obeyed
    with suite.client("acme") as client:
        tell(client, NAME, CANARY)
        _behave_badly(client)
        assert client.delete(f"/v1/users/{NAME}").status_code == 204
    for name in SERVICES:
        metrics = suite.metrics(name)
        for word in (CANARY, "veiled"):
            assert word not in metrics, name
            assert word not in suite.log(name), name


def _behave_badly(client: httpx.Client) -> None:
    """Every kind of refusal quotes something; none of it may reach a log."""
    user = f"/v1/users/{NAME}"
    client.post(f"{user}/events", json={"events": [{"type": CANARY}]})
    json_type = {"Content-Type": "application/json"}
    client.post(f"{user}/events", content=f'{{"events": "{CANARY}', headers=json_type)
    client.post(f"{user}/events", json={"events": [{"type": "post", "text": CANARY, "veiled": CANARY}]})
    client.post(f"{user}/events", json={"events": [{"type": "post", "text": CANARY * 20_000}]})
    client.put(f"{user}/preferences", json={"text": CANARY}, headers={"If-Match": f'"{CANARY}"'})
    client.get(f"{user}/events", params={"after": CANARY})
    client.get(f"/v1/{CANARY}/{NAME}")
    client.get(f"{user}/preferences/stream", headers={"Last-Event-ID": CANARY})
    client.post(f"{user}/select", json={"query": CANARY, "items": [CANARY]})
    client.post("/v1/chat/completions", json={"model": CANARY, "messages": CANARY, "user": NAME})
    client.get(f"{user}/preferences", headers={"Authorization": f"Bearer {CANARY}"})


# --- as in make security -----------------------------------------------------------------------


def wrong(rows: Sequence[Row]) -> dict[str, Sequence[str]]:
    assert all(row.count for row in rows), "a row that tries nothing proves nothing"
    return {row.tried: row.wrong[:5] for row in rows if row.wrong}


def test_no_call_reaches_another_tenant(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_isolation(*obeyed)) == {}


def test_a_key_or_token_does_what_the_openapi_document_says(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_scopes(obeyed[0])) == {}


def test_generated_requests_are_answered_in_form(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_requests(obeyed[0], 500, SEED)) == {}


def test_hostile_texts_reach_no_other_role_and_no_other_user(obeyed: tuple[Suite, str]) -> None:
    outcomes = injections.inject(obeyed[0], injections.make_pairs(injections.SLOTS, 1, SEED), obeyed[1])
    assert wrong(run.injection_rows({"obeying": outcomes})) == {}
    assert sum(bool(outcome.prompts) for outcome in outcomes) > 100


def test_no_log_and_no_metric_holds_a_canary(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_canaries(obeyed[0])) == {}


def test_a_route_that_cannot_be_filled_in_fails() -> None:
    parameter = {"name": "thing", "in": "path", "required": True, "schema": {"type": "string"}}
    document = Document({"paths": {"/v1/things/{thing}": {"get": {"parameters": [parameter]}}}})
    with pytest.raises(CannotFill, match="thing"):
        document.operations[0].fill({"user": ["ada"]})
