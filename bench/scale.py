"""What to buy for X events a second and Y chats a second: a simulated day of 1 M users at measured costs.

    python -m bench.scale --events 500 --chats 50 [--debounce 30 --max-wait 120] [--help]
    python -m bench.scale --write             (writes docs/capacity.md and docs/capacity.svg)

What the suite itself costs is read from docs/benchmarks.md, as `python -m bench.run` measured it on
this machine. What an engine makes a second is yours to say: it is a matter of the model and the GPU,
and `vllm bench serve` tells it.
"""

import argparse
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from bench.page import DOCUMENT
from bench.result import percentile
from bench.simulation import Outcome, Policy, Simulation, Traffic, arrivals
from services.settings import QueueSettings

REPLY_TOKENS = 300
"""Of the answers whose price was measured; a longer one costs its share more."""
MEASURED_SHARDS = 8
WORKER_PLACES = 256
"""ALIGNX_SUMMARY__WORKERS and ALIGNX_ENGINE__CONCURRENCY of a worker in a large deployment: an update
that waits for the engine costs the worker nothing."""
BUSY = 0.6
"""Share of a core, a worker's places or a GPU that is planned to be in use at the peak."""
REDIS_BUSY = 0.4
"""The same of Redis, which has one core for everything and scripts that must not wait."""
SAMPLE = 150_000
"""Events of one simulation at most; beyond it, one user in so many is simulated."""
SEED = 11


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the suite, on the mean of a day."""

    events_per_s: float = 500.0
    chats_per_s: float = 50.0
    reads_per_s: float = 100.0
    swing: float = 0.8
    """The peak is this much above the mean of the day, the low as much below."""
    traffic: Traffic = field(default_factory=Traffic)
    policy: Policy = field(default_factory=Policy)
    shards: int = 64
    """ALIGNX_QUEUE__SHARDS; every worker looks into each of them, many times a second."""
    event_tokens: int = 60
    past_tokens: int = 300
    update_tokens: int = 300
    chat_prompt_tokens: int = 800
    chat_tokens: int = 300
    events_kept: int = 100
    """Of a user, on the mean."""
    versions_kept: int = 20
    stream_tokens_per_s: float = 40.0
    """What one answer of the engine gets to write; an update lasts as long as its answer."""
    gpu_prompt_tokens_per_s: float = 20_000.0
    gpu_reply_tokens_per_s: float = 4_000.0

    @property
    def update_s(self) -> float:
        return 0.3 + self.update_tokens / self.stream_tokens_per_s

    def rate(self, hour: float) -> float:
        """Events a second at an hour of the day; the peak is at 20."""
        return self.events_per_s * (1 + self.swing * math.cos((hour - 20) / 24 * 2 * math.pi))


@dataclass(frozen=True, slots=True)
class Bill:
    """What the peak needs."""

    outcome: Outcome
    calls_per_s: float
    updates_per_s: float
    cores: dict[str, float]
    replicas: dict[str, int]
    tenant_in_flight: int
    """ALIGNX_QUEUE__TENANT_IN_FLIGHT that one tenant with all of the users needs."""
    redis_gb: float
    redis_commands_per_s: float
    prompt_tokens_per_s: float
    reply_tokens_per_s: float
    gpus: int


# --- prices ------------------------------------------------------------------------------------


@cache
def prices() -> dict[str, float]:
    """Every figure of docs/benchmarks.md by its name."""
    rows = re.findall(r"^\| (.+?) \| ([\d.,]+) \| .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return {figure: float(value.replace(",", "")) for figure, value in rows}


def price(figure: str) -> float:
    """Raises SystemExit where the page lacks it."""
    found = prices()
    if figure not in found:
        raise SystemExit(f"docs/benchmarks.md has no {figure!r}; python -m bench.run measures it")
    return found[figure]


# --- the peak ----------------------------------------------------------------------------------


def simulate(demand: Demand, events_per_s: float, places: int | None = None, sample: int = SAMPLE) -> Outcome:
    """The queue under a steady rate; without `places` no update ever waits for one."""
    policy, rng = demand.policy, random.Random(SEED)
    settled = 2 * (policy.max_wait_s + demand.update_s)
    seconds = settled + max(60.0, settled)
    one_in = max(1, round(events_per_s * seconds / sample))
    events = arrivals(demand.traffic, events_per_s, seconds, rng, one_in=one_in)
    places = len(events) if places is None else max(1, places // one_in)
    return Simulation(replace(policy, places=places), demand.update_s, rng).run(events, settled)


def bill(demand: Demand) -> Bill:
    """What the peak hour needs, by simulation and price list."""
    peak = demand.rate(20)
    above = 1 + demand.swing
    chats, reads = demand.chats_per_s * above, demand.reads_per_s * above
    free = simulate(demand, peak)
    updates = peak / free.coalescing
    written = demand.chat_tokens / REPLY_TOKENS
    cores = {
        "gateway": peak * price("CPU of the gateway a call with one event")
        + reads * price("CPU of the gateway a read of a summary")
        + chats * price("CPU of the gateway a streamed chat of 300 tokens") * written,
        "preference": peak * price("CPU of the preference service a call with one event")
        + reads * price("CPU of the preference service a read of a summary"),
        "worker": updates * price("CPU of a worker an update of 300 tokens") * demand.update_tokens / REPLY_TOKENS,
        "response": chats * price("CPU of the response service a streamed chat of 300 tokens") * written,
    }
    cores = {name: milliseconds / 1000 for name, milliseconds in cores.items()}
    replicas = {name: max(2, math.ceil(cores[name] / BUSY)) for name in ("gateway", "preference", "response")}
    under_way = updates * demand.update_s
    replicas["worker"] = max(2, math.ceil(cores["worker"] / BUSY), math.ceil(under_way / WORKER_PLACES / BUSY))
    looks = replicas["worker"] * demand.shards / MEASURED_SHARDS
    cores["redis"] = peak * price("CPU of Redis an event, its update included") / 1000
    cores["redis"] += looks * price("CPU of Redis for a worker that looks for work") / 1000
    replicas["redis"] = math.ceil(cores["redis"] / REDIS_BUSY)
    prompt = price("prompt tokens of an update after 10 events") + demand.past_tokens
    prompt += (free.coalescing - 1) * demand.event_tokens
    prompt *= 1 + price("their prompt tokens / those of the summaries")
    prompts = updates * prompt + chats * demand.chat_prompt_tokens
    replies = updates * demand.update_tokens + chats * demand.chat_tokens
    share = prompts / demand.gpu_prompt_tokens_per_s + replies / demand.gpu_reply_tokens_per_s
    return Bill(
        outcome=simulate(demand, peak, replicas["worker"] * WORKER_PLACES),
        calls_per_s=peak + chats + reads,
        updates_per_s=updates,
        cores=cores,
        replicas=replicas,
        # The default never stands in the way of anybody smaller.
        tenant_in_flight=max(QueueSettings().tenant_in_flight, math.ceil(under_way / demand.shards / BUSY)),
        redis_gb=demand.traffic.users * user_kb(demand) / 1024 / 1024,
        redis_commands_per_s=peak * price("Redis commands an event, its update included")
        + looks * price("Redis commands of a worker that looks for work"),
        prompt_tokens_per_s=prompts,
        reply_tokens_per_s=replies,
        gpus=math.ceil(share / BUSY),
    )


def user_kb(demand: Demand) -> float:
    """Redis memory of a user: the measured one of 20 events and one short version, further events at
    their text and a tenth, further versions at four bytes a token and 400 bytes of record."""
    measured = price("Redis for a user of 20 events of 198 bytes")
    events = max(0, demand.events_kept - 20) * 198 * 1.1
    versions = (demand.versions_kept - 1) * (demand.update_tokens * 4 + 400)
    return measured + (events + versions) / 1024


def bill_rows(found: Bill) -> list[tuple[str, str]]:
    """(what, how much), to be shown."""
    delays, buy = found.outcome.delays, found.replicas
    return [
        ("API calls a second at the peak", f"{found.calls_per_s:,.0f}"),
        ("events of one update", f"{found.outcome.coalescing:.2f}"),
        ("updates a second at the peak", f"{found.updates_per_s:,.1f}"),
        ("event to summary, mean / 95th percentile",
         f"{sum(delays) / len(delays):.1f} s / {percentile(delays, 0.95):.1f} s"),
        *((f"{name} processes ({found.cores[name]:.2f} cores in use)", str(buy[name]))
          for name in ("gateway", "preference", "worker", "response")),
        ("ALIGNX_QUEUE__TENANT_IN_FLIGHT, all users one tenant's", str(found.tenant_in_flight)),
        (f"Redis primaries ({found.cores['redis']:.2f} cores in use)", str(buy["redis"])),
        ("Redis commands a second", f"{found.redis_commands_per_s:,.0f}"),
        ("Redis data", f"{found.redis_gb:,.0f} GB"),
        ("engine: prompt tokens a second", f"{found.prompt_tokens_per_s:,.0f}"),
        ("engine: written tokens a second", f"{found.reply_tokens_per_s:,.0f}"),
        ("GPUs", str(found.gpus)),
    ]  # fmt: skip


def shown(demand: Demand) -> str:
    head = f"{demand.events_per_s:,.0f} events/s and {demand.chats_per_s:,.0f} chats/s on the mean of the day\n"
    rows = bill_rows(bill(demand))
    width = max(len(what) for what, _ in rows)
    return head + "\n".join(f"  {what:<{width}}  {much}" for what, much in rows)


def demanded(arguments: Sequence[str] | None = None) -> tuple[Demand, bool]:
    """The demand on the command line, and whether the page is to be written."""
    known = Demand()
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/capacity.md and its plot instead")
    options: dict[str, tuple[Any, str]] = {
        "events": (known.events_per_s, "events a second, mean of the day"),
        "chats": (known.chats_per_s, "chats a second"),
        "reads": (known.reads_per_s, "reads of a summary a second"),
        "swing": (known.swing, "how far the peak is above the mean, as a share of it"),
        "users": (known.traffic.users, "users"),
        "zipf": (known.traffic.zipf, "exponent by which visits fall with a user's rank"),
        "visit-events": (known.traffic.visit_events, "mean events of a visit"),
        "gap": (known.traffic.gap_s, "mean seconds between them"),
        "debounce": (known.policy.debounce_s, "ALIGNX_QUEUE__DEBOUNCE_MS in seconds"),
        "max-wait": (known.policy.max_wait_s, "ALIGNX_QUEUE__MAX_WAIT_MS in seconds"),
        "shards": (known.shards, "ALIGNX_QUEUE__SHARDS"),
        "update-tokens": (known.update_tokens, "tokens an update writes, reasoning included"),
        "chat-tokens": (known.chat_tokens, "tokens of an answer"),
        "stream-rate": (known.stream_tokens_per_s, "tokens a second of one answer"),
        "gpu-prompt-rate": (known.gpu_prompt_tokens_per_s, "prompt tokens a second of a GPU"),
        "gpu-reply-rate": (known.gpu_reply_tokens_per_s, "written tokens a second of a GPU"),
    }
    for name, (default, about) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{about} ({default})")
    given = parser.parse_args(arguments)
    demand = Demand(
        events_per_s=given.events,
        chats_per_s=given.chats,
        reads_per_s=given.reads,
        swing=given.swing,
        traffic=Traffic(given.users, given.zipf, given.visit_events, given.gap),
        policy=Policy(given.debounce, given.max_wait),
        shards=given.shards,
        update_tokens=given.update_tokens,
        chat_tokens=given.chat_tokens,
        stream_tokens_per_s=given.stream_rate,
        gpu_prompt_tokens_per_s=given.gpu_prompt_rate,
        gpu_reply_tokens_per_s=given.gpu_reply_rate,
    )
    return demand, given.write


def main() -> None:
    demand, write = demanded()
    if write:
        # The page is made of this module, which runs as __main__ here.
        from bench.capacity import write_page

        write_page()
    else:
        print(shown(demand))


if __name__ == "__main__":
    main()
