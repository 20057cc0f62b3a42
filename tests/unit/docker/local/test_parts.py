"""Parts of the tests side by side, with a shell script in the place of make."""

import re
import subprocess
import sys
from pathlib import Path

PARTS = Path(__file__).parents[4] / "docker" / "local" / "parts.py"
MAKE = """#!/bin/sh
case $2 in
quick) echo "WARNING: the sea is NOT tested: none is here" ;;
broken)
    while [ ! -e ready ]; do sleep 0.05; done
    echo "FAILED tests/test_a.py::test_b - assert 1 == 2" && echo "the last line" && exit 2 ;;
endless)
    trap 'touch interrupted; exit 1' INT
    touch ready
    while :; do sleep 0.05; done ;;
esac
"""


def run(folder: Path, *targets: str) -> "subprocess.CompletedProcess[str]":
    (folder / "make").write_text(MAKE)
    (folder / "make").chmod(0o755)
    command = [sys.executable, str(PARTS), *targets]
    environment = {"MAKE": "./make", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_part_has_a_line_with_its_time(tmp_path: Path) -> None:
    done = run(tmp_path, "quick", "quick", "quick")
    assert done.returncode == 0
    lines = re.findall(r"^== quick: \d+ s$", done.stdout, re.MULTILINE)
    assert "WARNING: the sea is NOT tested: none is here" in done.stdout
    assert len(lines) == 3
    assert sorted((tmp_path / "var/test/times").read_text().splitlines()) == sorted(lines)


def test_a_failure_stops_the_rest_and_its_tests_are_named_last(tmp_path: Path) -> None:
    done = run(tmp_path, "endless", "broken", "quick")
    assert done.returncode == 1
    assert done.stdout.endswith("FAILED tests/test_a.py::test_b - assert 1 == 2\n")
    assert "the last line" in done.stdout
    assert "quick" not in done.stdout
    assert (tmp_path / "interrupted").exists()
