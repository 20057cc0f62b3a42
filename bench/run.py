"""Runs the benchmarks of the services and writes docs/results/benchmarks.md.

    python -m bench.run [NAME …]      (by default all of BENCHMARKS)

Prints the table of each, and puts it into docs/results/benchmarks.md. Others have options and commands of their own:
bench.choice_protocols, bench.gpu.suite_throughput, and bench.gpu.trl_comparison, bench.gpu.training_throughput and
bench.gpu.judging_throughput, which need the environment of training.
"""

import sys
from collections.abc import Callable

from bench import cluster_scaling, gateway_overhead, ingest_speed, memory, reads, scoring
from bench.browser import view_times
from bench.event_loop import idle_streams, loop_gaps
from bench.models import chat_manner, small_model
from bench.page import Row, save_results
from bench.traffic import floods, item_cost, knee
from bench.updates import cadence, update_cost

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "gateway": gateway_overhead.measure,
    "ingest": ingest_speed.measure,
    "reads": reads.measure,
    "views": view_times.measure,
    "scoring": scoring.measure,
    "loop_gaps": loop_gaps.measure,
    "streams": idle_streams.measure,
    "cadence": cadence.measure,
    "update_cost": update_cost.measure,
    "cluster": cluster_scaling.measure,
    "memory": memory.measure,
    "small_model": small_model.measure,
    "chat_manner": chat_manner.measure,
    "items": item_cost.measure,
    "floods": floods.measure,
    "knee": knee.measure,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(BENCHMARKS)}")
    for name in names:
        print(f"{name} …", flush=True)
        measure = BENCHMARKS[name]
        save_results(name, measure(), sys.modules[measure.__module__].__doc__ or "")


if __name__ == "__main__":
    main()
