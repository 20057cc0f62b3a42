"""Runs the benchmarks and writes what they found.

    python -m bench.run [NAME …]      (all: ingest reads gateway coalescing update_cost memory profile)

Each pairs two things in one run. Prints the table, keeps the figures in bench/results/NAME.json, and
writes docs/benchmarks.md anew from the kept figures of all benchmarks.
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import coalescing, gateway_overhead, ingest, memory, profile_quality, reads, update_cost
from bench.result import Row

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "gateway": gateway_overhead.measure,
    "ingest": ingest.measure,
    "reads": reads.measure,
    "coalescing": coalescing.measure,
    "update_cost": update_cost.measure,
    "memory": memory.measure,
    "profile": profile_quality.measure,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name} …", flush=True)
        rows = BENCHMARKS[name]()
        print(table(rows), flush=True)
        kept = {"measured_at": datetime.now(UTC).date().isoformat(), "rows": [row._asdict() for row in rows]}
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1))
    DOCUMENT.write_text(document())


def table(rows: list[Row]) -> str:
    lines = ["| figure | value | unit | must be |", "|---|---:|---|---|"]
    lines += [f"| {row.figure} | {_short(row.value)} | {row.unit} | {row.must} |" for row in rows]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The page of all kept results."""
    machine = f"{os.cpu_count()} cores of one machine ({platform.machine()}, Python {platform.python_version()})"
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit by hand. Every process of the suite, Redis and the load\n"
        f"generator shared the {machine}.\n",
    ]
    for name, benchmark in BENCHMARKS.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        kept = json.loads(path.read_text())
        about = (sys.modules[benchmark.__module__].__doc__ or "").strip()
        rows = [Row(**row) for row in kept["rows"]]
        parts.append(f"## {name}\n\n{about}\n\nMeasured {kept['measured_at']}.\n\n{table(rows)}")
    return "\n".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
