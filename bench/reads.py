"""Reading a summary: whole, and conditionally, through the gateway and directly by turns."""

from bench.harness import callers, comparison, running_suite
from bench.page import Row, median_ms, percentile

READS = 500


def measure() -> list[Row]:
    with running_suite() as suite, suite.client("reads") as client:
        events = {"events": [comparison(number) for number in range(20)]}
        client.post("/v1/users/ada/events", json=events, headers={"Prefer": "wait=20"}).raise_for_status()
        path = "/v1/users/ada/preferences"
        tag = client.get(path).headers["ETag"]
        gateway, service = callers(suite, "preference", "reads")
        through: list[float] = []
        direct: list[float] = []
        unchanged: list[float] = []
        for _ in range(READS):
            through.append(gateway("GET", path))
            direct.append(service("GET", path))
            unchanged.append(gateway("GET", path, headers={"If-None-Match": tag}))
    return [
        Row("read a summary through the gateway, p50", median_ms(through), "ms", "≤ 2"),
        Row("read a summary through the gateway, p99", percentile(through, 0.99) * 1000, "ms"),
        Row("the same directly at the service, p50", median_ms(direct), "ms"),
        Row("gateway / direct", median_ms(through) / median_ms(direct), "ratio"),
        Row("unchanged (304) / whole", median_ms(unchanged) / median_ms(through), "ratio"),
    ]
