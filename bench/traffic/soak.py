"""Half the load of the knee for a long time: does a process keep growing?

    make soak                                            # ten minutes
    python -m bench.traffic.soak --minutes 60 --rate 150

Prints the memory of each process every few seconds and, at the end, how much each has grown since a tenth of the time.
"""

import argparse
import subprocess
import sys
import time

from bench.harness import AS_SHIPPED, resident_mb, running_suite
from bench.traffic.knee import new_tenants
from tests.live.suite import SERVICES


def main() -> None:
    parser = argparse.ArgumentParser(description="A steady load, and the memory of each process.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    options = parser.parse_args()
    with running_suite(AS_SHIPPED) as suite:
        keys = new_tenants(suite)
        end, samples = time.monotonic() + 60 * options.minutes, list[dict[str, float]]()
        while time.monotonic() < end:
            offer = [sys.executable, "-m", "bench.traffic.knee", suite.url, str(options.rate), *keys]
            subprocess.run(["nice", "-n", "5", *offer], check=True, stdout=subprocess.DEVNULL)
            samples.append({name: resident_mb(suite.processes[name].pid) for name in SERVICES})
            print(", ".join(f"{name} {mb:.1f} MB" for name, mb in samples[-1].items()), flush=True)
    warm = samples[len(samples) // 10]
    for name, mb in samples[-1].items():
        print(f"{name}: {100 * (mb / warm[name] - 1):+.2f} % since {warm[name]:.1f} MB")


if __name__ == "__main__":
    main()
