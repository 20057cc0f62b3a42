"""Runs the benchmarks of the services and writes what they found.

    python -m bench.run [NAME …]      (all: gateway ingest reads coalescing update_cost cluster memory scale profile)

Each pairs two things in one run. Prints the table, keeps the figures in bench/results/NAME.json, and
writes docs/benchmarks.md anew from the kept figures of all benchmarks. Those of training need its own
environment: bench/training_throughput.py and bench/data_reading.py.
"""

import sys
from collections.abc import Callable

from bench import (
    cluster_scaling,
    coalescing,
    gateway_overhead,
    ingest_speed,
    memory,
    profile_quality,
    reads,
    scale_check,
    update_cost,
)
from bench.page import keep
from bench.result import Row

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "gateway": gateway_overhead.measure,
    "ingest": ingest_speed.measure,
    "reads": reads.measure,
    "coalescing": coalescing.measure,
    "update_cost": update_cost.measure,
    "cluster": cluster_scaling.measure,
    "memory": memory.measure,
    "scale": scale_check.measure,
    "profile": profile_quality.measure,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    for name in names:
        print(f"{name} …", flush=True)
        measure = BENCHMARKS[name]
        keep(name, measure(), sys.modules[measure.__module__].__doc__ or "")


if __name__ == "__main__":
    main()
