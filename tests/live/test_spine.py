"""The main job through the real suite: history in, summary out, selection on it."""

from tests.live.suite import Suite


def test_history_becomes_a_summary_that_selects(suite: Suite) -> None:
    short, long = (
        "Yes: use DNS.",
        "Great question! Let us dive deep into the wonderful and endless world of DNS today!!!",
    )
    events = [{"type": "comparison", "query": f"q{i}", "chosen": short, "rejected": long} for i in range(8)]
    with suite.client("spine") as client:
        accepted = client.post("/v1/users/ada/events", json={"events": events}, headers={"Prefer": "wait=10"})
        assert accepted.status_code == 202
        assert accepted.json()["version"] == 1
        assert accepted.json()["pending"] == 0
        current = client.get("/v1/users/ada/preferences").json()
        assert current["source"] == "profile"
        assert current["quality"]["profile"]["comparisons"] == 8
        chosen = client.post("/v1/users/ada/select", json={"query": "and TLS?", "items": [long, short]}).json()
        assert chosen["choice"] == 1
        assert chosen["items"][1]["probability"] > 0.6
