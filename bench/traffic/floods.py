"""What one key's flood costs the tenant next door.

    python -m bench.run floods

A victim reads and selects at 20 calls a second, alone and then under each flood, run by run. The flooder
(flooder.py) is a process of its own at low priority, with a key at the default rate. Victim, flooder, services,
worker, mock engine and Redis share the machine. Figures are medians of the runs.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness import AS_SHIPPED, SELECT, fill, running_suite
from bench.page import Row, percentile
from bench.traffic.flooder import FLOODS
from bench.traffic.open_loop import Outcome, Request, call_at_rate
from tests.live.suite import Suite, mock_engine

RATE, SECONDS, RUNS = 20.0, 8.0, 5
Figures = tuple[float, float, float]
"""The victim's median and 99th percentile (ms), and the share of its calls that were not served (%)."""


def measure(runs: int = RUNS) -> list[Row]:
    alone: list[Figures] = []
    under: dict[str, list[Figures]] = {kind: [] for kind in FLOODS}
    met: dict[str, Counter[str]] = {kind: Counter() for kind in FLOODS}
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory()))
        engine = stack.enter_context(mock_engine(home))
        settings = {"ALIGNX_ENGINE__URL": f"{engine}/v1", **AS_SHIPPED}
        suite = stack.enter_context(running_suite(settings))
        key = suite.new_key("victim", rate=1_000, burst=1_000)
        fill(suite.url, key, ["v"])
        fill(suite.url, suite.new_key("flood"), ["f0", "f1", "f2", "f3", "f4"])
        for _ in range(runs):
            alone.append(_figures(victim(suite.url, key)))
            for kind in FLOODS:
                with flooding(suite, kind) as answers:
                    under[kind].append(_figures(victim(suite.url, key)))
                met[kind] += answers()
                time.sleep(2.0)
    rows = [*_rows("alone", alone)]
    base = [statistics.median(part) for part in zip(*alone, strict=True)]
    for kind in FLOODS:
        rows += _rows(kind, under[kind], base)
        refused = sum(met[kind][status] for status in ("429", "503"))
        rows.append(Row(f"{kind}: refused of the flooder's calls", 100 * refused / met[kind].total(), "%"))
        print(kind, dict(met[kind]), flush=True)
    return rows


def victim(url: str, key: str) -> Outcome:
    """Reads and selections by turns."""
    read, select = Request("GET", "/v1/users/v/preferences"), Request("POST", "/v1/users/v/select", SELECT)
    return asyncio.run(call_at_rate(url, [key], lambda number: (read, select)[number % 2], rate=RATE, seconds=SECONDS))


@contextmanager
def flooding(suite: Suite, kind: str) -> Iterator[Callable[[], Counter[str]]]:
    """Around what the flood is to disturb; gives the flooder's answers by status, once it has ended."""
    arguments = [kind, suite.url, suite.new_key("flood"), str(SECONDS + 4.0)]
    command = ["nice", "-n", "10", sys.executable, "-m", "bench.traffic.flooder", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(3.0)
    try:
        yield lambda: Counter(json.loads(process.communicate(timeout=60)[0]))
    finally:
        if process.returncode is None and sys.exc_info()[0]:
            process.terminate()


def _figures(outcome: Outcome) -> Figures:
    seconds, calls = outcome.admitted, outcome.statuses.total()
    return percentile(seconds, 0.5) * 1e3, percentile(seconds, 0.99) * 1e3, 100 * (1 - len(seconds) / calls)


def _rows(name: str, runs: list[Figures], base: list[float] | None = None) -> list[Row]:
    middle, tail, lost = (statistics.median(part) for part in zip(*runs, strict=True))
    must = ("", "") if base is None else (f"≤ {2 * base[0]:.1f}", f"≤ {max(3 * base[1], base[1] + 50):.0f}")
    return [
        Row(f"{name}: the victim's median", middle, "ms", must[0]),
        Row(f"{name}: its 99th percentile", tail, "ms", must[1]),
        Row(f"{name}: its calls that were refused or failed", lost, "%", "0"),
    ]
