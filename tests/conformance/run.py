"""Today's clients, unchanged and pinned, against the suite as real processes.

    make conformance            # all of them, some minutes; writes docs/results/conformance.md
    python -m tests.conformance.run --only npm --only mcp

Prints one table and ends with status 1 where a check fails. An engine that calls tools and keeps to schemas stands
behind the suite (tests/live/clients/tool_engine.py). requirements.txt, npm/ and tests/live/clients have the versions.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from alignx.schemas.tenants import SCOPES
from tests.conformance.key_proxy import proxy_with_key
from tests.live.clients.tool_engine import MODEL
from tests.live.suite import ROOT, Suite, talking
from tests.live.suite import run as run_program

HERE = Path(__file__).parent
HOME = ROOT / "var" / "conformance"
PYTHON = HOME / "venv" / "bin" / "python"
PAGE = ROOT / "docs" / "results" / "conformance.md"
LIVE = "tests/live/clients/requirements.txt"
CLIENTS_OF_TESTS = {
    "responses": "openai",
    "openais": "openai",
    "agents": "openai-agents",
    "anthropic": "anthropic",
    "mcp": "mcp",
    "test_npm_client": "openapi-typescript",
}
"""By what the name of a live test holds."""
MCP_SCENARIOS = ("server-initialize", "ping", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection")
"""Those that are about any server; the others call tools, resources and prompts of the run's own test server."""
NOTES = """\
`python -m tests.conformance.run` prints this table. What is skipped:

- langchain-tests: pictures, audio and PDF, which the engine behind the suite does not read; other models than the one
  served. With tools off, what needs an engine that calls tools or keeps to schemas.
- @modelcontextprotocol/conformance: its other scenarios call tools, resources and prompts of its own test server. The
  run sends no key; a proxy adds it. `server-sse-multiple-streams` warns that there are no sessions, which is so.
- schemathesis counts operations. Each finding that stays has its reason in tests/conformance/findings.toml:
"""


@dataclass(frozen=True)
class Check:
    """A client's check. `why` is empty where it passed."""

    client: str
    name: str
    why: str = ""
    skipped: bool = False
    notes: tuple[str, ...] = ()
    """Why what was found stays."""


def run(*command: str | Path, code: int | None = 0, folder: Path = ROOT, **environment: str) -> str:
    """What a program prints, with any status where `code` is None."""
    environment |= {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    return run_program(*command, code=code, folder=folder, timeout_s=900, **environment).stdout


def install() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    run("docker/local/install.sh", PYTHON.parents[1], "-r", HERE / "requirements.txt", "-r", LIVE)
    shutil.copytree(HERE / "npm", HOME / "npm", dirs_exist_ok=True)
    run("npm", "ci", "--prefix", HOME / "npm", "--ignore-scripts", "--no-audit", "--no-fund")


def access(suite: Suite, tenant: str) -> dict[str, str]:
    return {"ALIGNX_URL": suite.url, "ALIGNX_API_KEY": suite.new_key(tenant), "ALIGNX_MODEL": MODEL}


def read_junit(report: Path, client: Callable[[str], str]) -> Iterator[Check]:
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        outcome = next((entry for entry in case if entry.tag in ("failure", "error", "skipped")), None)
        why = "" if outcome is None else (outcome.get("message") or outcome.tag).split("\n")[0]
        yield Check(client(name), name, why, skipped=outcome is not None and outcome.tag == "skipped")


def read_lines(output: str) -> Iterator[Check]:
    for line in output.splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            yield Check(said["client"], said["check"], said["why"])


# --- the clients -------------------------------------------------------------------------------


def check_live(_: Suite, home: Path) -> Iterator[Check]:
    """The clients that the live tests use."""
    report = home / "live.xml"
    tests = ("tests/live/test_clients.py", "tests/live/test_npm_client.py")
    run(sys.executable, "-m", "pytest", "-q", *tests, f"--junitxml={report}", code=None)
    yield from read_junit(
        report, lambda name: next(CLIENTS_OF_TESTS[part] for part in CLIENTS_OF_TESTS if part in name)
    )


def check_langchain(suite: Suite, home: Path) -> Iterator[Check]:
    for tools in ("on", "off"):
        report = home / f"langchain-{tools}.xml"
        loops = [f"-o asyncio_default_{what}_loop_scope=session" for what in ("test", "fixture")]
        options = f"-q -c /dev/null --asyncio-mode=auto -W ignore -p no:cacheprovider {' '.join(loops)}"
        command = (PYTHON, "-m", "pytest", *options.split(), "--confcutdir", HERE, f"--rootdir={HERE}")
        environment = access(suite, "langchain")
        run(*command, HERE / "standard_chat.py", f"--junitxml={report}", code=None, ALIGNX_TOOLS=tools, **environment)
        label = f"langchain-tests, tools {tools}"
        yield from read_junit(report, lambda _, label=label: label)  # type: ignore[misc]


def check_npm(suite: Suite, _: Path) -> Iterator[Check]:
    yield from read_lines(run("node", HOME / "npm" / "ask.mjs", **access(suite, "npm")))


def check_mcp(suite: Suite, _: Path) -> Iterator[Check]:
    program = HOME / "npm/node_modules/@modelcontextprotocol/conformance/dist/index.js"

    async def visit() -> Iterator[Check]:
        async with proxy_with_key(suite.url, suite.new_key("mcp")) as url:
            command = ("node", program, "server", "--url", f"{url}/mcp", "--scenario")
            return iter([await judge(name, command) for name in MCP_SCENARIOS])

    async def judge(name: str, command: Sequence[str | Path]) -> Check:
        why = ""
        try:
            await asyncio.to_thread(run, *command, name)
        except AssertionError as error:
            why = str(error)[:300]
        return Check("@modelcontextprotocol/conformance", name, why)

    yield from asyncio.run(visit())


def check_generated(suite: Suite, home: Path) -> Iterator[Check]:
    """A client that openapi-python-client makes of the document."""
    options = ("--config", HERE / "generator.yml", "--output-path", home / "generated", "--meta", "none")
    said = run(PYTHON.parent / "openapi-python-client", "generate", "--url", f"{suite.url}/openapi.json", *options)
    left_out = re.findall(r"WARNING parsing (.*?)\. Endpoint", said)
    yield Check("openapi-python-client", "every operation is generated", ", ".join(left_out))
    program = HERE / "use_generated.py"
    yield from read_lines(run(PYTHON, program, PYTHONPATH=str(home), **access(suite, "generated")))


def check_schemathesis(suite: Suite, home: Path) -> Iterator[Check]:
    key = suite.new_key("schemathesis", scopes=[*SCOPES])
    options = "--phases examples,coverage --continue-on-failure --generation-deterministic --no-color --report junit"
    command = (PYTHON.parent / "schemathesis", "run", f"{suite.url}/openapi.json", *options.split())
    run(*command, "--report-dir", home, "-H", f"Authorization: Bearer {key}", code=None, folder=home)
    reasons = tomllib.loads((HERE / "findings.toml").read_text())["reason"]
    for case in ET.parse(next(home.glob("junit*.xml"))).iter("testcase"):
        entries = [entry for entry in case if entry.tag in ("failure", "error")]
        findings = [found for entry in entries for found in split_findings(entry.text or entry.get("message") or "?")]
        unexplained = [finding for finding in findings if explain(finding, reasons) is None]
        notes = tuple(filter(None, (explain(finding, reasons) for finding in findings)))
        yield Check("schemathesis", case.get("name") or "", " ".join(" ".join(unexplained).split())[:500], notes=notes)


def split_findings(text: str) -> Iterator[str]:
    """Each finding: from its code to how it is reproduced; an error without codes is one."""
    for part in re.split(r"(?m)^- (?=ST\d)", text)[1:] or [text]:
        yield part.split("Reproduce with:")[0]


def explain(finding: str, reasons: Sequence[Mapping[str, str]]) -> str | None:
    known = (entry["why"] for entry in reasons if entry["code"] in finding and re.search(entry["text"], finding))
    return next(known, None)


PARTS: dict[str, Callable[[Suite, Path], Iterator[Check]]] = {
    "live": check_live,
    "langchain": check_langchain,
    "npm": check_npm,
    "mcp": check_mcp,
    "generated": check_generated,
    "schemathesis": check_schemathesis,
}


# --- the table ---------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Of each client, as installed."""
    listed = run(PYTHON, "-c", "from importlib.metadata import *\nfor d in distributions(): print(d.name, d.version)")
    found = dict(line.split() for line in listed.splitlines())
    npm = json.loads((HERE / "npm/package.json").read_text())["dependencies"]
    found |= {f"{name} (npm)" if name in found else name: version for name, version in npm.items()}
    return found | json.loads((ROOT / "clients/npm/package.json").read_text())["devDependencies"]


def render(checks: Sequence[Check]) -> str:
    known = versions()
    lines = ["| client | version | passed | what failed and why |", "|---|---|---|---|"]
    for client in dict.fromkeys(check.client for check in checks):
        own = [check for check in checks if check.client == client and not check.skipped]
        skipped = sum(check.client == client and check.skipped for check in checks)
        failed = [f"{check.name}: {check.why}".replace("|", "\\|") for check in own if check.why]
        passed = f"{len(own) - len(failed)} of {len(own)}" + (f" ({skipped} skipped)" if skipped else "")
        lines.append(f"| {client} | {known.get(client.split(',')[0], '')} | {passed} | {'; '.join(failed)} |")
    ran = [check for check in checks if not check.skipped]
    lines.append(f"| all | | {sum(not check.why for check in ran)} of {len(ran)} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="these parts alone; writes no page")
    chosen = parser.parse_args().only
    install()
    checks: list[Check] = []
    with TemporaryDirectory() as folder, talking(Path(folder)) as suite:
        for part in chosen or PARTS:
            found = list(PARTS[part](suite, Path(folder)))
            assert found, f"{part} has checked nothing"
            checks += found
    table = render(checks)
    sys.stdout.write(table + "\n")
    if not chosen:
        stays = {(note, check.name) for check in checks for note in check.notes}
        reasons = "".join(
            f"  - {why} ({', '.join(f'`{name}`' for note, name in sorted(stays) if note == why)})\n"
            for why in sorted({why for why, _ in stays})
        )
        PAGE.write_text(f"# Conformance: today's clients, unchanged\n\n{table}\n\n{NOTES}{reasons}")
    sys.exit(any(check.why and not check.skipped for check in checks))


if __name__ == "__main__":
    main()
