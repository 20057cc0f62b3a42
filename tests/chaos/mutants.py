"""Breaks each Lua script in small ways, and sees whether the tests notice.

    make mutants                                     # three of each script; the table in docs/results/mutants.md
    python -m tests.chaos.mutants --scripts commit claim

A mutant is a script without one of its writes, with a condition turned round, with `and` for `or`, or with a number
that is one too large. The unit tests of the script's package run against a copy of the checkout that has it; a mutant
that they pass is named, and so is its line.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.live.suite import ROOT

TESTS = {
    "gateway": ("tests/unit/gateway",),
    "services/admin": ("tests/unit/services/admin",),
    "services/outcomes": (
        *("tests/unit/services/outcomes", "tests/unit/services/preference"),
        "tests/unit/services/response/test_learning.py",
    ),
    "services/storage": ("tests/unit/services/storage", "tests/unit/services/preference"),
    "services/traffic": ("tests/unit/services/traffic", "tests/unit/services/admin"),
    "services/preference": ("tests/unit/services/preference",),
}
_WRITE = re.compile(r"^\s*redis\.call\((.*)\)$")
_TURNED = {"==": "~=", "~=": "==", "<=": ">", ">=": "<", "<": ">=", ">": "<="}
_COMPARISON = re.compile(r" (==|~=|<=|>=|<|>) ")
_JOINT = re.compile(r" (and|or) ")
_NUMBER = re.compile(r"(?<![\w.\[])(\d+)(?![\w.\]])")


HEAD = (
    "# Mutants of the Lua scripts",
    "",
    "Written by `make mutants`; what is not listed has not been tried yet.",
    "",
    "| script | mutants | noticed | not noticed |",
    "|---|---|---|---|",
)


class Mutant(NamedTuple):
    script: Path
    """Relative to the root."""
    line: int
    text: str
    """What stands there instead; empty where the line is gone."""


def mutants_of(script: Path, source: str) -> Iterator[Mutant]:
    for number, line in enumerate(source.splitlines(), 1):
        code = line.partition("--")[0].rstrip()
        if (call := _WRITE.match(code)) and call[1].count("(") == call[1].count(")"):
            yield Mutant(script, number, "")
        if re.match(r"\s*(if|elseif|while)\b", code):
            for found in _COMPARISON.finditer(code):
                yield Mutant(script, number, _put(code, found, f" {_TURNED[found[1]]} "))
            for found in _JOINT.finditer(code):
                yield Mutant(script, number, _put(code, found, " or " if found[1] == "and" else " and "))
        for found in _NUMBER.finditer(code) if "KEYS" not in code and "ARGV" not in code else ():
            yield Mutant(script, number, _put(code, found, str(int(found[1]) + 1)))


def _put(code: str, found: re.Match[str], text: str) -> str:
    return code[: found.start()] + text + code[found.end() :]


def survives(checkout: Path, mutant: Mutant) -> bool:
    """Whether the tests pass with it."""
    path = checkout / mutant.script
    original = path.read_text()
    lines = original.splitlines()
    lines[mutant.line - 1] = mutant.text
    path.write_text("\n".join(lines) + "\n")
    try:
        tests = TESTS[str(mutant.script.parent.parent)]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=False, timeout=900)
    except subprocess.TimeoutExpired:
        return False  # a loop without end is noticed
    finally:
        path.write_text(original)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutants of the Lua scripts, and whether the tests notice them.")
    parser.add_argument("--scripts", nargs="*", help="names such as commit; default: all")
    parser.add_argument("--most", type=int, default=1_000, help="mutants of one script, drawn at random")
    parser.add_argument("--report", type=Path, help="a page for the table")
    options = parser.parse_args()
    with TemporaryDirectory() as home:
        checkout = copy_checkout(Path(home) / "checkout")
        for package in TESTS:
            for script in sorted((ROOT / package / "lua").glob("*.lua")):
                if options.scripts and script.stem not in options.scripts:
                    continue
                found = list(mutants_of(script.relative_to(ROOT), script.read_text()))
                found = random.Random(1).sample(found, min(options.most, len(found)))
                alive = [mutant for mutant in found if survives(checkout, mutant)]
                found_row = row(script.relative_to(ROOT), len(found), alive)
                sys.stdout.write(found_row + "\n")
                sys.stdout.flush()
                if options.report:
                    add_row(options.report, found_row)


def add_row(report: Path, new: str) -> None:
    """In the place of the script's last one; the rows of other scripts stay."""
    rows = report.read_text().splitlines()[len(HEAD) :] if report.exists() else []
    by_script = {line.split("|")[1]: line for line in [*rows, new]}
    report.write_text("\n".join([*HEAD, *(by_script[script] for script in sorted(by_script)), ""]))


def copy_checkout(to: Path) -> Path:
    """What git knows of the root, as it stands now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


def row(script: Path, made: int, alive: Sequence[Mutant]) -> str:
    named = "; ".join(f"line {mutant.line}: `{mutant.text.strip() or 'gone'}`" for mutant in alive)
    return f"| {script} | {made} | {made - len(alive)} | {named.replace('|', '¦')} |"


if __name__ == "__main__":
    main()
