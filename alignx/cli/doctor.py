"""`alignx doctor`: what is wrong with a deployment, and what to do about it.

It reads /readyz and /v1/models alone, so it sees what any client sees, and with an admin key the engine's own words.
"""

import dataclasses
from dataclasses import dataclass

import typer
from pydantic import TypeAdapter

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal
from alignx.client.client import AlignX
from alignx.client.errors import ClientError
from alignx.client.transport import DEFAULT_URL
from alignx.schemas.status import EngineState, Readiness

app = typer.Typer(cls=ProblemGroup)

_ADVICE = {
    "redis": "Start Redis, or correct ALIGNX_REDIS__URL; see its log for full disks and memory.",
    "preference": "Start the preference service; its /readyz on port 8101 says what it waits for.",
    "response": "Start the response service; its /readyz on port 8102 says what it waits for.",
    "drain": "Wait: this instance is shutting down.",
}
_ENGINE_ADVICE = (
    "Correct what the message names: ALIGNX_ENGINE__URL, __MODEL, __API_KEY, or the engine's own options. Until then "
    "the profile answers and events wait; none is lost."
)

_NO_ENGINE = "There is none, or no service that knows it: the profile answers."


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    part: str
    state: str
    """"ok" or what is wrong."""
    advice: str = ""


FINDINGS = TypeAdapter(list[Finding])


@app.command()
def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Shows what is wrong and what to do about it; exits with 1 if something is.

    Example:

        alignx doctor
    """
    terminal: Terminal = ctx.obj
    try:
        with _client(terminal) as client:
            findings = [*examine_readiness(client.ready()), _examine_key(terminal)]
    except ClientError as error:
        findings = [Finding("gateway", str(error), f"Start it (make up), or set ALIGNX_URL; default: {DEFAULT_URL}.")]
    if as_json:
        typer.echo(FINDINGS.dump_json(findings, indent=2))
    else:
        terminal.out.print(display.findings(dataclasses.astuple(finding) for finding in findings))
    if any(finding.state != "ok" for finding in findings if finding.part != "engine record"):
        raise typer.Exit(1)


def _client(terminal: Terminal) -> AlignX:
    """With an admin key, if there is one: it is shown what the engine says itself."""
    try:
        return terminal.client("admin")
    except typer.BadParameter:
        return terminal.client("anonymous")


def examine_readiness(ready: Readiness) -> list[Finding]:
    """A line for each check of the gateway's, and two for the engine."""
    checks = [
        Finding(name, state, "" if state == "ok" else _ADVICE.get(name, "")) for name, state in ready.checks.items()
    ]
    gateway = Finding("gateway", "ok" if ready.status == "ready" else "not ready")
    engine = _examine_engine(ready.engine) if ready.engine else [Finding("engine", "ok", _NO_ENGINE)]
    return [gateway, *checks, *engine]


def _examine_engine(engine: EngineState) -> list[Finding]:
    chooses = f"by {engine.protocol}"
    if engine.protocol == "letters" and not engine.letters:
        chooses = "by the profile alone (the engine reports no log-probabilities)"
    if measured := [f"{name} {share:.0%}" for name, share in engine.accuracies.items()]:
        chooses += f" (of the shipped pairs: {', '.join(measured)})"
    record = (
        f"model {engine.model or 'not known yet'}; dialect {engine.dialect}; window {engine.context_tokens} tokens; "
        f"chooses {chooses}"
    )
    if engine.state == "degraded" and engine.checked_at is None:
        record = f"not known yet; window {engine.context_tokens} tokens"
    known = Finding("engine record", record, f"It refused: {engine.words}" if engine.words else "")
    if engine.state == "ok":
        return [Finding("engine", "ok", engine.detail or ""), known]
    return [Finding("engine", f"degraded: {engine.detail}", _ENGINE_ADVICE), known]


def _examine_key(terminal: Terminal) -> Finding:
    try:
        with terminal.client() as client:
            client.models()
    except typer.BadParameter as error:
        return Finding(
            "key and models", error.message, "Set ALIGNX_API_KEY, or ALIGNX_KEY_FILE to a file that holds a key."
        )
    except ClientError as error:
        return Finding("key and models", str(error), "Check the key with an admin, and the engine's list of models.")
    return Finding("key and models", "ok")
