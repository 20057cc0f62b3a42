"""docs/capacity.md: the formula, the prices, worked examples and a simulated day, by bench/scale.py."""

from collections.abc import Sequence
from dataclasses import replace

from bench.page import ROOT
from bench.result import percentile
from bench.scale import BUSY, REDIS_BUSY, WORKER_PLACES, Demand, bill, bill_rows, price, simulate
from bench.scale_check import TENANT_IN_FLIGHT
from bench.simulation import Policy
from services.settings import QueueSettings

PAGE = ROOT / "docs" / "capacity.md"
PLOT = ROOT / "docs" / "capacity.svg"
LOADS = ((10.0, 1.0), (100.0, 10.0), (500.0, 50.0), (2_000.0, 200.0))
POLICIES = ((0.2, 2.0), (5.0, 30.0), (30.0, 120.0), (60.0, 300.0))
PRICES = (
    ("CPU of the gateway a call with one event", "ms"),
    ("CPU of the gateway a read of a summary", "ms"),
    ("CPU of the gateway a streamed chat of 300 tokens", "ms"),
    ("CPU of the preference service a call with one event", "ms"),
    ("CPU of the preference service a read of a summary", "ms"),
    ("CPU of a worker an update of 300 tokens", "ms"),
    ("CPU of the response service a streamed chat of 300 tokens", "ms"),
    ("CPU of Redis an event, its update included", "ms"),
    ("CPU of Redis for a worker that looks for work", "ms a second"),
    ("Redis commands an event, its update included", ""),
    ("Redis commands of a worker that looks for work", "a second"),
    ("Redis for a user of 20 events of 198 bytes", "KB"),
    ("prompt tokens of an update after 10 events", "tokens"),
    ("their prompt tokens / those of the summaries", "of the update's"),
)

TEXT = """\
# Capacity

Written by `python -m bench.scale --write`; do not edit by hand. For your own figures:

    python -m bench.scale --events 500 --chats 50 --debounce 30 --max-wait 120
    python -m bench.scale --help

How many events become one update is simulated, because it depends on how users come and go; the rest
is multiplication.

## Formula

With the peak X of events a second, R reads and Y chats a second, and c events in one update:

    updates/s U      = X / c
    gateway cores    = X·g_event + R·g_read + Y·g_chat          one core a process
    preference cores = X·p_event + R·p_read                     one core a process
    worker processes = the larger of U·w_update cores and U·L / {places} places
    tenant in flight = U·L / shards                             for each shard, if all users are one tenant's
    response cores   = Y·r_chat                                 one core a process
    Redis primaries  = X·d_event + workers·shards·look cores    one core a primary
    Redis memory     = users × (20 events and a summary, as measured
                       + further events × 218 bytes + further versions × (4 bytes a token + 400))
    prompt tokens/s  = U·(update + past summary + (c - 1)·event)·(1 + tests) + Y·chat prompt
    written tokens/s = U·update answer + Y·chat answer
    GPUs             = prompt tokens/s / what a GPU reads + written tokens/s / what it writes

L is how long the engine takes for an update. A worker has {places} places where ALIGNX_SUMMARY__WORKERS and
ALIGNX_ENGINE__CONCURRENCY say so; the defaults are for a laptop. A tenant gets at most
ALIGNX_QUEUE__TENANT_IN_FLIGHT updates at once in a shard ({tenant_in_flight} by default, which with {shards} shards
is {tenant_at_once:,} in all): where one tenant has most of the users, set it as the tables below say, or its users
wait although workers are idle. The simulation has no such limit.

Every result is divided by the share that is planned to be in use at the peak: {busy:.0%}, of Redis {redis_busy:.0%}; of
each service there are at least two. Memory is what the data take: give Redis as much again for the copy that
a rewrite of its file makes, and each replica of a primary the same. Where one Redis suffices, run it with a
replica; beyond, Redis Cluster.

## Prices

From docs/benchmarks.md, measured on two slow cores that everything shared; measure them anew on yours.

{prices}

What a GPU does is **not measured here**. The tables assume {gpu_prompt:,.0f} prompt tokens and {gpu_reply:,.0f}
written tokens a second of one GPU, and {stream:.0f} tokens a second for one answer. Measure yours with
`vllm bench serve` at the lengths below, and say so with --gpu-prompt-rate, --gpu-reply-rate and
--stream-rate: the number of GPUs is worth no more than these three.

## What is taken for granted

{users:,} users, who come with a Zipf exponent of {zipf}; {visit:.0f} events a visit, {gap:.0f} s between
them; the peak at {swing:.0%} above the mean of the day; an event of {event} tokens, a past summary of {past};
an answer of {update} tokens for an update, and of {chat} for a chat with a prompt of {chat_prompt};
{events} events and {versions} versions kept of a user; {shards} shards; {reads:.0f} reads a second for every
500 events.

## Does the simulation tell the truth?

The same events at the same times went to a real suite and into the simulation (`python -m bench.run scale`); all
users were one tenant's, with ALIGNX_QUEUE__TENANT_IN_FLIGHT={check_in_flight}:

{check}

An update took {besides:.0f} ms there besides the engine's 200; the simulation gives every update the mean
length. The busier the cores, the more the lengths differ, and the more events the real queue joins than
the simulated one. The simulation also leaves out engines that slow down when they are full, retries, and
the network between machines.

## Worked examples

With the default debounce (0.2 s, at most 2 s); above each column the events and the chats a second on the
mean of the day.

{worked}

## What a longer debounce saves

500 events and 50 chats a second, by ALIGNX_QUEUE__DEBOUNCE_MS and ALIGNX_QUEUE__MAX_WAIT_MS. The fast
profile takes every event in at once whatever the debounce is; only the summary's text waits for it.
Users pause for {gap:.0f} s between two events, so that a debounce far below that joins next to nothing: what
it costs in engine time is the first thing to decide.

{policies}

## A day

500 events a second on the mean, default debounce, the workers of the table above.

![Events, updates and delay over a day](capacity.svg)

{day}
"""


def write_page() -> None:
    base = Demand()
    worked = [
        (f"{events:,.0f} / {chats:,.0f}", replace(base, events_per_s=events, chats_per_s=chats, reads_per_s=events / 5))
        for events, chats in LOADS
    ]
    policies = [(f"{wait:g} s / {most:g} s", replace(base, policy=Policy(wait, most))) for wait, most in POLICIES]
    day = simulated_day(base)
    PLOT.write_text(plot(day), encoding="utf-8")
    PAGE.write_text(
        TEXT.format(
            places=WORKER_PLACES,
            busy=BUSY,
            redis_busy=REDIS_BUSY,
            prices=_table(["price", "", ""], [(name, f"{price(name):,.3g}", unit) for name, unit in PRICES]),
            gpu_prompt=base.gpu_prompt_tokens_per_s,
            gpu_reply=base.gpu_reply_tokens_per_s,
            stream=base.stream_tokens_per_s,
            users=base.traffic.users,
            zipf=base.traffic.zipf,
            visit=base.traffic.visit_events,
            gap=base.traffic.gap_s,
            swing=base.swing,
            event=base.event_tokens,
            past=base.past_tokens,
            update=base.update_tokens,
            chat=base.chat_tokens,
            chat_prompt=base.chat_prompt_tokens,
            events=base.events_kept,
            shards=base.shards,
            tenant_in_flight=QueueSettings().tenant_in_flight,
            tenant_at_once=QueueSettings().tenant_in_flight * base.shards,
            check_in_flight=TENANT_IN_FLIGHT,
            versions=base.versions_kept,
            reads=base.reads_per_s,
            check=_check(),
            besides=price("an update besides the engine's 200 ms"),
            worked=_compared(worked),
            policies=_compared(policies),
            day=_table(
                ["hour", "events/s", "updates/s", "delay, mean", "delay, 95th percentile"],
                [(f"{row[0]:02d}", *(f"{value:,.1f}" for value in row[1:])) for row in day],
            ),
        ),
        encoding="utf-8",
    )
    print(f"written: {PAGE.relative_to(ROOT)}, {PLOT.relative_to(ROOT)}")


Hour = tuple[int, float, float, float, float]
"""(hour, events/s, updates/s, mean delay, 95th percentile of the delay), in seconds."""


def simulated_day(demand: Demand) -> list[Hour]:
    places = bill(demand).replicas["worker"] * WORKER_PLACES
    hours: list[Hour] = []
    for hour in range(24):
        rate = demand.rate(hour)
        found = simulate(demand, rate, places, sample=40_000)
        delays = found.delays
        hours.append((hour, rate, rate / found.coalescing, sum(delays) / len(delays), percentile(delays, 0.95)))
    return hours


def _check() -> str:
    names = ("events of one update", "mean delay from event to summary")
    rows = []
    for name in names:
        ratio = price(f"{name}, simulated / real")
        figures = [f"{price(f'{name}, {which}'):.3g}" for which in ("real", "simulated")]
        rows.append((name, *figures, f"{(ratio - 1) * 100:+.1f} %"))
    return _table(["", "real", "simulated", "error"], rows)


def _compared(demands: Sequence[tuple[str, Demand]]) -> str:
    """One column for each demand."""
    columns = [bill_rows(bill(demand)) for _, demand in demands]
    rows = []
    for lines in zip(*columns, strict=True):
        what = lines[0][0].partition(" (")[0]
        cores = [line[0].partition(" (")[2].partition(" cores")[0] for line in lines]
        cells = [f"{much} ({used} cores)" if used else much for (_, much), used in zip(lines, cores, strict=True)]
        rows.append((what, *cells))
    return _table(["", *(name for name, _ in demands)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


# --- the plot ----------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 130, 60, 34


def plot(day: Sequence[Hour]) -> str:
    """Three panels over the hours of a day, as SVG."""
    panels = [
        ("events a second", 1, "#1f6f8b"),
        ("updates a second", 2, "#8b5a1f"),
        ("seconds, 95th percentile", 4, "#6b1f8b"),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 2 * _LEFT} {3 * (_HEIGHT + _TOP) + 40}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, (name, column, colour) in enumerate(panels):
        values = [float(row[column]) for row in day]
        most, top = max(values) * 1.1, _TOP + place * (_HEIGHT + _TOP)
        points = " ".join(
            f"{_LEFT + hour * _WIDTH / (len(day) - 1):.1f},{top + _HEIGHT * (1 - value / most):.1f}"
            for hour, value in enumerate(values)
        )
        parts += [
            f'<text x="{_LEFT}" y="{top - 8}">{name}</text>',
            f'<path d="M{_LEFT} {top}v{_HEIGHT}h{_WIDTH}" fill="none" stroke="#888"/>',
            f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{most:,.3g}</text>',
            f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>',
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
        ]
    bottom = _TOP + 3 * (_HEIGHT + _TOP) - 14
    parts += [
        f'<text x="{_LEFT + hour * _WIDTH / 23:.1f}" y="{bottom}" text-anchor="middle">{hour:02d}:00</text>'
        for hour in range(0, 24, 4)
    ]
    return "\n".join([*parts, "</svg>", ""])
