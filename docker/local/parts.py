"""Runs targets of the Makefile side by side, two at a time, each with a log of its own. (`make -j` lets the others
run on when one fails, and its output does not end with what failed.)

    python docker/local/parts.py TARGET …

Two lines a target say when it starts and how long it took. When one fails the others are stopped, and the end of its
log is printed with the names of the failed tests last. Logs are in var/test/, where `times` lists all durations.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LOGS = Path("var/test")
LANES = 2
"""Three take longer on two cores."""
SHOWN_LINES = 150
STOP_S = 60.0
FAILURE = re.compile(r"^(?:FAILED|ERROR) .*", re.MULTILINE)
OMISSION = re.compile(r"WARNING: .* NOT tested.*")


@dataclass(frozen=True)
class Part:
    """A target that runs, in a process group of its own."""

    name: str
    process: "subprocess.Popen[bytes]"
    started: float

    def seconds(self) -> int:
        return round(time.monotonic() - self.started)

    def stop(self) -> None:
        """Interrupts the group, so that tests stop the servers they have started."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def log_of(name: str) -> Path:
    return LOGS / f"{name}.log"


def say(line: str) -> None:
    print(line, flush=True)


def start(name: str) -> Part:
    say(f"-- {name} starts, its log is {log_of(name)}")
    with log_of(name).open("wb") as log:
        command = [os.environ.get("MAKE", "make"), "--no-print-directory", name]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    return Part(name, process, time.monotonic())


def finish(part: Part) -> bool:
    """Reports a target that has ended; whether it passed."""
    log = log_of(part.name)
    text = log.read_text(errors="replace")
    if part.process.returncode == 0:
        for omission in OMISSION.findall(text):
            say(omission)
        line = f"== {part.name}: {part.seconds()} s"
        say(line)
        with (LOGS / "times").open("a") as times:
            times.write(line + "\n")
        return True
    say("\n".join(text.splitlines()[-SHOWN_LINES:]))
    failures = "".join(f"\n{failure}" for failure in dict.fromkeys(FAILURE.findall(text)))
    say(f"== {part.name} failed after {part.seconds()} s; its whole log is {log}{failures}")
    return False


def run(names: list[str]) -> bool:
    """Whether all passed. The first failure ends the run."""
    waiting, running = list(names), list[Part]()
    try:
        while waiting or running:
            while waiting and len(running) < LANES:
                running.append(start(waiting.pop(0)))
            time.sleep(0.2)
            for part in [part for part in running if part.process.poll() is not None]:
                running.remove(part)
                if not finish(part):
                    return False
        return True
    finally:
        for part in running:
            part.stop()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background would have its children ignore the first
        signal.signal(number, signal.default_int_handler)
    LOGS.mkdir(parents=True, exist_ok=True)
    sys.exit(not run(sys.argv[1:]))
